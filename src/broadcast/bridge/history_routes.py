"""The log's past over HTTP: `GET /history`, and what is asked of it most: `GET /cycles`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broadcast.bridge.bodies import Bodies, BodyResponse
from broadcast.bridge.census import census
from broadcast.bridge.cycles import latest_cycles, one_cycle
from broadcast.bridge.exporting import NDJSON, ExportResponse
from broadcast.bridge.exports import Export, Exports
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.grant import Grant
from broadcast.bridge.history_requests import Question, parse_number, parse_place, parse_question, write_cursor
from broadcast.bridge.outage import Outage
from broadcast.bridge.past_events import PastEvent
from broadcast.bridge.request_door import RequestDoor
from broadcast.bridge.requests import utc_now
from broadcast.bridge.rights import holder_of
from broadcast.bridge.seals import is_held, seal
from broadcast.bridge.tiers import Tiers
from broadcast.errors import RequestError, UnreachableError

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["HistoryRoutes"]

CYCLES_DEFAULT: Final = 20
CYCLES_MAX: Final = 100
_HEADERS: Final[Mapping[str, str]] = {
    # What one viewer may see, another may not; and what was erased is not to be shown again. So nothing is shown from
    # a cache that was not asked for anew, with a token.
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie, Accept",
}


class HistoryRoutes:
    """The routes of the past.

    Args:
        fanout: the log as this bridge has it.
        archive: what lies behind the stream; None where there is none.
        door: finds the grant of a request.
    """

    def __init__(self, *, fanout: Fanout, archive: Archive | None, door: RequestDoor) -> None:
        self._fanout = fanout
        self._tiers = Tiers(fanout, archive)
        self._exports = Exports(self._tiers)
        self._bodies = Bodies()
        self._door = door
        self._outage = Outage("this range cannot be read just now")
        self.routes = [
            Route("/history", self._history),
            Route("/cycles", self._cycles),
            Route("/cycles/{id}", self._cycle),
        ]

    def _asked(self, request: Request) -> tuple[Grant, Question]:
        grant = self._door.grant_of(request, only_reads=True)
        self._door.rights.refuse_past(_holder(request, grant))
        if grant.replay_count_max == 0:
            raise RequestError("forbidden", "this token gives nothing of the past")
        if grant.replay_count_max is not None and not self._fanout.is_loaded:
            raise RequestError("unavailable", "which events are the newest is not known yet")
        question = parse_question(request.query_params, now=utc_now())
        # The one place that narrows what is asked by what is granted: it holds for every route here.
        return grant, replace(question, granted=grant.filter, earliest=self._fanout.earliest(grant))

    async def _history(self, request: Request) -> Response:
        grant, question = self._asked(request)
        try:
            if question.bucket_s is not None:
                return await self._census(request, question, grant)
            return await self._events(request, question, grant)
        except UnreachableError as error:
            raise self._outage.refusal(error) from None

    async def _events(self, request: Request, question: Question, grant: Grant) -> Response:
        as_lines = NDJSON in request.headers.get("accept", "")
        etag = await self._seal(request, question, as_lines=as_lines)
        headers = {**_HEADERS, "ETag": etag} if etag else _HEADERS
        if etag and is_held(etag, request.headers):
            return Response(None, 304, headers)
        if as_lines and request.method == "HEAD":
            return Response(None, 200, headers, NDJSON)
        if as_lines:
            return ExportResponse(await self._export(request, question, grant), headers)
        question = await self._tiers.settled(question)
        events, is_more = await self._tiers.page(question, question.matches, count=question.count)
        self._note(request, grant, len(events))
        following = write_cursor(events[-1].position, question) if is_more else None
        body = _body(events, following, self._tiers.archive is not None)
        return BodyResponse(body, headers, bodies=self._bodies, holder=_holder(request, grant))

    def _told(self, request: Request, grant: Grant, body: bytes) -> Response:
        """An answer that is known to be the same only by looking at it."""
        etag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
        headers = {**_HEADERS, "ETag": etag}
        if is_held(etag, request.headers):
            return Response(None, 304, headers)
        return BodyResponse(body, headers, bodies=self._bodies, holder=_holder(request, grant))

    def _note(self, request: Request, grant: Grant, events: int) -> None:
        self._door.rights.note_past(_holder(request, grant), events)

    async def _export(self, request: Request, question: Question, grant: Grant) -> Export:
        still, holder = partial(self._door.refuse_ended, grant), _holder(request, grant)
        return await self._exports.begin(question, question.matches, holder=holder, refuse_ended=still)

    async def _seal(self, request: Request, question: Question, *, as_lines: bool) -> str | None:
        if self._tiers.archive is None or question.until.is_open:
            return None
        asked = ("lines" if as_lines else "page", *(f"{k}={v}" for k, v in sorted(request.query_params.items())))
        try:
            return await self._tiers.at_one_moment(
                lambda moment: seal(moment, question, *asked, key=self._door.seal_key)
            )
        except UnreachableError:
            return None

    async def _census(self, request: Request, question: Question, grant: Grant) -> Response:
        counted = await self._tiers.at_one_moment(lambda moment: census(moment, question, question.matches))
        return self._told(request, grant, orjson.dumps({**counted, "archive": self._tiers.archive is not None}))

    async def _cycle(self, request: Request) -> Response:
        start = parse_place("id", request.path_params["id"])
        grant, question = self._asked(request)
        try:
            cycle = await self._tiers.at_one_moment(lambda moment: one_cycle(moment, question, start))
        except UnreachableError as error:
            raise self._outage.refusal(error) from None
        self._note(request, grant, len(cycle.events))
        return self._told(request, grant, cycle.body())

    async def _cycles(self, request: Request) -> Response:
        query, (grant, question) = request.query_params, self._asked(request)
        number = parse_number("cycle", query.get("cycle"), least=-(2**63))
        before = None if not query.get("before") else parse_place("before", query["before"])
        count = min(question.limit or CYCLES_DEFAULT, CYCLES_MAX)
        try:
            if number is not None:
                cycle = await self._tiers.at_one_moment(lambda moment: one_cycle(moment, question, number))
                self._note(request, grant, len(cycle.events))
                return self._told(request, grant, cycle.body())
            found = await self._tiers.at_one_moment(
                lambda moment: latest_cycles(moment, question, before, count=count + 1)
            )
        except UnreachableError as error:
            raise self._outage.refusal(error) from None
        self._note(request, grant, min(count, len(found)))
        following = write_cursor(found[count - 1][0]) if len(found) > count else None
        return self._told(
            request, grant, orjson.dumps({"cycles": [each for _, each in found[:count]], "next": following})
        )


def _holder(request: Request, grant: Grant) -> str:
    return holder_of(grant, request.client.host if request.client else "")


def _body(events: list[PastEvent], following: str | None, has_archive: bool) -> bytes:
    more: dict[str, Any] = {"next": following, "archive": has_archive}
    return b'{"events":[' + b",".join([event.json for event in events]) + b"]," + orjson.dumps(more)[1:]
