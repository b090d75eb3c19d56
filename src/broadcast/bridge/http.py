"""The bridge's HTTP routes: the page, the client, health, and the event stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from broadcast.bridge.access import Access
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.requests import parse_handshake, utc_now
from broadcast.bridge.sse import SseConnection
from broadcast.bridge.viewer import Viewer
from broadcast.errors import RequestError

__all__ = ["make_http_app"]

STATIC: Final = Path(__file__).parent / "static"

_PAGE_HEADERS: Final = {
    # Event text is hostile: nothing inline runs, and no script can be made from a text.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Serve = Callable[[Viewer], Awaitable[None]]


def make_http_app(*, fanout: Fanout, access: Access, serve: Serve) -> Starlette:
    """Make the Starlette application of everything that is not a socket.

    Args:
        fanout: the log as this bridge has it.
        access: who may see what.
        serve: runs a viewer to its end.
    """

    async def page(request: Request) -> Response:
        return _static("index.html", "text/html")

    async def client(request: Request) -> Response:
        return _static("client.js", "text/javascript")

    async def healthz(request: Request) -> Response:
        return JSONResponse({"healthy": True})

    async def readyz(request: Request) -> Response:
        reasons = [] if fanout.is_up else [f"redis: {fanout.down_reason}"]
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def events(request: Request) -> Response:
        try:
            viewer, connection = _sse_viewer(request, fanout, access)
        except RequestError as error:
            return _problem(error)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        body = _streamed(viewer, connection, serve)
        return StreamingResponse(body, media_type="text/event-stream", headers=headers)

    routes = [
        Route("/", page),
        Route("/client.js", client),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/events", events),
        Mount("/static", _PageFiles(directory=STATIC, check_dir=False)),
    ]
    return Starlette(routes=routes)


def with_cors(app: Any, origins: frozenset[str]) -> Any:
    """Let pages of the listed origins read the answers."""
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
    )


class _PageFiles(StaticFiles):
    """The page's files under the page's headers: after an upgrade, no browser runs the script of the last version."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_PAGE_HEADERS)
        return response


def _sse_viewer(request: Request, fanout: Fanout, access: Access) -> tuple[Viewer, SseConnection]:
    query = request.query_params
    asked = {
        "types": query.get("types"),
        # A browser that comes back says where it was; that is newer than what its address says.
        "since": request.headers.get("last-event-id") or query.get("since"),
        "catchup": _number(query.get("catchup")),
        "token": bearer_token(request.headers.get("authorization")),
    }
    handshake = parse_handshake({k: v for k, v in asked.items() if v is not None}, now=utc_now())
    connection = SseConnection()
    grant = access.grant(handshake.token)
    return Viewer(connection, fanout, handshake=handshake, grant=grant), connection


def _number(text: str | None) -> int | str | None:
    is_number = text is not None and len(text) <= 18 and text.isascii() and text.isdigit()
    return int(text) if is_number and text is not None else text


def _static(name: str, media_type: str) -> Response:
    path = STATIC / name
    if not path.exists():
        return PlainTextResponse("this build carries no web part", status_code=404)
    return FileResponse(path, media_type=media_type, headers=_PAGE_HEADERS)


async def _streamed(viewer: Viewer, connection: SseConnection, serve: Serve) -> AsyncGenerator[str]:
    task = asyncio.create_task(_served(viewer, connection, serve))
    try:
        async for frames in connection.frames():
            yield frames
    finally:
        task.cancel()


async def _served(viewer: Viewer, connection: SseConnection, serve: Serve) -> None:
    try:
        await serve(viewer)
    finally:
        await connection.close(may_return=True)


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header; None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _problem(error: RequestError) -> Response:
    """RFC 9457."""
    body = {
        "type": "about:blank",
        "title": error.code.meaning,
        "detail": error.message,
        "code": error.code.name,
    }
    return JSONResponse(
        {**body, "status": error.code.http_status},
        status_code=error.code.http_status,
        media_type="application/problem+json",
    )
