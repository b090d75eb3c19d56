"""One cycle of a mind as a whole, and the list of the latest.

A cycle is named by the id of its `cycle.start`: numbers begin again with every run. What belongs to it carries its
number and lies before the next-but-one `cycle.start`, since stragglers may come while the next one is under way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from broadcast.bridge.history_requests import Question
from broadcast.bridge.moment import Moment
from broadcast.bridge.past_events import Matches, PastEvent, in_front_of, is_start
from broadcast.errors import RequestError
from broadcast.log.places import EVERYTHING, Place, Range, milliseconds
from broadcast.log.position import Position

__all__ = ["Cycle", "latest_cycles", "one_cycle"]

EVENTS_MAX: Final = 5_000
"""So many events are looked through for those of one cycle."""
ENDS_MAX: Final = 100
"""So many ends are looked through for that of a cycle of more events: its neighbours may have theirs there."""
PAGE_EVENTS: Final = 500
ERRORS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle, ready to be written."""

    head: dict[str, Any]
    start: bytes
    end: bytes | None
    events: list[bytes]

    def body(self) -> bytes:
        """It as JSON."""
        start, end = b'"start":' + self.start, b'"end":' + (self.end or b"null")
        return b"{%b,%b,%b,%b]}" % (
            start,
            end,
            orjson.dumps(self.head)[1:-1],
            b'"events":[' + b",".join(self.events),
        )


async def one_cycle(moment: Moment, question: Question, start: Position | int) -> Cycle:
    """A cycle and its events.

    Args:
        moment: the log.
        question: which of its events are wanted, and may be seen.
        start: where its `cycle.start` stands; or its number, for the newest.

    Raises:
        RequestError: there is none, or it may not be seen.
        UnreachableError: a tier that is needed does not answer.
    """
    _refuse_blind(question)
    whole = replace(EVERYTHING, earliest=question.earliest)
    place = await moment.start_of(start) if isinstance(start, int) else moment.place_of(start)
    first = None if place is None else await _start_at(moment, whole, place)
    if first is None or place is None:
        shown = start if isinstance(start, int) else start.id
        raise RequestError("not_found", f"cycle: there is no `cycle.start` {shown}")
    following = await moment.page(replace(whole, after=place), is_start, newest_first=False, count=2)
    until = in_front_of(moment.place_of(following[1].position)) if len(following) > 1 else whole.until
    begin = orjson.loads(first.json)
    asked = replace(whole, after=in_front_of(place), until=until)
    events, is_whole = await _events_of(moment, asked, question.granted.matches, begin["cycle"])
    end = _end_of(begin["cycle"], events)
    if end is None and not is_whole:
        ends = _only("cycle.end", question.granted.matches)
        end = _end_of(begin["cycle"], await moment.page(asked, ends, newest_first=False, count=ENDS_MAX))
    head = {**_head(begin, end), "whole": is_whole}
    return Cycle(head, first.json, end.json if end else None, [e.json for e in events if question.matches(e.type)])


def _end_of(number: object, events: list[PastEvent]) -> PastEvent | None:
    """The first `cycle.end` that carries a number."""
    ends = (each for each in events if each.type == "cycle.end")
    return next((each for each in ends if orjson.loads(each.json)["cycle"] == number), None)


async def _start_at(moment: Moment, whole: Range, place: Place) -> PastEvent | None:
    alone = replace(whole, after=in_front_of(place), until=place)
    found = await moment.page(alone, is_start, newest_first=False, count=1)
    return found[0] if found else None


async def _events_of(moment: Moment, asked: Range, matches: Matches, number: object) -> tuple[list[PastEvent], bool]:
    """The events of a range that carry a number, and whether all of it was looked through."""
    found: list[PastEvent] = []
    for _ in range(EVENTS_MAX // PAGE_EVENTS):
        page = await moment.page(asked, matches, newest_first=False, count=PAGE_EVENTS)
        found += [event for event in page if orjson.loads(event.json)["cycle"] == number]
        if len(page) < PAGE_EVENTS:
            return found, True
        asked = replace(asked, after=moment.place_of(page[-1].position))
    return found, False


async def latest_cycles(
    moment: Moment, question: Question, before: Position | None, *, count: int
) -> list[tuple[Position, dict[str, Any]]]:
    """The latest cycles, newest first, each with where it begins.

    Args:
        moment: the log.
        question: what may be seen.
        before: only those that began before this; None for the newest of all.
        count: at most so many.

    Raises:
        RequestError: they may not be seen.
        UnreachableError: a tier that is needed does not answer.
    """
    _refuse_blind(question)
    granted = question.granted.matches
    whole = replace(EVERYTHING, earliest=question.earliest)
    last = whole.until if before is None else in_front_of(moment.place_of(before))
    starts = await moment.page(replace(whole, until=last), is_start, newest_first=True, count=count)
    if not starts:
        return []
    oldest = moment.place_of(starts[-1].position)
    # A cycle that began before `last` may end behind it, though not behind the next one's beginning.
    next_start = await moment.page(replace(whole, after=last), is_start, newest_first=False, count=1)
    until = moment.place_of(next_start[0].position) if next_start else whole.until
    within = replace(whole, after=oldest, until=until)
    ends = await moment.page(within, _only("cycle.end", granted), newest_first=True, count=4 * count)
    errors = await moment.page(within, _only("error", granted), newest_first=True, count=ERRORS_MAX)
    described = _described(moment, starts, ends, errors if granted("error") else None)
    return [(start.position, each) for start, each in zip(starts, described, strict=True)]


def _described(
    moment: Moment, starts: list[PastEvent], ends: list[PastEvent], errors: list[PastEvent] | None
) -> list[dict[str, Any]]:
    places = [moment.place_of(start.position) for start in starts]
    counted = Counter(_holder(places, moment.place_of(error.position)) for error in errors or ())
    begins = [orjson.loads(start.json) for start in starts]
    ended: dict[int, PastEvent] = {}
    for end in ends:  # of two in one cycle, the first
        number, holder = orjson.loads(end.json)["cycle"], _holder(places, moment.place_of(end.position))
        # It may be a straggler that comes when the next one has begun.
        for at in () if holder is None else (holder, holder + 1):
            if at < len(begins) and begins[at]["cycle"] == number:
                ended[at] = end
                break
    described: list[dict[str, Any]] = []
    for at, begin in enumerate(begins):
        is_counted = errors is not None and (len(errors) < ERRORS_MAX or counted[at] > 0)
        more = {"id": begin["id"], "ts": begin["ts"], "errors": counted[at] if is_counted else None}
        described.append({**more, **_head(begin, ended.get(at))})
    return described


def _holder(starts: list[Place], place: Place) -> int | None:
    """Which of these cycles, the newest first, a place lies in."""
    return next((at for at, start in enumerate(starts) if start <= place), None)


def _head(begin: dict[str, Any], end: PastEvent | None) -> dict[str, Any]:
    duration_ms = None
    if end is not None:
        told = orjson.loads(end.json)["data"].get("duration_ms")
        is_told = isinstance(told, int | float) and not isinstance(told, bool)
        duration_ms = told if is_told else milliseconds(end.ts) - milliseconds(begin["ts"])
    return {"cycle": begin["cycle"], "day": begin["day"], "duration_ms": duration_ms}


def _only(event_type: str, granted: Matches) -> Matches:
    return lambda found: found == event_type and granted(found)


def _refuse_blind(question: Question) -> None:
    if not question.granted.matches("cycle.start"):
        raise RequestError("forbidden", "cycles: the grant leaves out 'cycle.start', where one begins")
