"""Viewers by hand, one per transport, that read only when they are asked to: who asks for nothing more has stalled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

__all__ = ["HANDSHAKE", "TRANSPORTS", "RawViewer", "raw_viewer"]

TRANSPORTS: Final = ("websocket", "polling", "sse")
HANDSHAKE: Final = "/socket.io/?EIO=4&transport="
PATIENCE_S: Final = 30.0
NARROW_BYTES: Final = 8 * 1024
"""What the kernel takes for a viewer that is to be stalled; else it takes megabytes."""


class RawViewer:
    """What all of them have in common.

    Args:
        url: the bridge's.
        is_narrow: whether little gets stuck between the bridge and it.
        auth: the handshake's.
    """

    def __init__(self, url: str, *, is_narrow: bool = False, **auth: Any) -> None:
        self.url = url
        self.auth = auth
        self.had: list[tuple[str, Any]] = []
        """All that was read, in its order."""
        self._held: aiohttp.ClientResponse | None = None
        self._ready: deque[tuple[str, Any]] = deque()
        make: Callable[[Any], socket.socket] | None = _narrow_socket if is_narrow else None
        self._connector = aiohttp.TCPConnector(socket_factory=make, limit=0)
        self._session = aiohttp.ClientSession(connector=self._connector, timeout=aiohttp.ClientTimeout(total=None))
        # A request that was cut is to fail, not to be sent again unseen.
        self._session._retry_connection = False

    async def __aenter__(self) -> RawViewer:
        try:
            await self._connect()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()
        await self._session.close()

    async def _connect(self) -> None:
        raise NotImplementedError

    async def _fetch(self) -> bool:
        """Read a little more; False at the end."""
        raise NotImplementedError

    async def send(self, text: str) -> None:
        """Send one Engine.IO packet."""
        raise NotImplementedError

    async def request(self, name: str, data: object, ack_id: int = 0) -> None:
        await self.send(f"42{ack_id}{json.dumps([name, data])}")

    async def next(self) -> tuple[str, Any] | None:
        """The next thing that it is told; None at the end."""
        while not self._ready:
            if not await self._fetch():
                return None
        self.had.append(self._ready.popleft())
        return self.had[-1]

    async def until(self, name: str, count: int = 1) -> Any:
        """Read until there have been so many of a kind; the last of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.all(name)) < count:
                assert await self.next() is not None, f"it ended; had {str(self.had[-10:])[:2000]}"
        return self.all(name)[count - 1]

    async def until_event(self, i: int) -> None:
        """Read until the event that carries this number."""
        async with asyncio.timeout(PATIENCE_S):
            while not (self.events and self.events[-1]["data"].get("i") == i):
                assert await self.next() is not None, f"it ended; had {str(self.had[-10:])[:2000]}"

    async def until_end(self) -> None:
        """Read until the bridge has ended it."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                while await self.next() is not None:
                    pass

    def all(self, name: str) -> list[Any]:
        return [data for kind, data in self.had if kind == name]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.all("event")

    def abort(self) -> None:
        """Cut all its connections, without a word."""
        for transport in self._transports():
            transport.abort()

    def ports(self) -> set[int]:
        """Its own ports of the connections that are in use."""
        return {transport.get_extra_info("sockname")[1] for transport in self._transports()}

    def _transports(self) -> list[asyncio.Transport]:
        return [protocol.transport for protocol in self._connector._acquired if protocol.transport is not None]

    def _take_message(self, text: str) -> None:
        """One Socket.IO message, without the Engine.IO digit."""
        if text.startswith("2["):
            name, data = json.loads(text[1:])[:2]
            self._ready.append((name, data))
        elif text.startswith("3"):
            number, _, rest = text[1:].partition("[")
            self._ready.append(("ack", (int(number), json.loads(f"[{rest}")[0])))
        elif text.startswith("0"):
            self._ready.append(("connect", json.loads(text[1:])))
        elif text.startswith("1"):
            self._ready.append(("disconnect", None))


class _OverWebSocket(RawViewer):
    async def _connect(self) -> None:
        self._socket = await self._session.ws_connect(
            f"{self.url.replace('http', 'ws')}{HANDSHAKE}websocket", max_msg_size=0
        )
        self._held = self._socket._response
        await self.send(f"40{json.dumps(self.auth)}")

    async def _fetch(self) -> bool:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return False
        if message.data == "2":
            await self.send("3")
        elif message.data.startswith("4"):
            self._take_message(message.data[1:])
        return True

    async def send(self, text: str) -> None:
        await self._socket.send_str(text)


class _Upgraded(_OverWebSocket):
    """Polling first, then WebSocket."""

    async def _connect(self) -> None:
        async with self._session.get(f"{self.url}{HANDSHAKE}polling") as response:
            response.raise_for_status()
            sid = json.loads((await response.text())[1:])["sid"]
        async with self._session.post(
            f"{self.url}{HANDSHAKE}polling&sid={sid}", data=f"40{json.dumps(self.auth)}".encode()
        ) as response:
            await response.read()
        self._socket = await self._session.ws_connect(
            f"{self.url.replace('http', 'ws')}{HANDSHAKE}websocket&sid={sid}", max_msg_size=0
        )
        self._held = self._socket._response
        await self.send("2probe")
        if (await self._socket.receive()).data != "3probe":
            raise aiohttp.ClientConnectionError("the upgrade was refused")
        await self.send("5")


class _OverPolling(RawViewer):
    async def _connect(self) -> None:
        self._address = f"{self.url}{HANDSHAKE}polling"
        async with self._session.get(self._address) as response:
            response.raise_for_status()
            opening = await response.text()
        self._address += f"&sid={json.loads(opening[1:])['sid']}"
        await self.send(f"40{json.dumps(self.auth)}")

    async def _fetch(self) -> bool:
        async with self._session.get(self._address) as response:
            if response.status != 200:
                return False
            packets = (await response.text()).split("\x1e")
        for packet in packets:
            if packet == "2":
                await self.send("3")
            elif packet.startswith("4"):
                self._take_message(packet[1:])
        return "1" not in packets

    async def send(self, text: str) -> None:
        async with self._session.post(self._address, data=text.encode()) as response:
            await response.read()


class _OverSse(RawViewer):
    _rest = b""

    async def _connect(self) -> None:
        given = {name: f"{value['id']}" if isinstance(value, dict) else str(value) for name, value in self.auth.items()}
        # Small steps: what aiohttp has read ahead is not stalled.
        self._held = await self._session.get(f"{self.url}/events?{urlencode(given)}", read_bufsize=4096)
        self._held.raise_for_status()

    async def _fetch(self) -> bool:
        while b"\n\n" not in self._rest:
            assert self._held is not None
            if not (data := await self._held.content.readany()):
                return False
            self._rest += data
        *frames, self._rest = self._rest.split(b"\n\n")
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
            if "data" in fields:
                self._ready.append((fields.get("event", "event"), json.loads(fields["data"])))
        return True

    async def send(self, text: str) -> None:
        raise AssertionError(f"nothing can be said over this transport: {text}")


def raw_viewer(url: str, transport: str, *, is_narrow: bool = False, **auth: Any) -> RawViewer:
    """A viewer over `websocket`, `polling`, `sse`, or `upgrade` from polling to WebSocket."""
    kinds = {"websocket": _OverWebSocket, "polling": _OverPolling, "sse": _OverSse, "upgrade": _Upgraded}
    return kinds[transport](url, is_narrow=is_narrow, **auth)


def _narrow_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    return connection
