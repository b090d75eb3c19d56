"""Where a cycle begins, for who names it by its number: the newest of that number, in whichever tier it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from broadcast.errors import RequestError, UnreachableError
from broadcast.log.position import Position, Since

if TYPE_CHECKING:
    from broadcast.bridge.fanout import Fanout

__all__ = ["found"]

PAGE_EVENTS: Final = 500


async def found(fanout: Fanout, since: Since) -> Since:
    """The same with a position in the place of a cycle's number.

    Raises:
        RequestError: there is no such cycle.
        UnreachableError: it is to be looked for where nothing can be read.
    """
    if since.cycle is None:
        return since
    position = _in_ring(fanout, since.cycle) or await _in_stream(fanout, since.cycle)
    if position is None and fanout.history.past is not None:
        archived = await fanout.history.past.cycle(since.cycle)
        position = None if archived is None else archived[0]
    if position is None:
        raise RequestError("not_found", f"cycle: there is none of the number {since.cycle} in what is kept of the log")
    return replace(since, position=position, cycle=None)


def _in_ring(fanout: Fanout, number: int) -> Position | None:
    for event in fanout.ring.newest_first(lambda name: name == "cycle.start", until=fanout.head.id):
        if orjson.loads(event.json).get("cycle") == number:
            return Position(event.id.before(), is_moment=True)
    return None


async def _in_stream(fanout: Fanout, number: int) -> Position | None:
    if fanout.history.is_ring_whole:
        return None
    first = fanout.ring.first_event()
    before = fanout.head.id.after() if first is None else first.id
    try:
        while entries := await fanout.reader.older(before, count=PAGE_EVENTS):
            for entry in reversed(entries):
                if entry.event["type"] == "cycle.start" and entry.event.get("cycle") == number:
                    return Position(entry.id.before(), is_moment=True)
            before = entries[0].id
    except UnreachableError:
        if fanout.history.past is None:
            raise
    return None
