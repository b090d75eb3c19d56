"""One client of the engine: its session and namespaces, and the sockets and polls that carry them.

Everything that is written to a client goes through here, in one order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from broadcast.bridge.engine.namespaces import Connected, Disconnected, Namespaces, Refused, Sent
from broadcast.bridge.engine.packets import MESSAGE, SEPARATOR, EnginePacket, Kind, Packet, PacketError, encoded
from broadcast.bridge.engine.session import Session, Step

if TYPE_CHECKING:
    from broadcast.bridge.engine.allowance import Allowance
    from broadcast.bridge.engine.websocket import WebSocket

__all__ = ["Client", "Handlers", "Watcher"]

POLLING_PACKETS_MAX: Final = 64
POLLING_CHARS_MAX: Final = 256 * 1024
WAITING_PACKETS_MAX: Final = 4096
WAITING_CHARS_MAX: Final = 1024 * 1024
"""Whoever lets more wait for its poll, and goes on asking, is let go."""
REFUSED_MAX: Final = 16
"""So many namespaces that are not there a client may want into."""


class Handlers(Protocol):
    """What is done about the clients. None of these may wait."""

    def exists(self, namespace: str) -> bool:
        """Whether there is a namespace of this name."""
        ...

    def greeting(self, client: Client, auth: object) -> dict[str, str]:
        """What CONNECT tells a client besides its id."""
        ...

    def connected(self, client: Client, namespace: str, auth: object) -> None:
        """A client is in a namespace; its CONNECT has been written."""
        ...

    def requested(self, client: Client, event: Sent) -> None:
        """A client has sent an event."""
        ...

    def disconnected(self, client: Client, namespace: str, reason: str) -> None:
        """A client has left a namespace, or is gone."""
        ...


class Watcher(Protocol):
    """Who writes to a client, and has to know how it fares."""

    def rouse(self) -> None:
        """It is full."""
        ...

    def transport_changed(self) -> None:
        """It is reached by WebSocket from here on."""
        ...

    def pinged(self) -> None:
        """A ping has been written, behind all that was written before."""
        ...

    def ponged(self) -> None:
        """The last ping was answered."""
        ...


class Client:
    """One client.

    Args:
        session: its Engine.IO session.
        handlers: what is done about it.
        headers: those of the request that it came with, names in lower case.
        address: where it came from.
        now: the event loop's clock.
    """

    __slots__ = (
        "_handlers",
        "_namespaces",
        "_now",
        "_poll",
        "_poll_mark",
        "_pongs",
        "_refused",
        "_room",
        "address",
        "answered",
        "connect_due_s",
        "headers",
        "id",
        "intake",
        "is_posting",
        "on_closed",
        "probe",
        "recovers",
        "session",
        "socket",
        "watcher",
    )

    def __init__(
        self,
        session: Session,
        *,
        handlers: Handlers,
        headers: Mapping[str, str],
        address: str,
        now: Callable[[], float],
    ) -> None:
        self.id = session.sid
        self.session = session
        self.headers = headers
        self.address = address
        self.answered: tuple[str, str] | None = None
        """The last poll's mark and its answer, as long as it is polled."""
        self._poll: asyncio.Future[str | None] | None = None
        self._poll_mark = ""
        self.socket: WebSocket | None = None
        self.probe: WebSocket | None = None
        self.watcher: Watcher | None = None
        self.on_closed: Callable[[Client, str], None] | None = None
        """Called once, after everything else, when its session is over; with the reason."""
        self.recovers = False
        """Whether it keeps its place by itself: Socket.IO's connection state recovery."""
        self.intake: Allowance | None = None
        """What it may post; None before it has."""
        self.is_posting = False
        """Whether a post of it is being read, or its answer held back."""
        self._handlers = handlers
        self._namespaces = Namespaces(handlers)
        self._now = now
        self._pongs = 0
        self._refused = 0
        self.connect_due_s: float | None = now() + session.limits.connect_timeout_s
        """By then it has to be in a namespace; None once it has been in one."""
        self._room: asyncio.Event | None = None

    @property
    def is_closed(self) -> bool:
        """Whether its session is over."""
        return self.session.state == "closed"

    @property
    def due_s(self) -> float:
        """When `tick` has to look again."""
        ping_due_s = self.session.ping_due_s
        return ping_due_s if self.connect_due_s is None else min(ping_due_s, self.connect_due_s)

    def tick(self) -> None:
        """Look at the clock."""
        now_s = self._now()
        if self.connect_due_s is not None and now_s >= self.connect_due_s:
            self.fail("connect timeout")
        else:
            pings = self.session.pings
            self.do(self.session.tick(now_s))
            if self.watcher is not None and self.session.pings > pings:
                self.watcher.pinged()

    # --- what it is told

    def id_in(self, namespace: str) -> str:
        """Its id in a namespace, which is no secret; empty if it is not there."""
        return self._namespaces.inside.get(namespace, "")

    def write(self, message: str | bytes) -> None:
        """Write one Socket.IO message."""
        waiting = self.session.waiting
        if len(waiting) >= WAITING_PACKETS_MAX or (waiting and self.waiting_bytes >= WAITING_CHARS_MAX):
            # Not at once: it may be its viewer that is writing.
            asyncio.get_running_loop().call_soon(self.fail, "too slow")
            return
        self.do(self.session.send(EnginePacket(MESSAGE, message)))

    def acknowledge(self, ack_id: int, payload: str) -> None:
        """Answer one request of the default namespace; `payload` is JSON."""
        self.write(f"3{ack_id}[{payload}]")

    @property
    def write_shared(self) -> Callable[[bytes], None]:
        """Writes messages that are encoded for the transport as it is now; the same bytes may go to many.

        Over WebSocket they are frames, over polling packets with a separator behind each.
        """
        return self._write_packets if self.socket is None else self.socket.write_frame

    def _write_packets(self, packets: bytes) -> None:
        texts = packets.decode().split(SEPARATOR)[:-1]
        self.do(self.session.send_all([EnginePacket(text[0], text[1:]) for text in texts]))
        if self.is_full and self.watcher is not None:
            self.watcher.rouse()

    async def wait_for_room(self, patience_s: float, *, until_empty: bool = False) -> bool:
        """Wait while too much waits for it, or while anything does; False if it took nothing for so long."""
        loop = asyncio.get_running_loop()
        least, deadline_s = self.waiting_bytes, loop.time() + patience_s
        while self.waiting_bytes and not (self.is_closed or (self._is_roomy and not until_empty)):
            self._room = self._room or asyncio.Event()
            self._room.clear()
            try:
                async with asyncio.timeout(min(1.0, patience_s)):
                    await self._room.wait()
            except TimeoutError:
                pass
            if self.waiting_bytes < least:
                least, deadline_s = self.waiting_bytes, loop.time() + patience_s
            elif loop.time() > deadline_s:
                return False
        return True

    @property
    def is_websocket(self) -> bool:
        """By which transport it is reached."""
        return self.socket is not None

    @property
    def is_full(self) -> bool:
        """Whether so much waits for it that nothing more should be written."""
        if self.socket is not None:
            return self.socket.is_full
        return len(self.session.waiting) >= POLLING_PACKETS_MAX or self.waiting_bytes >= POLLING_CHARS_MAX

    @property
    def waiting_bytes(self) -> int:
        """What waits for it, in bytes or characters."""
        if self.socket is not None:
            return self.socket.waiting_bytes
        return sum(len(packet.data) for packet in self.session.waiting)

    @property
    def _is_roomy(self) -> bool:
        """Whether it has taken so much that it is worth going on."""
        if self.is_full:  # by its characters, however few packets those are
            return False
        return self.socket is not None or len(self.session.waiting) <= POLLING_PACKETS_MAX // 2

    def make_room(self) -> None:
        """Something of what waited has gone out."""
        if self._room is not None:
            self._room.set()

    def full(self) -> None:
        """Its WebSocket takes no more for now."""
        if self.watcher is not None:
            self.watcher.rouse()

    def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the connection, behind what was written unless `abort`."""
        if abort:
            socket = self.socket
            self.fail("server abort")
            if socket is not None:
                socket.abort()
            return
        if not may_return:
            self.write(encoded(Packet(Kind.DISCONNECT)))  # stock clients do not come back after it
        self.do(self.session.close("server close", self._now()))

    def fail(self, reason: str) -> None:
        """End the session now."""
        self.do(self.session.fail(reason))

    # --- what the transports tell

    def received(self, data: str | bytes, *, is_probe: bool = False) -> None:
        """A WebSocket message has come."""
        try:
            self.do(self.session.received(data, self._now(), socket="probe" if is_probe else "main"))
        except PacketError:
            self.fail("parse error")
        self._look_for_pong()

    def begin_poll(self, poll: asyncio.Future[str | None], mark: str) -> bool:
        """A poll has come.

        Args:
            poll: gets its answer; None if the same poll has come again and waits in its place.
            mark: tells this poll from others; empty if it does not.

        Returns:
            Whether it is one for now; another one that waits already ends the session.
        """
        waiting, was_marked = self._poll, self._poll_mark
        self._poll, self._poll_mark = poll, mark
        if waiting is not None and not waiting.done() and mark and mark == was_marked:
            waiting.set_result(None)
            return True
        try:
            steps = self.session.poll()
        except PacketError:
            self._poll, self._poll_mark = waiting, was_marked
            if self.session.state != "websocket":
                self.fail("two polls at once")
            return False
        self.do(steps)
        return True

    def lose_poll(self) -> None:
        """The connection of the poll that waits is gone."""
        self._poll = None
        self.do(self.session.poll_lost())

    def posted(self, body: bytes) -> None:
        """A payload has come.

        Raises:
            PacketError: it is none; that ends the session, see `fail`.
        """
        self.do(self.session.posted(body, self._now()))
        self._look_for_pong()

    def _look_for_pong(self) -> None:
        if self.session.pongs > self._pongs:
            self._pongs = self.session.pongs
            if self.watcher is not None:
                self.watcher.ponged()

    def do(self, steps: Iterable[Step]) -> None:
        """Do what the session says, in its order."""
        for step in steps:
            self._do(step)

    def _do(self, step: Step) -> None:
        what, data = step
        if what == "write" and self.socket is not None:
            self.socket.write(data)
        elif what == "message":
            self._received_message(data)
        elif what == "answer":
            self._answer_poll(str(data))
        elif what == "write_probe" and self.probe is not None:
            self.probe.write(data)
        elif what == "upgrade" and self.probe is not None:
            self._upgraded(self.probe)
        elif what == "close" and self.socket is not None:
            self.socket.close()
        elif what == "close_probe" and self.probe is not None:
            self.probe.close()
            self.probe = None
        elif what == "closed":
            self._closed(str(data))

    def _answer_poll(self, answer: str) -> None:
        poll, self._poll = self._poll, None
        # Kept in the same step: the poll may come again before this answer is on its way, or is known to be lost.
        self.answered = (self._poll_mark, answer) if self._poll_mark else None
        if poll is not None and not poll.done():
            poll.set_result(answer)
        self.make_room()

    def _upgraded(self, socket: WebSocket) -> None:
        self.socket, self.probe, self.answered = socket, None, None
        socket.is_probe = False
        self.make_room()
        if self.watcher is not None:
            self.watcher.transport_changed()

    def _received_message(self, data: str | bytes) -> None:
        if self.is_closed:
            return
        try:
            incoming = self._namespaces.received(data)
        except PacketError:
            self.fail("parse error")
            return
        if isinstance(incoming, Connected):
            self.connect_due_s = None
            # Not the session's id, which is a secret: whoever knows that may post in the client's name.
            more = self._handlers.greeting(self, incoming.auth)
            self.write(self._namespaces.accept(incoming.namespace, secrets.token_urlsafe(15), **more))
            self._handlers.connected(self, incoming.namespace, incoming.auth)
        elif isinstance(incoming, Refused):
            self._refused += 1
            if self._refused > REFUSED_MAX:
                self.fail("too many unknown namespaces")
            else:
                self.write(incoming.message)
        elif isinstance(incoming, Sent):
            self._handlers.requested(self, incoming)
        elif isinstance(incoming, Disconnected):
            self._handlers.disconnected(self, incoming.namespace, "client disconnect")

    def _closed(self, reason: str) -> None:
        self.make_room()
        inside, self._namespaces.inside = self._namespaces.inside, {}
        for namespace in inside:
            self._handlers.disconnected(self, namespace, reason)
        if self.on_closed is not None:
            self.on_closed(self, reason)
