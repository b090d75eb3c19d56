"""The bridge's HTTP routes: the page, the client, and the event stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from broadcast.bridge.door import CUT
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.history_routes import HistoryRoutes
from broadcast.bridge.ingest import Ingest
from broadcast.bridge.login import Login
from broadcast.bridge.plain import plain_page
from broadcast.bridge.posted import PostedError
from broadcast.bridge.problem import MEDIA_TYPE, problem_of, refusal_headers
from broadcast.bridge.request_door import RequestDoor
from broadcast.bridge.requests import Handshake, parse_handshake, utc_now
from broadcast.bridge.sse import SseConnection
from broadcast.bridge.viewer import Viewer
from broadcast.errors import CODES, Code, RequestError

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["HttpRoutes", "with_cors"]

PLAIN_EVENTS: Final = 50
STATIC: Final = Path(__file__).parent / "static"

_PAGE_HEADERS: Final = {
    # Event text is hostile: nothing inline runs, and no script can be made from a text.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types lit-html"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class HttpRoutes:
    """The routes, and what stands behind each.

    Args:
        fanout: the log as this bridge has it.
        archive: what lies behind the stream; None where there is none.
        more: routes of others.
        admit: takes in a viewer, or sends it away.
        on_gone: told of each viewer that is gone.
        is_crowded: whether there are as many viewers as may be.
        door: who may do what, and how often.
        ingest: takes in events.
    """

    def __init__(
        self,
        *,
        fanout: Fanout,
        archive: Archive | None,
        more: Iterable[Route],
        admit: Callable[[Viewer], None],
        on_gone: Callable[[Viewer], None],
        is_crowded: Callable[[], bool],
        door: RequestDoor,
        ingest: Ingest,
    ) -> None:
        self._fanout = fanout
        self._history = HistoryRoutes(fanout=fanout, archive=archive, door=door)
        self._more = tuple(more)
        self._admit = admit
        self._on_gone = on_gone
        self._is_crowded = is_crowded
        self._door = door
        self._ingest = ingest
        self._login = Login(door.grant_of, may_set_cookies=door.takes_cookies)

    def make_app(self) -> Starlette:
        """Make the Starlette application of everything that is not a socket."""
        routes = [
            Route("/", self._page),
            Route("/client.js", self._client),
            Route("/plain", self._plain),
            Route("/events", self._events, methods=["GET"]),
            Route("/events", self._emit, methods=["POST"]),
            Route("/session", self._login.begin, methods=["POST"]),
            Route("/session", self._login.end, methods=["DELETE"]),
            *self._more,
            *self._history.routes,
            Mount("/static", _PageFiles(directory=STATIC, check_dir=False)),
        ]
        return Starlette(routes=routes, exception_handlers={RequestError: self._problem, HTTPException: self._strange})

    async def _page(self, request: Request) -> Response:
        del request
        return _static("index.html", "text/html")

    async def _client(self, request: Request) -> Response:
        del request
        return _static("client.js", "text/javascript")

    async def _plain(self, request: Request) -> Response:
        grant = self._door.grant_of(request, only_reads=True)
        ring, head, earliest = self._fanout.ring, self._fanout.head, self._fanout.earliest(grant)
        found = ring.newest_first(grant.filter.matches, until=head.id)
        events = islice(takewhile(lambda event: event.id >= earliest, found), PLAIN_EVENTS)
        state = "The bridge reads the log." if self._fanout.is_up else "The bridge is up but cannot read the log."
        return HTMLResponse(plain_page(events, state=state), headers={**_PAGE_HEADERS, "Cache-Control": "no-store"})

    async def _events(self, request: Request) -> Response:
        handshake = _sse_handshake(request)
        grant = self._door.grant_of(request, only_reads=True, waits=True)
        if request.method == "HEAD":
            return Response(headers={"Cache-Control": "no-store"}, media_type="text/event-stream")
        if self._is_crowded():
            raise RequestError("too_many_connections", "there are as many viewers as may be; come back later")
        address = request.client.host if request.client else ""
        self._door.rights.refuse_crowd(grant, address)
        connection = SseConnection(address, request.scope.get(CUT))
        viewer = Viewer(
            connection, self._fanout, handshake=handshake, grant=grant, rights=self._door.rights, on_gone=self._on_gone
        )
        connection.viewer = viewer
        self._admit(viewer)
        return _EventStream(connection)

    async def _emit(self, request: Request) -> Response:
        return await self._ingest.answer(request, self._door.grant_of(request), self._door.refuse_ended)

    async def _problem(self, request: Request, error: Exception) -> Response:
        """RFC 9457."""
        assert isinstance(error, RequestError)
        self._count(request, error.code)
        more = error.more if isinstance(error, PostedError) else {}
        body = problem_of(error.code, error.message, **more)
        return Response(body, error.code.http_status, refusal_headers(error), MEDIA_TYPE)

    async def _strange(self, request: Request, error: Exception) -> Response:
        """What Starlette refuses by itself: another path, or another method."""
        del request
        assert isinstance(error, HTTPException)
        code = CODES["method_not_allowed" if error.status_code == 405 else "not_found"]
        self._door.rights.refusals.count(code)
        return Response(problem_of(code, code.meaning), code.http_status, error.headers, MEDIA_TYPE)

    def _count(self, request: Request, code: Code) -> None:
        refusals, address = self._door.rights.refusals, request.client.host if request.client else ""
        if request.url.path == "/events" and request.method == "GET":
            refusals.turn_away(code, address=address, transport="sse")
        else:
            refusals.count_request(code, address=address, transport="http")


def with_cors(app: Any, origins: frozenset[str]) -> Any:
    """Let pages of the listed origins read the answers."""
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        # A page of a listed origin on the same site may be sent the cookie; one of any origin never is.
        allow_credentials="*" not in origins,
    )


class _PageFiles(StaticFiles):
    """The page's files under the page's headers: after an upgrade, no browser runs the script of the last version."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_PAGE_HEADERS)
        return response


def _sse_handshake(request: Request) -> Handshake:
    query = request.query_params
    asked = {
        "types": ",".join(query.getlist("types")) or None,
        # A browser that comes back says where it was; that is newer than what its address says.
        "since": request.headers.get("last-event-id") or query.get("since"),
        "catchup": _number(query.get("catchup")),
        "policy": query.get("policy"),
    }
    return parse_handshake({k: v for k, v in asked.items() if v is not None}, now=utc_now())


def _number(text: str | None) -> int | str | None:
    is_number = text is not None and len(text) <= 18 and text.isascii() and text.isdigit()
    return int(text) if is_number and text is not None else text


def _static(name: str, media_type: str) -> Response:
    path = STATIC / name
    if not path.exists():
        raise RequestError("not_found", "this build carries no web part")
    return FileResponse(path, media_type=media_type, headers=_PAGE_HEADERS)


class _EventStream(StreamingResponse):
    """A response that ends its viewer, however it ends itself."""

    def __init__(self, connection: SseConnection) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(connection.frames(), media_type="text/event-stream", headers=headers)
        self._connection = connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._connection.lost()
