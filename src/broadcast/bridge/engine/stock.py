"""python-socketio behind a narrow door: connections in, frames out, bounded.

What it does not do by itself is done here: an acknowledgement goes out in the viewer's own order, what waits for one
client is bounded, a client that must go hears why, and no client can leave something behind that waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, cast

import socketio  # pyright: ignore[reportMissingTypeStubs]
from engineio import packet as engine_packet  # pyright: ignore[reportMissingTypeStubs]
from engineio import payload as engine_payload  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["Engine", "Handlers", "SocketConnection"]

PING_INTERVAL_S: Final = 25
PING_TIMEOUT_S: Final = 20
MESSAGE_BYTES_MAX: Final = 16 * 1024
# python-socketio's client refuses a polling payload of more than 16 packets, and our pings go along.
POLLING_PACKETS_MAX: Final = 12
WEBSOCKET_PACKETS_MAX: Final = 256
WAITING_CHARS_MAX: Final = 256 * 1024
# Beyond what viewers write: only answers of the protocol itself, to a client that asks and does not read.
QUEUE_PACKETS_MAX: Final = 1024
ATTACHMENTS_MAX: Final = 8
ROOM_LOOK_S: Final = 0.005
LINGER_S: Final = 5.0

# A browser that was away sends all that it has to say in one payload; its bytes are bounded, not its packets.
engine_payload.Payload.max_decode_packets = MESSAGE_BYTES_MAX

Answer = Callable[[str], Awaitable[None]]


class Handlers(Protocol):
    """What the bridge does about its sockets."""

    async def connected(self, connection: SocketConnection, auth: object, headers: Mapping[str, str]) -> None:
        """A viewer has connected; its CONNECT packet is on its way."""
        ...

    async def requested(self, connection: SocketConnection, name: object, data: object, answer: Answer | None) -> None:
        """A viewer has sent an event."""
        ...

    async def disconnected(self, connection: SocketConnection, reason: str) -> None:
        """A viewer is gone."""
        ...


class SocketConnection:
    """One Socket.IO client in the default namespace."""

    def __init__(self, server: _Server, engine_sid: str) -> None:
        self.id = engine_sid
        self._server = server
        self._waiting_chars = 0

    @property
    def _socket(self) -> Any:
        return self._server.eio.sockets.get(self.id)

    async def send(self, name: str, payload: str, *, event_id: str | None = None) -> None:
        """Write one event; `payload` is JSON, framed once for whoever it goes to."""
        del event_id  # Socket.IO's own recovery would use it; it comes with the engine of our own
        await self._write(f'2["{name}",{payload}]')

    async def _write(self, text: str) -> None:
        socket = self._socket
        if socket is not None and not socket.closed:
            # The writer takes all that waits at once, so an empty queue is the moment to count anew.
            self._waiting_chars = (self._waiting_chars if socket.queue.qsize() else 0) + len(text)
            await socket.send(engine_packet.Packet(engine_packet.MESSAGE, data=text))

    async def acknowledge(self, ack_id: int, payload: str) -> None:
        """Answer one request."""
        await self._write(f"3{ack_id}[{payload}]")

    async def wait_for_room(self, patience_s: float) -> bool:
        """Wait while too many packets wait for this client; False if it took none for so long."""
        loop = asyncio.get_running_loop()
        fewest, deadline_s = None, 0.0
        while (socket := self._socket) is not None and not socket.closed:
            waiting = socket.queue.qsize()
            packets_max = WEBSOCKET_PACKETS_MAX if socket.upgraded else POLLING_PACKETS_MAX
            if not waiting or (waiting < packets_max and self._waiting_chars < WAITING_CHARS_MAX):
                return True
            if fewest is None or waiting < fewest:
                fewest, deadline_s = waiting, loop.time() + patience_s
            elif loop.time() > deadline_s:
                return False
            await asyncio.sleep(ROOM_LOOK_S)
        return True

    async def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the connection, behind what was sent unless `abort`."""
        socket = self._socket
        if socket is None or socket.closed:
            return
        if abort:
            await socket.close(wait=False, abort=True)
            socket.queue.put_nowait(None)  # ends a poll that waits, and the writer of a WebSocket
            return
        if not may_return:
            await self._write("1")  # Socket.IO DISCONNECT: stock clients do not come back after it
        # Over polling, a session that is closed forgets what it has not yet delivered.
        deadline_s = asyncio.get_running_loop().time() + LINGER_S
        while not (socket.upgraded or socket.closed) and socket.queue.qsize():
            if asyncio.get_running_loop().time() > deadline_s:
                break
            await asyncio.sleep(ROOM_LOOK_S)
        if socket.upgraded:
            socket.queue.put_nowait(None)  # the writer closes the WebSocket when it comes to this
        else:
            await socket.close(wait=False)


