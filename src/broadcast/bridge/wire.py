"""What is written to viewers, as bytes: one form for each transport, the same bytes for all who get the same. Pure.

* `WEBSOCKET`, `WEBSOCKET_PLACED`: an event is one WebSocket text frame, `42["event",…]`, without and with its place.
* `POLLING`, `POLLING_PLACED`: it is one Engine.IO packet with the payload's separator behind it.
* `SSE`: it is one Server-Sent Event.

In each form, several events are the bytes of one behind those of the other.

A place (the event's id) is what brings a client that recovers by itself to where it was: the last argument of a
Socket.IO event, the `id` of a Server-Sent Event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from websockets.frames import Frame, Opcode

from broadcast.bridge.engine.packets import MESSAGE, SEPARATOR

__all__ = ["POLLING", "POLLING_PLACED", "SSE", "WEBSOCKET", "WEBSOCKET_PLACED", "Form", "socket_form", "unplaced"]


class Form:
    """One way to write; compared by identity.

    Args:
        name: for people.
        write: makes the bytes of one event from its name, its JSON and its place (None where it has none).
    """

    __slots__ = ("name", "write")

    def __init__(self, name: str, write: Callable[[str, bytes, str | None], bytes]) -> None:
        self.name = name
        self.write = write

    def __repr__(self) -> str:
        return f"Form({self.name})"


def _message(name: str, payload: bytes, place: str | None) -> bytes:
    offset = b"" if place is None else b',"' + place.encode() + b'"'
    return b'2["' + name.encode() + b'",' + payload + offset + b"]"


def framed(message: bytes) -> bytes:
    """One Engine.IO message as a WebSocket frame of a server."""
    return Frame(Opcode.TEXT, MESSAGE.encode() + message).serialize(mask=False)


def packed(message: bytes) -> bytes:
    """One Engine.IO message as a packet of a payload, with the separator behind it."""
    return MESSAGE.encode() + message + SEPARATOR.encode()


def _server_sent(name: str, payload: bytes, place: str | None) -> bytes:
    # Events of the mind come unnamed, so that `onmessage` gets them.
    kind = b"" if name == "event" else b"event: " + name.encode() + b"\n"
    at = b"" if place is None else b"id: " + place.encode() + b"\n"
    return at + kind + b"data: " + payload + b"\n\n"


WEBSOCKET: Final = Form("websocket", lambda name, payload, _: framed(_message(name, payload, None)))
WEBSOCKET_PLACED: Final = Form("websocket", lambda name, payload, place: framed(_message(name, payload, place)))
POLLING: Final = Form("polling", lambda name, payload, _: packed(_message(name, payload, None)))
POLLING_PLACED: Final = Form("polling", lambda name, payload, place: packed(_message(name, payload, place)))
SSE: Final = Form("sse", _server_sent)
SSE_UNPLACED: Final = Form("sse", lambda name, payload, _: _server_sent(name, payload, None))


def socket_form(*, is_websocket: bool, recovers: bool) -> Form:
    """The form of a Socket.IO client.

    Args:
        is_websocket: by which transport it is reached.
        recovers: whether it keeps its place by itself.
    """
    if is_websocket:
        return WEBSOCKET_PLACED if recovers else WEBSOCKET
    return POLLING_PLACED if recovers else POLLING


def unplaced(form: Form) -> Form:
    """The form for the same client that brings it nowhere: what is replayed is not where it stands."""
    return {WEBSOCKET_PLACED: WEBSOCKET, POLLING_PLACED: POLLING, SSE: SSE_UNPLACED}.get(form, form)
