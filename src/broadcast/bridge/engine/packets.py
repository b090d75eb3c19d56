"""The packets of Engine.IO v4 and Socket.IO v5: bytes and texts in, packets out, and back. Pure.

https://socket.io/docs/v4/engine-io-protocol/ and https://socket.io/docs/v4/socket-io-protocol/. An Engine.IO packet is
one digit and its data; a Socket.IO packet is the data of an Engine.IO message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import orjson

from broadcast.errors import BroadcastError

__all__ = [
    "CLOSE",
    "MESSAGE",
    "NOOP",
    "OPEN",
    "PING",
    "PONG",
    "UPGRADE",
    "EnginePacket",
    "Kind",
    "Packet",
    "PacketError",
    "encoded",
    "joined",
    "parse_engine",
    "parse_packet",
    "parse_payload",
    "with_attachments",
    "without_attachments",
]

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"
SEPARATOR: Final = "\x1e"
ATTACHMENTS_MAX: Final = 8
DIGITS_MAX: Final = 15
"""Of an acknowledgement's number: every JavaScript number of so many digits is exact."""
RESERVED: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)


class PacketError(BroadcastError):
    """A client has sent what is no packet; by both protocols that ends its connection."""


class EnginePacket(NamedTuple):
    """One packet of Engine.IO."""

    kind: str
    data: str | bytes = ""
    """Bytes only in a message."""


class Kind:
    """The kinds of Socket.IO packets."""

    CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)


class Packet(NamedTuple):
    """One packet of Socket.IO."""

    kind: int
    namespace: str = "/"
    data: Any = None
    ack_id: int | None = None
    attachments: int = 0
    """How many binary messages follow it and belong to it."""


def parse_engine(text: str) -> EnginePacket:
    """Read one text packet.

    Raises:
        PacketError: it is none.
    """
    kind = text[:1]
    # isdigit would let other scripts' digits pass.
    if not kind or kind not in "0123456":
        raise PacketError(f"engine packet: expected a digit from 0 to 6, got {text[:20]!r}")
    return EnginePacket(kind, text[1:])


def parse_payload(body: bytes, *, packets_max: int) -> list[EnginePacket]:
    """Read what a polling client has posted.

    Raises:
        PacketError: it is no payload, or holds more packets than that.
    """
    try:
        parts = body.decode("utf-8").split(SEPARATOR, packets_max)
    except UnicodeDecodeError:
        raise PacketError("payload: expected UTF-8") from None
    if len(parts) > packets_max:
        raise PacketError(f"payload: expected at most {packets_max} packets")
    return [_from_base64(part[1:]) if part.startswith("b") else parse_engine(part) for part in parts]


def joined(packets: list[EnginePacket]) -> str:
    """The payload that answers a poll."""
    return SEPARATOR.join(
        packet.kind + packet.data if isinstance(packet.data, str) else "b" + base64.b64encode(packet.data).decode()
        for packet in packets
    )


def _from_base64(text: str) -> EnginePacket:
    try:
        return EnginePacket(MESSAGE, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise PacketError("payload: a binary packet holds no base64") from None


def encoded(packet: Packet) -> str:
    """A Socket.IO packet as the data of an Engine.IO message."""
    attachments = f"{packet.attachments}-" if packet.kind in (Kind.BINARY_EVENT, Kind.BINARY_ACK) else ""
    namespace = "" if packet.namespace == "/" else f"{packet.namespace},"
    ack_id = "" if packet.ack_id is None else str(packet.ack_id)
    data = "" if packet.data is None else orjson.dumps(packet.data).decode()
    return f"{packet.kind}{attachments}{namespace}{ack_id}{data}"


def parse_packet(text: str) -> Packet:
    """Read a Socket.IO packet of a client.

    Raises:
        PacketError: it is none, or one that only a server may send.
    """
    kind, at = "0123456".find(text[:1]), 1
    if not text or kind < 0:
        raise PacketError(f"packet: expected a digit from 0 to 6, got {text[:20]!r}")
    attachments = 0
    if kind in (Kind.BINARY_EVENT, Kind.BINARY_ACK):
        attachments, at = _number(text, at)
        if text[at : at + 1] != "-" or not 0 <= attachments <= ATTACHMENTS_MAX:
            raise PacketError(f"packet: expected the number of attachments, at most {ATTACHMENTS_MAX}, and a hyphen")
        at += 1
    namespace, at = _namespace(text, at)
    number, at = _number(text, at)
    packet = Packet(kind, namespace, _json(text[at:]), None if number < 0 else number, attachments)
    _check(packet)
    return packet


def _namespace(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != "/":
        return "/", at
    end = text.find(",", at)
    # A client may append a query to the name, for a server that reads it.
    name = text[at : end if end >= 0 else len(text)].partition("?")[0]
    return name, end + 1 if end >= 0 else len(text)


def _number(text: str, at: int) -> tuple[int, int]:
    """The number at a place, -1 if there is none, and the place behind it."""
    end = at
    while end < len(text) and end - at <= DIGITS_MAX and text[end] in "0123456789":
        end += 1
    if end - at > DIGITS_MAX:
        raise PacketError(f"packet: expected a number of at most {DIGITS_MAX} digits")
    return (int(text[at:end]), end) if end > at else (-1, at)


def _json(text: str) -> Any:
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise PacketError(f"packet: expected JSON, got {text[:20]!r}") from None


def _check(packet: Packet) -> None:
    kind, data = packet.kind, cast("object", packet.data)
    if kind == Kind.CONNECT:
        is_valid = data is None or isinstance(data, dict)
    elif kind == Kind.DISCONNECT:
        is_valid = data is None
    elif kind in (Kind.EVENT, Kind.BINARY_EVENT):
        is_valid = isinstance(data, list) and _begins_with_name(cast("list[object]", data))
    elif kind in (Kind.ACK, Kind.BINARY_ACK):
        is_valid = isinstance(data, list) and packet.ack_id is not None
    else:
        is_valid = False
    if not is_valid:
        raise PacketError(f"packet: a packet of kind {kind} cannot hold this")


def _begins_with_name(arguments: list[object]) -> bool:
    name = arguments[0] if arguments else None
    return (isinstance(name, str) and name not in RESERVED) or type(name) is int


def with_attachments(data: Any, attachments: Sequence[bytes]) -> Any:
    """Put the binary messages where their placeholders stand.

    Raises:
        PacketError: a placeholder names one that did not come.
    """
    if isinstance(data, list):
        return [with_attachments(item, attachments) for item in cast("list[Any]", data)]
    if not isinstance(data, dict):
        return data
    fields = cast("dict[str, Any]", data)
    if fields.get("_placeholder") is not True:
        return {name: with_attachments(item, attachments) for name, item in fields.items()}
    number = fields.get("num")
    if type(number) is not int or not 0 <= number < len(attachments):
        raise PacketError("packet: a placeholder names an attachment that did not come")
    return attachments[number]


def without_attachments(data: Any, attachments: list[bytes]) -> Any:
    """Put placeholders where bytes stand, and the bytes into `attachments`."""
    if isinstance(data, bytes):
        attachments.append(data)
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(data, list):
        return [without_attachments(item, attachments) for item in cast("list[Any]", data)]
    if isinstance(data, dict):
        fields = cast("dict[str, Any]", data)
        return {name: without_attachments(item, attachments) for name, item in fields.items()}
    return data
