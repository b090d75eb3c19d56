"""What is answered to what viewers ask: `subscribe` and `replay`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from broadcast.bridge import cycle_start
from broadcast.bridge.allowed import NOTHING, not_before
from broadcast.bridge.cursor import Cursor
from broadcast.bridge.handover import newest_allowed
from broadcast.bridge.past import Wanted
from broadcast.bridge.requests import (
    Control,
    Replay,
    TimedRequest,
    parse_control,
    parse_replay,
    parse_subscribe,
    parse_token,
    utc_now,
)
from broadcast.bridge.ring import RingEvent
from broadcast.bridge.timed import TimedReplays
from broadcast.bridge.walk import Walk, end_of
from broadcast.bridge.wire import unplaced
from broadcast.errors import RequestError, UnreachableError
from broadcast.log.position import START, EntryId, Gap, Position

__all__ = ["Request", "answer"]

GAPS_MAX: Final = 100
"""An answer names no more."""
TOO_MANY: Final = "it asks more, or faster, than is answered; wait for answers, and a little"


@dataclass(frozen=True, slots=True)
class Request:
    """What a viewer asked; its answer goes out in its turn."""

    name: object
    data: object
    reply: Callable[[str], None] | None
    """Writes the acknowledgement, JSON; None if the viewer wants none."""
    is_one_too_many: bool = False
    """Whether it is refused, because there were too many when it came."""


async def answer(cursor: Cursor, request: Request) -> None:
    """Do what a viewer asks, and acknowledge it, whatever comes of it.

    Raises:
        TooSlowError: it does not take the answer.
        DismissedError: it is told to go meanwhile.
    """
    try:
        reply = await _answer(cursor, request)
    except RequestError as error:
        reply = _refused(cursor, error)
    except UnreachableError as error:
        reply = _refused(cursor, cursor.fanout.outage.refusal(error))
    if request.reply is not None:
        request.reply(orjson.dumps(reply).decode())


async def _answer(cursor: Cursor, request: Request) -> dict[str, Any]:
    if request.is_one_too_many:
        raise RequestError("too_many_requests", TOO_MANY)
    if request.name == "subscribe":
        cursor.wanted = parse_subscribe(request.data)
        return {"types": list(cursor.wanted.patterns), "id": str(cursor.place.id)}
    if request.name == "token":
        return _renew(cursor, parse_token(request.data))
    if request.name == "replay":
        replay = parse_replay(request.data, now=utc_now())
        return await (_replay(cursor, replay) if isinstance(replay, Replay) else _start(cursor, replay))
    if request.name == "replay.control":
        return await _control(cursor, parse_control(request.data, now=utc_now()))
    raise RequestError("not_found", "there are four requests: 'subscribe', 'replay', 'replay.control' and 'token'")


def _renew(cursor: Cursor, token: str) -> dict[str, Any]:
    """Put a fresh token in the place of the one it came with; from here on it sees what that allows."""
    grant = cursor.rights.renewed(cursor, token)
    cursor.regrant(grant)
    expires = None if grant.expires_at is None else int(grant.expires_at)
    return {"sub": grant.subject, "exp": expires, "types": list(grant.filter.patterns), "id": str(cursor.place.id)}


async def _start(cursor: Cursor, request: TimedRequest) -> dict[str, Any]:
    """Begin a timed replay; its first event comes behind the answer."""
    _refuse_unloaded(cursor)
    _refuse_past(cursor)
    if cursor.timed is None:
        cursor.timed = TimedReplays(cursor)
    since, until = await cycle_start.allowed_range(cursor.fanout, request.since, request.until, cursor.grant)
    timed = cursor.timed.start(replace(request, since=since, until=until))
    return {"replay": timed.name, "speed": request.speed, "idle_s": request.idle_s}


async def _control(cursor: Cursor, control: Control) -> dict[str, Any]:
    timed = (cursor.timed or TimedReplays(cursor)).named(control.replay)
    timed.control(control, await cycle_start.allowed(cursor.fanout, control.since, cursor.grant))
    return timed.state()


def _refuse_unloaded(cursor: Cursor) -> None:
    if not cursor.fanout.is_loaded:
        raise UnreachableError("it has not been read yet")


def _refuse_past(cursor: Cursor) -> None:
    """Look whether it may have anything of the past.

    Raises:
        RequestError: nothing at all, or nothing more just now.
    """
    if cursor.grant.replay_count_max == 0:
        raise RequestError("forbidden", "replay: this token gives nothing of the past")
    cursor.rights.refuse_replay(cursor)


async def _replay(cursor: Cursor, replay: Replay) -> dict[str, Any]:
    """Send past events again, up to where the cursor stands: what lies ahead of it comes anyway."""
    wanted, granted, fanout = replay.filter or cursor.wanted, cursor.grant.filter, cursor.fanout
    _refuse_unloaded(cursor)
    _refuse_past(cursor)
    earliest = fanout.earliest(cursor.grant)
    since, until = await cycle_start.allowed_range(fanout, replay.since, replay.until, cursor.grant)
    asked = Wanted(wanted, granted, since.ts, until.ts)
    lacks_archive = False
    pieces: Sequence[RingEvent | Gap]
    if since.position is None and until.position is None:
        pieces = newest_allowed(await fanout.history.newest(asked, count=replay.count, until=cursor.place), earliest)
    else:
        walk = Walk(
            fanout, not_before(since.position or Position(START), earliest), asked, until=end_of(until, cursor.place)
        )
        pieces, lacks_archive = await _first(walk, replay.count), walk.lacks_archive
        pieces = [piece for piece in pieces if _begins_with(piece) >= earliest]
    events = [piece for piece in pieces if isinstance(piece, RingEvent)]
    cursor.rights.note_replayed(cursor, len(events))
    form = unplaced(cursor.audience().form)
    await cursor.send_events(events, form, asked.matches)
    first, last = (str(events[0].id), str(events[-1].id)) if events else (None, None)
    told: dict[str, Any] = {"count": len(events), "first": first, "last": last}
    if gaps := [piece.as_data() for piece in pieces if isinstance(piece, Gap)]:
        told["gaps"] = gaps[:GAPS_MAX]
    return {**told, "archive": "down"} if lacks_archive else told


async def _first(walk: Walk, count: int) -> list[RingEvent | Gap]:
    """The first events, and what is missing before each of them, or behind all that there are."""
    found: list[RingEvent | Gap] = []
    async with aclosing(walk.pages()) as pages:
        async for page in pages:
            if isinstance(page, Gap):
                found.append(page)
                continue
            found += page[:count]
            count -= len(page)
            if count <= 0:
                break
    return found


def _begins_with(piece: RingEvent | Gap) -> EntryId:
    """Its id, or that of the event behind it."""
    return piece.id if isinstance(piece, RingEvent) else piece.before or NOTHING


def _refused(cursor: Cursor, error: RequestError) -> dict[str, Any]:
    whose = cursor.connection.describe()
    cursor.rights.refusals.count_request(
        error.code, address=whose.get("address", ""), transport=whose.get("transport", "")
    )
    return {"error": {"code": error.code.name, "message": error.message}}
