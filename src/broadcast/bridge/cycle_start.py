"""Where a cycle begins, for who names it by its number: the newest of that number, in whichever tier it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from broadcast.errors import RequestError, UnreachableError
from broadcast.log.position import START, EntryId, Position, Since

if TYPE_CHECKING:
    from broadcast.bridge.fanout import Fanout
    from broadcast.bridge.grant import Grant

__all__ = ["allowed", "found"]

PAGE_EVENTS: Final = 500


async def allowed(fanout: Fanout, since: Since, grant: Grant) -> Since:
    """As `found`, for whoever may see what a grant allows; what it may not is not told to be there.

    Raises:
        RequestError: there is no such cycle, or it may not be seen.
        UnreachableError: it is to be looked for where nothing can be read.
    """
    if since.cycle is None:
        return since
    if not grant.filter.matches("cycle.start"):
        raise RequestError("forbidden", "cycle: the grant leaves out 'cycle.start', where one begins")
    begin = await found(fanout, since)
    if begin.position is not None and begin.position.id < fanout.earliest(grant).before():
        raise _none(since.cycle)
    return begin


def _none(cycle: int) -> RequestError:
    return RequestError("not_found", f"cycle: there is none of the number {cycle} in what is kept of the log")


async def found(fanout: Fanout, since: Since) -> Since:
    """The same with a position in the place of a cycle's number.

    Raises:
        RequestError: there is no such cycle.
        UnreachableError: it is to be looked for where nothing can be read.
    """
    if since.cycle is None:
        return since
    position = _in_ring(fanout, since.cycle) or await _behind_the_ring(fanout, since.cycle)
    if position is None:
        raise _none(since.cycle)
    return replace(since, position=position, cycle=None)


def _in_ring(fanout: Fanout, number: int) -> Position | None:
    for event in fanout.ring.newest_first(lambda name: name == "cycle.start", until=fanout.head.id):
        if orjson.loads(event.json).get("cycle") == number:
            return Position(event.id.before(), is_moment=True)
    return None


async def _behind_the_ring(fanout: Fanout, number: int) -> Position | None:
    past = fanout.history.past
    if past is None:
        return await _in_stream(fanout, number, START)
    try:
        archived = await past.cycle(number)
    except UnreachableError:
        if (position := await _in_stream(fanout, number, START)) is None:
            raise
        return position
    end = archived.checkpoint
    down_to = START if end is None or end.epoch != fanout.head.epoch else end.id
    try:
        return await _in_stream(fanout, number, down_to) or archived.start
    except UnreachableError:  # what there is, is better than nothing
        return archived.start


async def _in_stream(fanout: Fanout, number: int, down_to: EntryId) -> Position | None:
    """What the stream has of it in front of the ring, and behind an id."""
    if fanout.history.is_ring_whole:
        return None
    first = fanout.ring.first_event()
    before = fanout.head.id.after() if first is None else first.id
    while before > down_to.after() and (entries := await fanout.reader.older(before, count=PAGE_EVENTS)):
        for entry in reversed(entries):
            if entry.event["type"] == "cycle.start" and entry.event.get("cycle") == number:
                return Position(entry.id.before(), is_moment=True)
        before = entries[0].id
    return None
