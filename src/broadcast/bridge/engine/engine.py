"""Socket.IO for the bridge: the clients, the two transports that carry them, and one timer for all."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from websockets.server import ServerProtocol

from broadcast.bridge.engine import polling
from broadcast.bridge.engine.client import Client, Handlers
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.engine.session import Limits, Session
from broadcast.bridge.engine.websocket import WebSocket
from broadcast.bridge.engine.wheel import Wheel

__all__ = ["Engine"]

RESOLUTION_S: Final = 0.02
"""Of the timer, as a part of the shortest wait."""
UNAVAILABLE: Final[polling.Refusal] = (503, 3, "Unavailable")
Refuse = Callable[[Mapping[str, str], str], polling.Refusal | None]
RefuseUpgrade = Callable[[str, str, Mapping[str, str]], polling.Refusal | None]
AddressOf = Callable[[str, Mapping[str, str]], str]


def admit_all(*_: object) -> polling.Refusal | None:
    """Refuse nobody."""


def the_peer(address: str, headers: Mapping[str, str]) -> str:
    """Whoever connects is the client."""
    del headers
    return address


class Engine:
    """The sockets of a server.

    Args:
        handlers: what is done about the clients.
        refuse: why a request that would begin a session, or upgrade one, is refused, by its query and whose it is.
        refuse_upgrade: what else is refused of requests to upgrade, which no middleware sees: by the other side's
            address, the request's target and its headers.
        address_of: whose request to upgrade it is, by the other side's address and the headers; polls are told already.
        on_gone: told of each client whose session is over, and why, after all else.
        limits: what a client may take.
        name: the server's own name; session ids begin with it, so that a proxy can send polls where they belong.
        path: where it is served.
    """

    client_class: type[Client] = Client

    def __init__(
        self,
        handlers: Handlers,
        *,
        refuse: Refuse = admit_all,
        refuse_upgrade: RefuseUpgrade = admit_all,
        address_of: AddressOf = the_peer,
        on_gone: Callable[[Client, str], None] = lambda _client, _reason: None,
        limits: Limits | None = None,
        name: str = "",
        path: str = "/socket.io/",
    ) -> None:
        self.clients: dict[str, Client] = {}
        self.clients_from: Counter[str] = Counter()
        """How many of them each address has (see `network_of`), whatever they are about."""
        self.limits = limits or Limits()
        self.message_bytes_max = self.limits.payload_bytes_max
        self.intake_bytes_per_s = self.limits.intake_bytes_per_s
        self.intake_bytes_burst = self.limits.intake_bytes_burst
        self.readers: list[ServerProtocol] = []
        # Bound once, not for each client.
        self._forgetting = self._forget
        self._clock = self.now
        self._handlers = handlers
        self._refuse = refuse
        self._refuse_upgrade = refuse_upgrade
        self._address_of = address_of
        self._on_gone = on_gone
        self._name = name or secrets.token_hex(3)
        self._path = path.rstrip("/")
        self._wheel: Wheel[Client] | None = None
        self._turning: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._drained = asyncio.Event()

    # --- life

    async def drain(self, timeout_s: float) -> None:
        """Wait until every client that was told to go is gone; nobody else is let in from now on."""
        self._is_stopping = True
        self._look_whether_drained()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()

    async def shutdown(self) -> None:
        """Leave whoever is still there, and stop the timer."""
        self._is_stopping = True
        for client in list(self.clients.values()):
            client.close(may_return=True, abort=True)
        if self._turning is not None:
            self._turning.cancel()
            with suppress(asyncio.CancelledError):
                await self._turning
            self._turning = None

    def now(self) -> float:
        """The event loop's clock."""
        return asyncio.get_running_loop().time()

    async def _turn(self, wheel: Wheel[Client]) -> None:
        while True:
            await asyncio.sleep(wheel.resolution_s)
            for client in wheel.turn(self.now()):
                if self.now() >= client.due_s:
                    client.tick()
                if client.is_closed:
                    self.clients.pop(client.id, None)
                else:
                    wheel.set(client, client.due_s)

    # --- who comes

    def socket(self, *, server_state: Any, **_: Any) -> WebSocket:
        """What uvicorn calls for each request to upgrade: its `ws` setting."""
        return WebSocket(self, server_state=server_state)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application of long-polling."""
        request = Request(scope, receive)
        response = await polling.answer(request, self)
        await response(scope, receive, send)

    def begin(self, request: Request) -> Client | polling.Refusal:
        """Make a client that polls."""
        headers = dict(request.headers)
        address = request.client.host if request.client else ""
        refusal = UNAVAILABLE if self._is_stopping else self._refuse(request.query_params, address)
        return refusal or self._make(headers, address, is_websocket=False)

    def _make(self, headers: Mapping[str, str], address: str, *, is_websocket: bool) -> Client:
        sid = f"{self._name}-{secrets.token_urlsafe(15)}"
        session = Session(sid, limits=self.limits, now_s=self.now(), is_websocket=is_websocket)
        client = self.client_class(session, handlers=self._handlers, headers=headers, address=address, now=self._clock)
        client.on_closed = self._forgetting
        self.clients[sid] = client
        self.clients_from[network_of(address)] += 1
        if self._wheel is None or self._turning is None:
            limits = self.limits
            resolution_s = max(0.005, min(1.0, min(limits.ping_interval_s, limits.ping_timeout_s) * RESOLUTION_S))
            self._wheel = Wheel(resolution_s=resolution_s, now_s=self.now())
            self._turning = asyncio.create_task(self._turn(self._wheel), name="heartbeat")
        self._wheel.set(client, client.due_s)
        return client

    def _forget(self, client: Client, reason: str) -> None:
        self.clients.pop(client.id, None)
        network = network_of(client.address)
        self.clients_from[network] -= 1
        if not self.clients_from[network]:
            del self.clients_from[network]
        if self._wheel is not None:
            self._wheel.discard(client)
        self._on_gone(client, reason)
        self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        if self._is_stopping and not any(client.session.state == "closing" for client in self.clients.values()):
            self._drained.set()

    # --- WebSockets

    def knocked(self, socket: WebSocket, target: str, headers: Mapping[str, str]) -> None:
        """A request to upgrade has come."""
        query, address = _parsed(target)[1], self._address_of(socket.address, headers)
        refusal = self._refusal_of(socket.address, target, headers) or self._refuse(query, address)
        client = self.clients.get(query["sid"]) if "sid" in query else None
        if refusal is None and "sid" in query and client is None:
            refusal = polling.UNKNOWN_SESSION
        if refusal is not None:
            later = refusal[0] in polling.LATER
            socket.reject(refusal[0], refusal[2], {"Retry-After": polling.RETRY_AFTER} if later else None)
            return
        if not socket.accept():
            return
        if client is None:
            self._begin_on(socket, headers, address)
        elif client.session.probed():
            client.probe, socket.owner, socket.is_probe = socket, client, True
        else:  # it has a WebSocket already
            socket.close()

    def _begin_on(self, socket: WebSocket, headers: Mapping[str, str], address: str) -> None:
        client = self._make(headers, address, is_websocket=True)
        client.socket, socket.owner = socket, client
        opening = client.session.opening()
        socket.write(f"{opening.kind}{opening.data!s}")

    def _refusal_of(self, peer: str, target: str, headers: Mapping[str, str]) -> polling.Refusal | None:
        path, query = _parsed(target)
        if path.rstrip("/") != self._path:
            return (404, 3, "Not found")
        if self._is_stopping:
            return UNAVAILABLE
        return polling.refusal_of(query, transport="websocket") or self._refuse_upgrade(peer, target, headers)

    def lost(self, socket: WebSocket) -> None:
        """A WebSocket's connection is gone."""
        client = socket.owner
        if not isinstance(client, Client):
            return
        if client.probe is socket:
            client.probe = None
            client.session.probe_lost()
        elif client.socket is socket:
            client.do(client.session.socket_lost(socket.fault or "transport close"))


@lru_cache(256)
def _parsed(target: str) -> tuple[str, dict[str, str]]:
    """Path and query of a request's target; most clients ask for the very same one. Empty if it cannot be read."""
    try:
        address = urlsplit(target)
    except ValueError:
        return "", {}
    return address.path, {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
