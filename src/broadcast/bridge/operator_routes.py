"""What whoever runs the bridge asks it: is it healthy, is it ready, who is connected, and all of it in numbers.

Strangers learn whether, and not why: the reasons name addresses, accounts and places in the log.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.metrics import Metrics
from broadcast.bridge.probe import Probe
from broadcast.bridge.request_door import RequestDoor
from broadcast.bridge.requests import bearer_token
from broadcast.bridge.trace import Trace, is_local
from broadcast.errors import RequestError

__all__ = ["OperatorRoutes"]

UNREAD: Final = "the log cannot be read"
STUCK: Final = "this bridge is stuck"
ARCHIVE_PATIENCE_S: Final = 1.0


class OperatorRoutes:
    """`/healthz`, `/readyz`, `/clients` and `/metrics`.

    Args:
        fanout: the log as this bridge has it.
        door: finds the grant of a request.
        trace: what can be said of the viewers.
        metrics: the same in numbers.
        probe: what the bridge has found out about itself.
    """

    def __init__(self, *, fanout: Fanout, door: RequestDoor, trace: Trace, metrics: Metrics, probe: Probe) -> None:
        self._fanout = fanout
        self._door = door
        self._trace = trace
        self._metrics = metrics
        self._probe = probe

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/clients", self._clients),
            Route("/metrics", self._numbers),
        ]

    async def _healthz(self, request: Request) -> Response:
        """Whether it should go on running: a bridge that is stuck should be restarted."""
        reasons = list(self._probe.reasons)
        if reasons and not self._is_for_operators(request):
            reasons = [STUCK]
        return JSONResponse({"healthy": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def _readyz(self, request: Request) -> Response:
        """Whether viewers should be sent here."""
        body: dict[str, Any]
        if self._is_for_operators(request):
            # Live viewers are served without it: an archive that lags or waits makes no bridge unready.
            archive = await self._archive_state() if self._fanout.is_up else None
            # Looked at behind that, which may have taken its time.
            reasons = [] if self._fanout.is_up else [f"redis: {self._fanout.down_reason}"]
            reasons += self._probe.reasons
            body = {"ready": not reasons, "reasons": reasons} | ({} if archive is None else {"archive": archive})
        else:
            reasons = [] if self._fanout.is_up else [UNREAD]
            reasons += [STUCK] if self._probe.reasons else []
            body = {"ready": not reasons, "reasons": reasons}
        return JSONResponse(body, status_code=503 if reasons else 200)

    async def _archive_state(self) -> dict[str, Any] | None:
        with suppress(TimeoutError):  # a Redis that stands still must not make it seem so of the bridge
            async with asyncio.timeout(ARCHIVE_PATIENCE_S):
                return await self._probe.archive.state()
        return None

    async def _clients(self, request: Request) -> Response:
        self._refuse_strangers(request)
        told = self._trace.answer(now_s=asyncio.get_running_loop().time())
        return JSONResponse(told, headers={"Cache-Control": "no-store"})

    async def _numbers(self, request: Request) -> Response:
        self._refuse_strangers(request)
        body, media_type = self._metrics.answer(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    def _is_for_operators(self, request: Request) -> bool:
        try:
            self._refuse_strangers(request)
        except RequestError:
            return False
        return True

    def _refuse_strangers(self, request: Request) -> None:
        # Once there are tokens, this machine needs one, too: a proxy on it that adds no header looks the same.
        if not self._door.has_tokens and is_local(request.client.host if request.client else "", request.headers):
            return
        token = bearer_token(request.headers.get("authorization"))
        if token is None and self._door.has_tokens:
            raise RequestError("unauthorized", "this is told to administrators: `broadcast token issue --admin`")
        if token is None or not self._door.grant_of(request).is_admin:
            raise RequestError("forbidden", "this is told to administrators: `broadcast token issue --admin`")
