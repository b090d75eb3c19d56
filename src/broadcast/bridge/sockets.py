"""What the bridge does about the engine's clients: each becomes a viewer, or is told why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from broadcast.bridge.access import Access
from broadcast.bridge.answers import Request
from broadcast.bridge.engine.client import Client
from broadcast.bridge.engine.namespaces import Sent
from broadcast.bridge.engine.packets import Kind, Packet, encoded
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.requests import bearer_token, parse_handshake, utc_now, wants_recovery
from broadcast.bridge.rights import Rights
from broadcast.bridge.viewer import Viewer
from broadcast.bridge.wire import Form, socket_form
from broadcast.errors import CODES, RequestError

__all__ = ["SocketConnection", "Sockets"]

REFUSED: Final = {
    "payload too large": CODES["too_large"],
    "parse error": CODES["bad_request"],
    "two polls at once": CODES["bad_request"],
    "two posts at once": CODES["bad_request"],
    "too many unknown namespaces": CODES["bad_request"],
}
"""How the engine says that it has ended a client for what that has sent, and the code for it."""


class SocketConnection:
    """One client of the engine, as a viewer's connection.

    Args:
        client: the engine's.
        public_id: its id in the default namespace, which is no secret.
    """

    __slots__ = ("_client", "_public_id")

    def __init__(self, client: Client, public_id: str) -> None:
        self._client = client
        self._public_id = public_id

    @property
    def form(self) -> Form:
        """How what is written to it has to look."""
        return socket_form(is_websocket=self._client.is_websocket, recovers=self._client.recovers)

    @property
    def write(self) -> Callable[[bytes], None]:
        """Writes bytes of this form."""
        return self._client.write_shared

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be written."""
        return self._client.is_full

    @property
    def waiting_bytes(self) -> int:
        """What waits to be taken."""
        return self._client.waiting_bytes

    async def wait_for_room(self, patience_s: float, *, until_empty: bool) -> bool:
        """Wait while it is full."""
        return await self._client.wait_for_room(patience_s, until_empty=until_empty)

    def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the connection."""
        self._client.close(may_return=may_return, abort=abort)

    def describe(self) -> dict[str, Any]:
        """What is known of it."""
        return {"id": self._public_id, **_whence(self._client)}


class Sockets:
    """The handlers that the engine calls.

    Args:
        fanout: the log as this bridge has it.
        access: who may see what.
        rights: what viewers may do besides.
        admit: takes in a viewer, or sends it away.
        on_gone: told of each viewer that is gone.
    """

    def __init__(
        self,
        fanout: Fanout,
        access: Access,
        *,
        rights: Rights,
        admit: Callable[[Viewer], None],
        on_gone: Callable[[Viewer], None],
    ) -> None:
        self._fanout = fanout
        self._access = access
        self._rights = rights
        self._admit = admit
        self._on_gone = on_gone

    def exists(self, namespace: str) -> bool:
        """There is the default namespace alone."""
        return namespace == "/"

    def greeting(self, client: Client, auth: object) -> dict[str, str]:
        """The log's epoch as `pid`, for a client that keeps its place by itself."""
        epoch = self._fanout.head.epoch
        client.recovers = epoch is not None and wants_recovery(auth, client.headers)
        return {"pid": epoch} if epoch is not None and client.recovers else {}

    def connected(self, client: Client, namespace: str, auth: object) -> None:
        """A client has connected: give it a cursor, or say why not."""
        headers: Mapping[str, str] = client.headers
        try:
            handshake = parse_handshake(auth, now=utc_now())
            grant = self._access.grant(handshake.token or bearer_token(headers.get("authorization")))
        except RequestError as error:
            self._rights.refusals.turn_away(error.code, **_whence(client))
            _send_away(client, error)
            return
        connection = SocketConnection(client, client.id_in(namespace))
        viewer = Viewer(
            connection, self._fanout, handshake=handshake, grant=grant, rights=self._rights, on_gone=self._on_gone
        )
        client.watcher = viewer
        client.headers = {}  # they are of no more use, and ten thousand clients' are megabytes
        self._admit(viewer)

    def requested(self, client: Client, event: Sent) -> None:
        """A viewer asks for something: it is answered in its turn."""
        viewer = _viewer_of(client)
        if viewer is None:
            return
        ack_id, arguments = event.ack_id, event.arguments

        def reply(payload: str) -> None:
            assert ack_id is not None
            client.acknowledge(ack_id, payload)

        data = arguments[1] if len(arguments) > 1 else None
        viewer.submit(Request(arguments[0], data, None if ack_id is None else reply))

    def disconnected(self, client: Client, namespace: str, reason: str) -> None:
        """A client is gone."""
        del namespace
        viewer, client.watcher = _viewer_of(client), None
        if viewer is not None:
            viewer.left = viewer.left or reason
            viewer.ended = viewer.ended or REFUSED.get(reason)
            viewer.gone()

    def gone(self, client: Client, reason: str) -> None:
        """A client's session is over; how a viewer's ended is told already, and so is who was sent away."""
        code = REFUSED.get(reason)
        if code is not None:
            self._rights.refusals.count(code)
        if client.connect_due_s is not None:  # it never was in our namespace
            self._rights.refusals.tell_gone(code.name if code else "left", reason, **_whence(client))


def _viewer_of(client: Client) -> Viewer | None:
    return cast("Viewer | None", client.watcher)


def _whence(client: Client) -> dict[str, str]:
    return {"transport": "websocket" if client.is_websocket else "polling", "address": client.address}


def _send_away(client: Client, error: RequestError) -> None:
    code = CODES[error.code.name]
    bye = {"code": code.name, "reason": error.message, "reconnect": code.reconnect}
    client.write(encoded(Packet(Kind.EVENT, data=["bye", bye])))
    client.close(may_return=code.reconnect)
