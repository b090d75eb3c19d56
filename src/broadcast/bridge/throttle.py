"""How many HTTP requests one address may send: in front of all routes that cost something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.datastructures import QueryParams

from broadcast.bridge.engine.network import network_of
from broadcast.bridge.problem import MEDIA_TYPE, problem_of, refusal_headers
from broadcast.bridge.quotas import Quotas
from broadcast.errors import Code, RequestError

__all__ = ["Throttle", "is_counted"]

FREE: Final = frozenset({"/", "/client.js", "/healthz", "/readyz", "/metrics"})
"""Files that a browser keeps, and what watchers ask for all the time."""


def is_counted(path: str) -> bool:
    """Whether every request for this path counts; of polling only what begins a session, which has its own limits."""
    return path not in FREE and not path.startswith(("/static/", "/socket.io"))


class Throttle:
    """ASGI middleware.

    Args:
        app: what stands behind it.
        quotas: what each address, and each token, may have.
        now_s: a monotonic clock, seconds.
        is_proxy: whether an address is that of a listed proxy which says of nobody whose request it is: it stands for
            all, and what begins their sessions is not counted.
        on_refused: told of each refusal.
    """

    def __init__(
        self,
        app: Any,
        quotas: Quotas,
        now_s: Callable[[], float],
        *,
        is_proxy: Callable[[str], bool],
        on_refused: Callable[[Code], None] = lambda _: None,
    ) -> None:
        self._app = app
        self._quotas = quotas
        self._now_s = now_s
        self._is_proxy = is_proxy
        self._on_refused = on_refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer that there were too many, or hand on."""
        try:
            address = (scope.get("client") or ("",))[0]
            if scope["type"] == "http" and self._is_counted(scope, address):
                refuse_flood(self._quotas, f"address {network_of(address)}", self._now_s())
        except RequestError as error:
            self._on_refused(error.code)
            await _refuse(send, error)
            return
        await self._app(scope, receive, send)

    def _is_counted(self, scope: Any, address: str) -> bool:
        if scope["path"].startswith("/socket.io"):
            return "sid" not in QueryParams(scope["query_string"]) and not self._is_proxy(address)
        return is_counted(scope["path"])


def refuse_flood(quotas: Quotas, holder: str, now_s: float) -> None:
    """Count one request.

    Raises:
        RequestError: there were too many of this holder's.
    """
    wait_s = quotas.wait_s(holder, now_s, cost=1)
    if wait_s > 0:
        raise RequestError("too_many_requests", f"too many requests; again in {wait_s:.1f} s", retry_after_s=wait_s)


async def _refuse(send: Any, error: RequestError) -> None:
    body = problem_of(error.code, error.message)
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **refusal_headers(error)}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.code.http_status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
