"""Socket.IO on one session, as a pure state machine: which namespaces a client is in, and what it sends there.

What a client sends to a namespace that it is not in, and what is no
packet, ends its connection, as the protocol has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from broadcast.bridge.engine.packets import Kind, Packet, PacketError, encoded, parse_packet, with_attachments

__all__ = ["Connected", "Disconnected", "Incoming", "Namespaces", "Refused", "Sent"]


class Connected(NamedTuple):
    """The client wants into a namespace; answer with `Namespaces.accept`."""

    namespace: str
    auth: Any
    """An object, or None."""


class Refused(NamedTuple):
    """The client wants into a namespace that is not there; this is to be sent."""

    message: str


class Sent(NamedTuple):
    """The client has sent an event."""

    namespace: str
    arguments: list[Any]
    """The event's name and what came with it."""
    ack_id: int | None
    """The number under which it wants an answer."""
    is_binary: bool


class Disconnected(NamedTuple):
    """The client has left a namespace."""

    namespace: str


Incoming = Connected | Refused | Sent | Disconnected


class Known(Protocol):
    """Who knows the server's namespaces."""

    def exists(self, namespace: str) -> bool:
        """Whether there is a namespace of this name."""
        ...


class Namespaces:
    """The namespaces of one client.

    Args:
        known: those of the server.
    """

    __slots__ = ("_announced", "_attachments", "_known", "inside")

    def __init__(self, known: Known) -> None:
        self.inside: dict[str, str] = {}
        """Where the client is, and its id there."""
        self._known = known
        self._announced: Packet | None = None
        self._attachments: tuple[bytes, ...] = ()

    def received(self, data: str | bytes) -> Incoming | None:
        """One message has come; None if it says nothing yet, or nothing new.

        Raises:
            PacketError: it is no packet, or not one for now: that ends the connection.
        """
        if isinstance(data, bytes):
            return self._received_attachment(data)
        if self._announced is not None:
            raise PacketError("packet: expected an attachment, got a text")
        packet = parse_packet(data)
        if packet.attachments:
            self._announced = packet
            return None
        return self._received_whole(packet)

    def accept(self, namespace: str, sid: str, **more: str) -> str:
        """Let the client in; returns the message that tells it."""
        self.inside[namespace] = sid
        return encoded(Packet(Kind.CONNECT, namespace, {"sid": sid, **more}))

    def _received_attachment(self, data: bytes) -> Incoming | None:
        if self._announced is None:
            raise PacketError("packet: an attachment came that nothing announced")
        self._attachments += (data,)
        if len(self._attachments) < self._announced.attachments:
            return None
        packet, attachments = self._announced, self._attachments
        self._announced, self._attachments = None, ()
        return self._received_whole(packet._replace(data=with_attachments(packet.data, attachments)))

    def _received_whole(self, packet: Packet) -> Incoming | None:
        if packet.kind == Kind.CONNECT:
            return self._wanted(packet)
        if packet.namespace not in self.inside:
            raise PacketError(f"packet: the client is not in {packet.namespace[:40]!r}")
        if packet.kind == Kind.DISCONNECT:
            del self.inside[packet.namespace]
            return Disconnected(packet.namespace)
        if packet.kind in (Kind.ACK, Kind.BINARY_ACK):
            return None  # we ask for none
        return Sent(packet.namespace, packet.data, packet.ack_id, packet.kind == Kind.BINARY_EVENT)

    def _wanted(self, packet: Packet) -> Incoming:
        if packet.namespace in self.inside:
            raise PacketError(f"packet: the client is in {packet.namespace[:40]!r} already")
        if not self._known.exists(packet.namespace):
            return Refused(encoded(Packet(Kind.CONNECT_ERROR, packet.namespace, {"message": "Invalid namespace"})))
        return Connected(packet.namespace, packet.data)
