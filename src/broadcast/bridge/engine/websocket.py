"""The door for WebSockets: uvicorn hands over the connection, `websockets` reads and writes its frames.

uvicorn makes one `WebSocket` for each request to upgrade (its hook for protocol classes), and hands it the request. No
task, no queue, no coroutine for a client: what is written goes straight to the transport.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from broadcast.bridge.engine.allowance import Allowance

__all__ = ["Door", "Owner", "WebSocket"]

WRITE_BYTES_MAX: Final = 256 * 1024
FRAGMENTS_MAX: Final = 256
"""Of one message: its size is bounded, but empty fragments add nothing to that."""
INTAKE_BYTES: Final = 2048
"""So much of what a client sends is looked at at once: some hundred tiny frames."""
FRAME_BYTES: Final = 64
"""What a frame counts besides its bytes: the smallest ones cost us as much as others do."""
NOTSENT_BYTES_MAX: Final = 128 * 1024
"""What the kernel may hold for a client before it says that it is full; the rest waits where we can see it."""
CLOSE_TIMEOUT_S: Final = 5.0


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

    def knocked(self, socket: WebSocket, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """A request to upgrade has come: call `accept` or `reject`."""
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

    def __init__(self, door: Door, *, server_state: Any, **_: Any) -> None:
        self.owner: Owner | None = None
        self.is_probe = False
        self.is_full = False
        self.transport: Any = None
        self.on_lost: Callable[[], None] | None = None
        """Called when its connection is gone."""
        self._door = door
        self._connections: set[Any] = server_state.connections
        self._protocol = ServerProtocol(max_size=door.message_bytes_max)
        self._request: Request | None = None
        self._fragments: list[bytes] = []
        self._is_text = True
        self._closing: asyncio.TimerHandle | None = None
        self._intake: Allowance | None = None
        self._backlog = bytearray()
        self._pace: asyncio.TimerHandle | None = None
        self._is_reading = True

    # --- what the door and the owner call

    @property
    def address(self) -> str:
        """Where it came from."""
        peer: Any = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def accept(self) -> bool:
        """Let it in; False if its request was none that WebSockets begin with."""
        assert self._request is not None
        self._protocol.send_response(self._protocol.accept(self._request))
        self._flush()
        return self._protocol.state is State.OPEN

    def reject(self, status: int, text: str) -> None:
        """Send it away with an HTTP status."""
        self._protocol.send_response(self._protocol.reject(status, text))
        self._flush()

    def write(self, data: str | bytes) -> None:
        """Write one message."""
        if isinstance(data, str):
            self.write_frame(Frame(Opcode.TEXT, data.encode()).serialize(mask=False))
        else:
            self.write_frame(Frame(Opcode.BINARY, data).serialize(mask=False))

    def write_frame(self, frame: bytes) -> None:
        """Write a message that is framed already; the same bytes may go to many."""
        if self._protocol.state is State.OPEN:
            self.transport.write(frame)

    @property
    def waiting_bytes(self) -> int:
        """What waits to be written."""
        return self.transport.get_write_buffer_size()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """End it behind what was written, and cut it if the other side does not follow."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush()
        self._closing = self._closing or asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Cut it."""
        self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn is at its end."""
        self.close(CloseCode.SERVICE_RESTART)

    # --- what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """Take over the connection from uvicorn's HTTP."""
        self.transport = transport
        self._connections.add(self)
        transport.set_write_buffer_limits(high=WRITE_BYTES_MAX, low=WRITE_BYTES_MAX // 4)
        connection: sockets.socket | None = transport.get_extra_info("socket")
        if connection is not None and hasattr(sockets, "TCP_NOTSENT_LOWAT"):
            connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, NOTSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: looked at a few at once, and no faster than it may send them."""
        self._backlog += data
        if self._pace is None:
            self._take_in()

    def _take_in(self) -> None:
        self._pace = None
        data = bytes(self._backlog[:INTAKE_BYTES])
        del self._backlog[:INTAKE_BYTES]
        loop, door = asyncio.get_running_loop(), self._door
        if self._intake is None:
            self._intake = Allowance(rate=door.intake_bytes_per_s, burst=door.intake_bytes_burst)
        self._protocol.receive_data(data)
        frames = self._handle_events()
        wait_s = self._intake.take(len(data) + frames * FRAME_BYTES, loop.time())
        if self.transport.is_closing():
            self._backlog.clear()
        elif self._backlog or wait_s:
            self._pace = loop.call_later(wait_s, self._take_in)
        self._read_or_not()

    def _read_or_not(self) -> None:
        wants_more = not self.is_full and self._pace is None
        if wants_more is not self._is_reading and not self.transport.is_closing():
            self._is_reading = wants_more
            (self.transport.resume_reading if wants_more else self.transport.pause_reading)()

    def eof_received(self) -> None:
        """The client says no more."""
        self._protocol.receive_eof()
        self._handle_events()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._connections.discard(self)
        for timer in (self._closing, self._pace):
            if timer is not None:
                timer.cancel()
        self._door.lost(self)
        # What holds each other is taken apart: thousands that have come and gone would wait for the cycle collector.
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

    def _handle_events(self) -> int:
        events = self._protocol.events_received()
        for event in events:
            if isinstance(event, Request):
                self._request = event
                self._knock(event)
            else:
                self._handle_frame(event)  # pyright: ignore[reportArgumentType] - a server receives nothing else
        self._flush()
        return len(events)

    def _knock(self, request: Request) -> None:
        address = urlsplit(request.path)
        query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        self._door.knocked(self, address.path, query, headers)

    def _handle_frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # pings and closes the protocol has answered by itself
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if len(self._fragments) > FRAGMENTS_MAX:
            self._fragments.clear()
            self._protocol.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {FRAGMENTS_MAX} fragments")
            return
        if not frame.fin:
            return
        raw, self._fragments = b"".join(self._fragments), []
        try:
            data = raw.decode() if self._is_text else raw
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8")
            return
        if self.owner is not None and self._protocol.state is State.OPEN:
            self.owner.received(data, is_probe=self.is_probe)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:  # the protocol has nothing more to say
                self.transport.close()
        if self._protocol.close_expected() and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)
