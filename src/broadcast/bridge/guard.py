"""Who may speak to this server at all: the Host and the Origin of a request. The decision is pure.

A page on the internet can make a browser send requests to 127.0.0.1. Two headers tell: `Origin` names the page, and
`Host` names what the browser believes to speak to, which after DNS rebinding is the attacker's own name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from broadcast.bridge.credentials import IN_ADDRESS, has_secret_in_address
from broadcast.bridge.problem import MEDIA_TYPE, problem_of
from broadcast.bridge.proxies import is_proxied
from broadcast.errors import CODES, Code

__all__ = ["Guard", "GuardPolicy"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]


NOT_IN_HOST: Final = frozenset("@/\\?#")
"""Behind these, others read another name than we do."""
STRICT: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
HSTS: Final = ((b"strict-transport-security", b"max-age=31536000"),)


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What is let in.

    Args:
        origins: pages of other origins that may connect, as `https://site.example`; `*` lets every page in.
        hosts: names this server is reached under, besides `localhost`, addresses, and the hosts of `origins`. Where
            every page may connect anyway, so may one that reaches us under another name.
        is_closed_to_proxies: whether this machine alone may come, since nobody has said who else may.
    """

    origins: frozenset[str]
    hosts: frozenset[str] = frozenset()
    is_closed_to_proxies: bool = False

    @property
    def any_origin(self) -> bool:
        """Whether every page may connect."""
        return "*" in self.origins

    def refusal(
        self, *, host: str | None, origin: str | None, is_proxied: bool = False, is_secure: bool = False
    ) -> Code | None:
        """Why a request is refused; None lets it in.

        Args:
            host: the Host header, None if there is none.
            origin: the Origin header; None for whoever is no browser, or asks its own origin.
            is_proxied: whether it has come through a proxy that says so.
            is_secure: whether it came by TLS; who stands between could have sent a page without. That it did not, is
                not known: a proxy may end TLS without a word.
        """
        if not self._serves(host):
            return CODES["forbidden_host"]
        if is_proxied and self.is_closed_to_proxies:
            return CODES["forbidden_proxy"]
        if origin is None or self.any_origin or origin in self.origins:
            return None
        is_own = _net_location(origin) == host and (not is_secure or origin.lower().startswith("https://"))
        return None if is_own else CODES["forbidden_origin"]

    def _serves(self, host: str | None) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        # An address cannot be rebound to another server; only names can.
        is_ours = name == "localhost" or name in self.hosts or _is_address(name)
        return is_ours or self.any_origin or name in {_host_name(_net_location(origin)) for origin in self.origins}


class Guard:
    """ASGI middleware in front of every route, HTTP and WebSocket alike.

    Args:
        app: what stands behind it.
        policy: what is let in.
        ends_tls: whether TLS is this server's own; a proxy that ends it says itself that there is no other way in.
        on_refused: told of each refusal.
    """

    def __init__(
        self,
        app: App,
        policy: GuardPolicy,
        *,
        ends_tls: bool = False,
        on_refused: Callable[[Code], None] = lambda _: None,
    ) -> None:
        self._on_refused = on_refused
        self._app = app
        self._policy = policy
        self._ends_tls = ends_tls

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer with the refusal, or hand on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        code = self._policy.refusal(
            host=headers.get("host"),
            origin=headers.get("origin"),
            is_proxied=is_proxied(headers),
            is_secure=scope.get("scheme") in ("https", "wss"),
        )
        always = STRICT + (HSTS if self._ends_tls and _is_whole_site(headers.get("host")) else ())
        send = _strict(send, always) if scope["type"] == "http" else send
        detail = code.meaning if code is not None else ""
        if code is None and has_secret_in_address(scope.get("query_string", b"")):
            code, detail = CODES["bad_request"], IN_ADDRESS
        if code is None:
            await self._app(scope, receive, send)
            return
        self._on_refused(code)
        await _refuse(scope, send, code, detail)


def _is_whole_site(host: str | None) -> bool:
    """Whether a name stands for this server alone: HSTS would hold for all the ports of its host."""
    name = _host_name(host)
    return name is not None and name == host and name != "localhost" and not _is_address(name)


def _strict(send: Any, always: tuple[tuple[bytes, bytes], ...]) -> Any:
    """Let no browser guess what an answer is, nor tell others where it came from."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name for name, _ in given}
            message = {**message, "headers": [*given, *(each for each in always if each[0] not in names)]}
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Any, code: Code, detail: str) -> None:
    body = problem_of(code, detail)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": code.http_status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _net_location(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str | None) -> str | None:
    if not host or not NOT_IN_HOST.isdisjoint(host):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
