"""What is answered to what viewers ask: `subscribe` and `replay`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson

from broadcast.bridge.cursor import Cursor
from broadcast.bridge.past import not_before
from broadcast.bridge.requests import Replay, parse_replay, parse_subscribe, parse_token, utc_now
from broadcast.bridge.ring import RingEvent
from broadcast.bridge.wire import unplaced
from broadcast.errors import RequestError, UnreachableError
from broadcast.log.position import START, EntryId, Gap, Position

__all__ = ["Request", "answer", "unavailable"]

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
    """
    try:
        reply = await _answer(cursor, request)
    except RequestError as error:
        reply = _error(error)
    except UnreachableError as error:
        reply = _error(unavailable(error))
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
        return await _replay(cursor, parse_replay(request.data, now=utc_now()))
    raise RequestError("not_found", "there are three requests: 'subscribe', 'replay' and 'token'")


def _renew(cursor: Cursor, token: str) -> dict[str, Any]:
    """Put a fresh token in the place of the one it came with; from here on it sees what that allows."""
    grant = cursor.rights.renewed(cursor, token)
    cursor.regrant(grant)
    expires = None if grant.expires_at is None else int(grant.expires_at)
    return {"sub": grant.subject, "exp": expires, "types": list(grant.filter.patterns), "id": str(cursor.place.id)}


async def _replay(cursor: Cursor, replay: Replay) -> dict[str, Any]:
    """Send past events again, up to where the cursor stands: what lies ahead of it comes anyway."""
    wanted, granted, fanout = replay.filter or cursor.wanted, cursor.grant.filter, cursor.fanout
    if not fanout.is_loaded:
        raise UnreachableError("it has not been read yet")

    def matches(event_type: str) -> bool:
        return wanted.matches(event_type) and granted.matches(event_type)

    earliest = _earliest_replayed(cursor)
    if replay.since.position is None and replay.until_ts is None:
        events = await fanout.history.newest(matches, count=replay.count, until=cursor.place.id)
    else:
        events = await _between(cursor, replay, matches, earliest)
    events = [event for event in events if event.id >= earliest]
    cursor.rights.note_replayed(cursor, len(events))
    form = unplaced(cursor.audience().form)
    await cursor.send_events(event.encoded(form) for event in events)
    first, last = (str(events[0].id), str(events[-1].id)) if events else (None, None)
    return {"count": len(events), "first": first, "last": last}


def _earliest_replayed(cursor: Cursor) -> EntryId:
    """What it may have of the past.

    Raises:
        RequestError: nothing at all, or nothing more just now.
    """
    if cursor.grant.replay_count_max == 0:
        raise RequestError("forbidden", "replay: this token gives nothing of the past")
    cursor.rights.refuse_replay(cursor)
    return cursor.fanout.earliest(cursor.grant)


async def _between(
    cursor: Cursor, replay: Replay, matches: Callable[[str], bool], earliest: EntryId
) -> list[RingEvent]:
    begin = not_before(replay.since.position or Position(START), earliest)
    found: list[RingEvent] = []
    async for page in cursor.fanout.past(begin, until=cursor.place.id):
        for event in () if isinstance(page, Gap) else page:
            if replay.covers(event.ts) and matches(event.type):
                found.append(event)
        if len(found) >= replay.count:
            break
    return list(islice(found, replay.count))


def unavailable(error: UnreachableError) -> RequestError:
    """What a viewer is told while the log cannot be read."""
    return RequestError("unavailable", f"the log cannot be read: {error}"[:200])


def _error(error: RequestError) -> dict[str, Any]:
    return {"error": {"code": error.code.name, "message": error.message}}