class Engine:
    """The sockets of the bridge.

    Args:
        handlers: what to do about them.
    """

    def __init__(self, handlers: Handlers) -> None:
        logger = logging.getLogger("broadcast.engine")
        self._server = _Server(
            handlers,
            async_mode="asgi",
            always_connect=True,  # CONNECT goes out before anything that we send
            cors_allowed_origins=[],  # Host and Origin are checked in one place for every route, not here
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            max_http_buffer_size=MESSAGE_BYTES_MAX,
            logger=logger,
            engineio_logger=logger,
        )
        self._app: Any = cast("Any", socketio).ASGIApp(self._server, socketio_path="socket.io")

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))
        engine_sid = query.get("sid", [""])[0]
        if scope["type"] == "http" and scope["method"] == "GET" and engine_sid:
            await self._poll(engine_sid, scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            socket = self._server.eio.sockets.get(engine_sid)
            # A probe that breaks off would leave the session upgrading for ever, and its polls empty.
            if scope["type"] == "websocket" and socket is not None and not socket.upgraded:
                socket.upgrading = False

    async def _poll(self, engine_sid: str, scope: Any, receive: Any, send: Any) -> None:
        """One long poll. If its connection is lost, so are the packets it was to carry: that ends the session."""
        request = await receive()

        async def received() -> Any:
            return request

        poll = asyncio.ensure_future(self._app(scope, received, send))
        lost = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({poll, lost}, return_when=asyncio.FIRST_COMPLETED)
            socket = self._server.eio.sockets.get(engine_sid)
            if not poll.done() and socket is not None and not socket.closed and not socket.upgraded:
                await socket.close(wait=False, abort=True, reason=self._server.reason.TRANSPORT_ERROR)
            await poll
        finally:
            poll.cancel()
            lost.cancel()

    async def shutdown(self) -> None:
        """Stop its background task, and leave whoever is still there."""
        for socket in list(self._server.eio.sockets.values()):
            await socket.close(wait=False, abort=True)
            socket.queue.put_nowait(None)
        await self._server.shutdown()


class _Queue(asyncio.Queue[Any]):
    """What waits for one client; bounded, and nobody waits for it to be empty."""

    async def put(self, item: Any) -> None:
        if item is None or self.qsize() < QUEUE_PACKETS_MAX:
            self.put_nowait(item)

    async def join(self) -> None:
        """python-engineio would wait here, for ever, for a client that does not come to fetch its last packets."""


class _Server(cast("type[Any]", socketio.AsyncServer)):
    """python-socketio with its event dispatch taken over: requests go to the bridge with their ack id."""

    def __init__(self, handlers: Handlers, **options: Any) -> None:
        parent: Any = super()
        parent.__init__(**options)
        self.eio.create_queue = _Queue
        self._handlers = handlers
        self._connections: dict[str, SocketConnection] = {}
        self.on("connect", self._on_connect)
        self.on("disconnect", self._on_disconnect)

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        engine_sid = self.manager.eio_sid_from_sid(sid, "/")
        connection = self._connections[engine_sid] = SocketConnection(self, engine_sid)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in environ["asgi.scope"]["headers"]}
        await self._handlers.connected(connection, auth, headers)

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        connection = self._connections.pop(self.manager.eio_sid_from_sid(sid, "/"), None)
        if connection is not None:
            await self._handlers.disconnected(connection, reason)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        parent: Any = super()
        await parent._handle_eio_disconnect(eio_sid, reason)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and not socket.upgraded:
            socket.queue.put_nowait(engine_packet.Packet(engine_packet.NOOP))  # ends a poll that waits

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        parent: Any = super()
        await parent._handle_eio_message(eio_sid, data)
        announced = self._binary_packet.get(eio_sid)
        if announced is not None and announced.attachment_count > ATTACHMENTS_MAX:
            del self._binary_packet[eio_sid]
            await self.eio.disconnect(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        connection = self._connections.get(eio_sid)
        if connection is None or not isinstance(data, list) or not data:
            return

        async def answer(payload: str) -> None:
            assert id is not None
            await connection.acknowledge(id, payload)

        arguments = cast("list[object]", data)
        first = arguments[1] if len(arguments) > 1 else None
        await self._handlers.requested(connection, arguments[0], first, None if id is None else answer)
