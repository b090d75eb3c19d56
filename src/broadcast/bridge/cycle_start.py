"""Where a cycle begins and ends, for who names it by its number: the newest of that number, in whichever tier it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

from broadcast.errors import RequestError, UnreachableError
from broadcast.log.position import START, EntryId, Position, Since

if TYPE_CHECKING:
    from broadcast.bridge.fanout import Fanout
    from broadcast.bridge.grant import Grant

__all__ = ["allowed", "allowed_range", "found"]

PAGE_EVENTS: Final = 500


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What was found of a cycle on the way back through the log."""

    start: Position | None = None
    """In front of its `cycle.start`; None if it was not found."""
    following: Position | None = None
    """In front of the `cycle.start` behind that, or behind what was not looked at yet; None if there is none."""


async def allowed(fanout: Fanout, since: Since, grant: Grant) -> Since:
    """As `found`, for whoever may see what a grant allows; what it may not is not told to be there.

    Raises:
        RequestError: there is no such cycle, or it may not be seen.
        UnreachableError: it is to be looked for where nothing can be read.
    """
    return (await allowed_range(fanout, since, Since(None), grant))[0]


async def allowed_range(fanout: Fanout, since: Since, until: Since, grant: Grant) -> tuple[Since, Since]:
    """The same of both ends: a cycle at the end is over in front of the next one; the newest one, where the log is.

    One that is named by both is looked for once.

    Raises:
        RequestError: there is no such cycle, or it may not be seen.
        UnreachableError: it is to be looked for where nothing can be read.
    """
    named = [edge.cycle for edge in (since, until) if edge.cycle is not None]
    there = {number: await _allowed(fanout, number, grant) for number in dict.fromkeys(named)}
    if since.cycle is not None:
        since = replace(since, position=there[since.cycle].start, cycle=None)
    if until.cycle is not None:
        until = replace(until, position=there[until.cycle].following, cycle=None)
    return since, until


async def _allowed(fanout: Fanout, cycle: int, grant: Grant) -> _Cycle:
    if not grant.filter.matches("cycle.start"):
        raise RequestError("forbidden", "cycle: the grant leaves out 'cycle.start', where one begins")
    there = await _found(fanout, cycle)
    if there.start is not None and there.start.id < fanout.earliest(grant).before():
        raise _none(cycle)
    return there


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
    return replace(since, position=(await _found(fanout, since.cycle)).start, cycle=None)


async def _found(fanout: Fanout, number: int) -> _Cycle:
    there = _in_ring(fanout, number)
    if there.start is None:
        there = await _behind_the_ring(fanout, number, there)
    if there.start is None:
        raise _none(number)
    return there


def _in_ring(fanout: Fanout, number: int) -> _Cycle:
    following: Position | None = None
    for event in fanout.ring.newest_first(lambda name: name == "cycle.start", until=fanout.head.id):
        start = Position(event.id.before(), is_moment=True)
        if orjson.loads(event.json).get("cycle") == number:
            return _Cycle(start, following)
        following = start
    return _Cycle(following=following)


async def _behind_the_ring(fanout: Fanout, number: int, behind: _Cycle) -> _Cycle:
    past = fanout.history.past
    if past is None:
        return await _in_stream(fanout, number, START, behind)
    try:
        archived = await past.cycle(number)
    except UnreachableError:
        if (there := await _in_stream(fanout, number, START, behind)).start is None:
            raise
        return there
    end = archived.checkpoint
    down_to = START if end is None or end.epoch != fanout.head.epoch else end.id
    try:
        there = await _in_stream(fanout, number, down_to, behind)
    except UnreachableError:  # what there is, is better than nothing
        there = behind
    return there if there.start is not None else _Cycle(archived.start, archived.following or there.following)


async def _in_stream(fanout: Fanout, number: int, down_to: EntryId, behind: _Cycle) -> _Cycle:
    """What the stream has of it in front of the ring, and behind an id."""
    if fanout.history.is_ring_whole:
        return behind
    following = behind.following
    first = fanout.ring.first_event()
    before = fanout.head.id.after() if first is None else first.id
    while before > down_to.after() and (entries := await fanout.reader.older(before, count=PAGE_EVENTS)):
        for entry in reversed(entries):
            if entry.event["type"] != "cycle.start" or entry.id <= down_to:
                continue
            start = Position(entry.id.before(), is_moment=True)
            if entry.event.get("cycle") == number:
                return _Cycle(start, following)
            following = start
        before = entries[0].id
    return _Cycle(following=following)
