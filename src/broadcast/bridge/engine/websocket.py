"""A WebSocket: `websockets` reads and writes its frames, and what is written goes straight to the transport.

The server's door makes one for each request to upgrade, and hands it the request. No task, no queue, no coroutine for a
client; nor a frame reader for one that says nothing: that is taken from a pool when something comes, and goes back
there when all of it has been read.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, State
from websockets.server import ServerProtocol

from broadcast.bridge.engine.allowance import Allowance

__all__ = ["Door", "Owner", "WebSocket"]

WRITE_BYTES_MAX: Final = 256 * 1024
NOTSENT_BYTES_MAX: Final = 128 * 1024
"""What the kernel may hold for a client before it says that it is full; the rest waits where we can see it."""
CLOSE_TIMEOUT_S: Final = 5.0
FRAGMENTS_MAX: Final = 256
"""Of one message: its size is bounded, but empty fragments add nothing to that."""
INTAKE_BYTES: Final = 2048
"""So much of what a client sends is looked at at once: some hundred tiny frames."""
FRAME_BYTES: Final = 64
"""What a frame counts besides its bytes: the smallest ones cost us as much as others do."""
READERS_MAX: Final = 64
FAULTS: Final[dict[int, str]] = {
    CloseCode.MESSAGE_TOO_BIG: "payload too large",
    CloseCode.PROTOCOL_ERROR: "parse error",
    CloseCode.INVALID_DATA: "parse error",
}


class Owner(Protocol):
    """Whom a WebSocket belongs to once it is open."""

    def received(self, data: str | bytes, *, is_probe: bool = False) -> None:
        """A message has come."""
        ...

    def full(self) -> None:
        """The transport takes no more for now."""
        ...

    def make_room(self) -> None:
        """The transport takes more."""
        ...


class Door(Protocol):
    """Who decides about a WebSocket that wants in."""

    message_bytes_max: int
    intake_bytes_per_s: float
    intake_bytes_burst: float
    readers: list[ServerProtocol]
    """Frame readers that nobody needs just now."""

    def knocked(self, socket: WebSocket, target: str, headers: Mapping[str, str]) -> None:
        """A request to upgrade has come: call `accept` or `reject`.

        Args:
            socket: what it would become.
            target: its path and query as they came.
            headers: names in lower case; of a name that came more than once, all values between commas.
        """
        ...

    def lost(self, socket: WebSocket) -> None:
        """Its connection is gone."""
        ...


class WebSocket(asyncio.Protocol):
    """One WebSocket.

    Args:
        door: decides about it.
        server_state: uvicorn's own list of connections; what it does at its end needs it.
    """

    __slots__ = (
        "_backlog",
        "_closing",
        "_connections",
        "_corked",
        "_door",
        "_fragments",
        "_intake",
        "_is_reading",
        "_is_text",
        "_owed",
        "_pace",
        "_protocol",
        "_request",
        "is_full",
        "is_probe",
        "on_lost",
        "owner",
        "transport",
    )

    def __init__(self, door: Door, *, server_state: Any, **_: Any) -> None:
        self.owner: Owner | None = None
        self.is_probe = False
        self.is_full = False
        self.transport: Any = None
        self.on_lost: Callable[[], None] | None = None
        """Called when its connection is gone."""
        self._door = door
        self._connections: set[Any] = server_state.connections
        self._protocol: ServerProtocol | None = None
        """None while there is nothing to read, and nothing to say but messages."""
        self._owed = 0
        """Bytes that were read and are not yet part of a whole frame."""
        self._request: Request | None = None
        self._fragments: list[bytes] | None = None
        self._is_text = True
        self._closing: asyncio.TimerHandle | None = None
        self._intake: Allowance | None = None
        self._backlog: bytearray | None = None
        self._pace: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._corked: list[bytes] | None = None
        """What is written while something of the client is handled: it goes out in one piece, by one system call."""

    # --- what the server calls

    def upgrade(self, transport: Any, method: str, path: str, headers: list[tuple[str, str]]) -> None:
        """Take over a connection on which a request to upgrade has come.

        Args:
            transport: the connection.
            method: the request's.
            path: its target.
            headers: as they came.
        """
        self.connection_made(transport)
        self._request = Request(path, Headers(headers), method)
        self._protocol = ServerProtocol(max_size=self._door.message_bytes_max)
        self._cork()
        self._door.knocked(self, path, _joined(headers))
        self._uncork()

    def shutdown(self) -> None:
        """uvicorn is at its end."""
        self.close(CloseCode.SERVICE_RESTART)

    # --- what the door and the owner call

    @property
    def address(self) -> str:
        """Where it came from."""
        peer: Any = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def accept(self) -> bool:
        """Let it in; False if its request was none that WebSockets begin with."""
        protocol, request = self._protocol, self._request
        assert protocol is not None and request is not None
        self._request = None
        protocol.send_response(protocol.accept(request))
        self._flush(protocol)
        if protocol.state is not State.OPEN:
            return False
        self._protocol = None  # it has read nothing: it would wait for the request
        return True

    def reject(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Send it away with an HTTP status."""
        assert self._protocol is not None
        self._request = None
        response = self._protocol.reject(status, text)
        response.headers.update(headers or {})
        self._protocol.send_response(response)
        self._flush(self._protocol)

    def write(self, data: str | bytes) -> None:
        """Write one message."""
        if isinstance(data, str):
            self.write_frame(Frame(Opcode.TEXT, data.encode()).serialize(mask=False))
        else:
            self.write_frame(Frame(Opcode.BINARY, data).serialize(mask=False))

    def write_frame(self, frame: bytes) -> None:
        """Write messages that are framed already; the same bytes may go to many."""
        if self._protocol is not None and self._protocol.state is not OPEN:
            return
        if self._corked is None:
            self.transport.write(frame)
        else:
            self._corked.append(frame)

    @property
    def waiting_bytes(self) -> int:
        """What waits to be written."""
        return self.transport.get_write_buffer_size()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """End it behind what was written, and cut it if the other side does not follow."""
        protocol = self._reader()
        if protocol.state is State.OPEN:
            protocol.send_close(code)
            self._flush(protocol)
        self._closing = self._closing or asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Cut it."""
        self.transport.abort()

    @property
    def fault(self) -> str:
        """What of the client's has ended it, as sessions word it; empty if nothing has."""
        protocol = self._protocol
        sent = None if protocol is None or protocol.close_rcvd_then_sent else protocol.close_sent
        return "" if sent is None else FAULTS.get(sent.code, "")

    # --- what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """Take over the connection."""
        self.transport = transport
        self._connections.add(self)
        transport.set_write_buffer_limits(high=WRITE_BYTES_MAX, low=WRITE_BYTES_MAX // 4)
        connection: sockets.socket | None = transport.get_extra_info("socket")
        if connection is not None and hasattr(sockets, "TCP_NOTSENT_LOWAT"):
            connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, NOTSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: looked at a few at once, and no faster than it may send them."""
        if self._pace is not None or len(data) > INTAKE_BYTES:
            self._backlog = (self._backlog or bytearray()) + data
        if self._pace is None:
            self._take_in(data if self._backlog is None else b"")

    def eof_received(self) -> None:
        """The client says no more."""
        protocol = self._reader()
        protocol.receive_eof()
        self._handle_events(protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._connections.discard(self)
        for timer in (self._closing, self._pace):
            if timer is not None:
                timer.cancel()
        self._door.lost(self)
        # What holds each other is taken apart: thousands that have come and gone would wait for the cycle collector.
        if self._protocol is not None:
            self._protocol.parser.close()
        self.owner = None
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """The client does not take what it is sent: nor is anything more taken from it."""
        self.is_full = True
        self._read_or_not()
        if self.owner is not None:
            self.owner.full()

    def resume_writing(self) -> None:
        """It takes something again."""
        self.is_full = False
        self._read_or_not()
        if self.owner is not None:
            self.owner.make_room()

    # --- how it is done

    def _cork(self) -> None:
        self._corked = []

    def _uncork(self) -> None:
        corked, self._corked = self._corked, None
        if corked and not self.transport.is_closing():
            self.transport.write(b"".join(corked))

    def _take_in(self, data: bytes = b"") -> None:
        self._pace = None
        if self._backlog is not None:
            data, rest = bytes(self._backlog[:INTAKE_BYTES]), self._backlog[INTAKE_BYTES:]
            self._backlog = rest or None
        loop, door = asyncio.get_running_loop(), self._door
        if self._intake is None:
            self._intake = Allowance(rate=door.intake_bytes_per_s, burst=door.intake_bytes_burst)
        protocol = self._reader()
        self._owed += len(data)
        self._cork()
        protocol.receive_data(data)
        frames = self._handle_events(protocol)
        self._uncork()
        wait_s = self._intake.take(len(data) + frames * FRAME_BYTES, loop.time())
        if self.transport.is_closing():
            self._backlog = None
        elif self._backlog is not None or wait_s:
            self._pace = loop.call_later(wait_s, self._take_in)
        self._read_or_not()

    def _read_or_not(self) -> None:
        wants_more = not self.is_full and self._pace is None
        if wants_more is not self._is_reading and not self.transport.is_closing():
            self._is_reading = wants_more
            (self.transport.resume_reading if wants_more else self.transport.pause_reading)()

    def _reader(self) -> ServerProtocol:
        if self._protocol is None:
            readers = self._door.readers
            made = readers.pop() if readers else ServerProtocol(max_size=self._door.message_bytes_max, state=OPEN)
            self._protocol = made
        return self._protocol

    def _handle_events(self, protocol: ServerProtocol) -> int:
        """What has come; how many frames that were."""
        frames = protocol.events_received()
        for frame in frames:
            assert isinstance(frame, Frame)
            self._owed -= _wire_bytes(frame)
            self._handle_frame(protocol, frame)
        self._flush(protocol)
        # Between two messages, it knows nothing of this client: the next one can have it.
        if not self._owed and self._fragments is None and protocol.state is OPEN:
            self._protocol = None
            if len(self._door.readers) < READERS_MAX:
                self._door.readers.append(protocol)
        return len(frames)

    def _handle_frame(self, protocol: ServerProtocol, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # pings and closes the protocol has answered by itself
        if frame.opcode is not Opcode.CONT:
            self._is_text, self._fragments = frame.opcode is Opcode.TEXT, []
        fragments = self._fragments = self._fragments or []
        fragments.append(bytes(frame.data))
        if len(fragments) > FRAGMENTS_MAX:
            self._fragments = None
            protocol.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {FRAGMENTS_MAX} fragments")
            return
        if not frame.fin:
            return
        raw, self._fragments = b"".join(fragments), None
        try:
            data = raw.decode() if self._is_text else raw
        except UnicodeDecodeError:
            protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8")
            return
        if self.owner is not None and protocol.state is State.OPEN:
            self.owner.received(data, is_probe=self.is_probe)

    def _flush(self, protocol: ServerProtocol) -> None:
        for data in protocol.data_to_send():
            if data and self._corked is not None:
                self._corked.append(data)
            elif data:
                self.transport.write(data)
            else:  # the protocol has nothing more to say
                self._uncork()
                self.transport.close()
        if protocol.close_expected() and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)


def _joined(lines: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line, value in lines:
        name = line.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _wire_bytes(frame: Frame) -> int:
    """What a client's frame takes on the wire, with its length in the shortest form and its mask."""
    size = len(frame.data)
    return size + 6 + (0 if size < 126 else 2 if size < 65536 else 8)
