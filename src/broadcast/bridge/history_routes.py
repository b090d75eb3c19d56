"""The log's past over HTTP: `GET /history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broadcast.bridge.access import Access, Grant
from broadcast.bridge.exporting import NDJSON, ExportResponse
from broadcast.bridge.exports import Exports
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.history_requests import Question, parse_question, write_cursor
from broadcast.bridge.moment import Matches, PastEvent
from broadcast.bridge.requests import bearer_token, utc_now
from broadcast.bridge.tiers import Tiers
from broadcast.errors import RequestError, UnreachableError

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["HistoryRoutes"]

_HEADERS: Final[Mapping[str, str]] = {
    # What one viewer may see, another may not: nothing is kept that is not asked for again with a token.
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Accept",
    "X-Content-Type-Options": "nosniff",
}


class HistoryRoutes:
    """The routes of the past.

    Args:
        fanout: the log as this bridge has it.
        archive: what lies behind the stream; None where there is none.
        access: who may see what.
    """

    def __init__(self, *, fanout: Fanout, archive: Archive | None, access: Access) -> None:
        self._tiers = Tiers(fanout, archive)
        self._exports = Exports(self._tiers)
        self._access = access
        self.routes = [Route("/history", self._history)]

    async def _history(self, request: Request) -> Response:
        grant = self._access.grant(bearer_token(request.headers.get("authorization")))
        question = _within(parse_question(request.query_params, now=utc_now()), grant)
        matches = _visible(question, grant)
        try:
            if NDJSON in request.headers.get("accept", ""):
                return ExportResponse(await self._exports.begin(question, matches), _HEADERS)
            return await self._page(question, matches)
        except UnreachableError as error:
            raise RequestError("unavailable", f"this range cannot be read: {error}"[:300]) from None

    async def _page(self, question: Question, matches: Matches) -> Response:
        events = await self._tiers.page(question, matches, count=question.count + 1)
        is_more, events = len(events) > question.count, events[: question.count]
        following = write_cursor(events[-1].position) if is_more else None
        return Response(_body(events, following, self._tiers.archive is not None), 200, _HEADERS, "application/json")


def _within(question: Question, grant: Grant) -> Question:
    """The question as far as the grant lets it reach: the one place that may narrow it."""
    del grant
    return question


def _visible(question: Question, grant: Grant) -> Matches:
    wanted, granted = question.filter.matches, grant.filter.matches
    return lambda event_type: wanted(event_type) and granted(event_type)


def _body(events: list[PastEvent], following: str | None, has_archive: bool) -> bytes:
    import orjson

    more: dict[str, Any] = {"next": following, "archive": has_archive}
    return b'{"events":[' + b",".join(event.json for event in events) + b"]," + orjson.dumps(more)[1:]
