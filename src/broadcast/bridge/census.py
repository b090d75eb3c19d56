"""How many events lie where: what a minimap draws, and what a scrubber needs to know of the log's extent.

Buckets are whole, and begin at multiples of their width since 1970, UTC: the range is rounded outwards to them.
What is not archived yet is counted in one pass, and the loop is let go on after each page of it.

Where an end is left open, it is where the events' `ts` end, but no further than an hour outside the log's own time,
which its ids tell: else one event dated to the year 9999 would make all the others one bucket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from broadcast.bridge.history_requests import Edge, Question
from broadcast.bridge.moment import Moment
from broadcast.bridge.past_events import Matches, PastEvent
from broadcast.bridge.tally import Tally
from broadcast.errors import RequestError
from broadcast.event import timestamp
from broadcast.log.places import EVERYTHING, Range, milliseconds

__all__ = ["census"]

BUCKETS_MAX: Final = 2_000
BUCKETS_SUITABLE: Final = 300
FINE_EVENTS_MAX: Final = 20_000
"""So many archived events are counted one by one at the most, where buckets are of less than a minute."""
ASTRAY_MS: Final = 3_600_000
"""What a mind's clock dates further than this before the first event, or behind the last one, is astray."""
_FINE_S: Final = (1, 5, 15)
_WIDTHS_S: Final = (60, 300, 900, 3600, 10_800, 21_600, 86_400, 604_800, 2_592_000, 31_104_000)
_YEARS_MS: Final = range(253_402_300_800_000)
"""As far as a `ts` goes."""


async def census(moment: Moment, question: Question, matches: Matches) -> dict[str, Any]:
    """Count a question's range per bucket.

    Args:
        moment: the log.
        question: its edges stand for times.
        matches: whether an event of a type is wanted, and may be seen.

    Raises:
        RequestError: these are too many buckets, or too many events for their width, or it names a cycle that there is
            not.
        UnreachableError: a tier that is needed does not answer.
    """
    whole = replace(EVERYTHING, earliest=question.earliest)
    tally = await _tail(moment, whole, matches)
    archived = _Archived(moment, whole, await _types(moment, matches))
    first, last = [
        await moment.page(whole, matches, newest_first=newest_first, count=1) for newest_first in (False, True)
    ]
    extent = await _extent(whole, first + last, tally, archived)
    begins_ms, ends_ms = _within(await _span(tally, archived), [event.position.id.ms for event in first + last])
    begin_ms = await _time(moment, question, question.since, begins_ms)
    end_ms = await _time(moment, question, question.until, ends_ms) + 1
    earliest_ms = _earliest_ms(whole)
    begin_ms, end_ms = max(0, begin_ms, earliest_ms), min(_YEARS_MS.stop, max(begin_ms + 1, end_ms))
    fine_events = await archived.events(begin_ms, end_ms) if tally.unit_ms < 60_000 else FINE_EVENTS_MAX + 1
    width_ms = 1000 * _width_s(question.bucket_s or 0, end_ms - begin_ms, fine_events=fine_events)
    first_ms, last_ms = begin_ms // width_ms * width_ms, -(-end_ms // width_ms) * width_ms
    # Of a bucket that a grant does not reach back to with all of it, nothing is told.
    first_ms = max(first_ms, -(-earliest_ms // width_ms) * width_ms)
    tally.cut(first_ms, last_ms, width_ms=width_ms)
    for begin, event_type, events in await archived.counts(first_ms, last_ms, width_ms):
        tally.add(begin, event_type, events)
    return {"buckets": tally.buckets(), "bucket_s": width_ms // 1000, "extent": extent}


async def _tail(moment: Moment, whole: Range, matches: Matches) -> Tally:
    """What is not archived yet."""
    tally = Tally()
    async with aclosing(moment.pages_of_tail(whole, matches)) as pages:
        async for page in pages:
            for event in page:
                tally.add(milliseconds(event.ts), event.type)
            await asyncio.sleep(0)
    return tally


async def _types(moment: Moment, matches: Matches) -> list[str] | None:
    if moment.connection is None:
        return []
    from broadcast.log.archive import wanted_types

    return await wanted_types(moment.connection, matches)


class _Archived:
    """What the archive has of some types."""

    def __init__(self, moment: Moment, whole: Range, types: list[str] | None) -> None:
        self._connection = moment.connection
        self._earliest_ms = _earliest_ms(whole)
        self._types = types
        self._range = moment.in_archive(whole)

    async def counts(self, first_ms: int, last_ms: int, width_ms: int | None) -> list[tuple[int, str, int]]:
        """Per bucket and type; None for one bucket."""
        if self._connection is None or self._range is None:
            return []
        from broadcast.log.counts import MINUTE_MS, read_counts

        if first_ms >= last_ms:
            return []
        if self._earliest_ms and (exact := await self._exactly(first_ms, last_ms, width_ms)) is not None:
            return exact
        if width_ms is None or width_ms >= MINUTE_MS:
            return [*await read_counts(self._connection, first_ms, last_ms, bucket_ms=width_ms, types=self._types)]
        return await self._one_by_one(first_ms, last_ms, width_ms, events_max=2 * FINE_EVENTS_MAX)

    async def _exactly(self, first_ms: int, last_ms: int, width_ms: int | None) -> list[tuple[int, str, int]] | None:
        """The same, for who may not have all: told apart by id, one by one; None where these are too many for that.

        What the archiver has counted, by `ts`, may hold what is older by its id.
        """
        found = await self._one_by_one(first_ms, last_ms, width_ms or last_ms, events_max=FINE_EVENTS_MAX + 1)
        return found if sum(events for _, _, events in found) <= FINE_EVENTS_MAX else None

    async def _one_by_one(
        self, first_ms: int, last_ms: int, width_ms: int, *, events_max: int
    ) -> list[tuple[int, str, int]]:
        assert self._connection is not None and self._range is not None
        from broadcast.log.counts import count_events

        between = replace(self._range, ts_from=_ts(first_ms), ts_to=_ts(last_ms - 1))
        found = await count_events(self._connection, between, self._types, bucket_ms=width_ms, events_max=events_max)
        return [*found]

    async def events(self, first_ms: int, last_ms: int) -> int:
        """How many there are in the minutes between two times."""
        return sum(events for _, _, events in await self.counts(first_ms, last_ms, None))

    async def of_types(self) -> dict[str, int]:
        """How many there are of each type, as far as they may be counted."""
        if self._connection is None or self._range is None:
            return {}
        from broadcast.log.counts import MINUTE_MS, read_counts, read_totals

        if self._earliest_ms:
            found = await self._exactly(0, _YEARS_MS.stop, None)
            if found is None:  # of a minute that it may not have all of, nothing is told
                begin_ms = -(-self._earliest_ms // MINUTE_MS) * MINUTE_MS
                found = [*await read_counts(self._connection, begin_ms, _YEARS_MS.stop, types=self._types)]
            counted: Counter[str] = Counter()
            for _, name, events in found:
                counted[name] += events
            return counted

        totals = await read_totals(self._connection)
        return {name: events for name, events in totals.items() if self._types is None or name in self._types}

    async def span(self) -> tuple[int, int] | None:
        """Between which times they lie, the second exclusive; None if there are none."""
        if self._connection is None or self._range is None:
            return None
        from broadcast.log.counts import read_span

        return await read_span(self._connection, self._types)


async def _extent(whole: Range, ends: list[PastEvent], tally: Tally, archived: _Archived) -> dict[str, Any]:
    """The whole log as far as it may be seen: where it begins and ends, and how many events and cycles it has."""
    of_type = tally.of_types()
    of_type.update(await archived.of_types())
    return {
        "first": ends[0].ts if ends else None,
        "last": ends[-1].ts if ends else None,
        "events": of_type.total(),
        "cycles": of_type["cycle.start"],
    }


async def _span(tally: Tally, archived: _Archived) -> tuple[int, int]:
    """The times between which everything lies; not those of the first and the last, since a mind may have been late."""
    times = list(tally.span or ())
    if found := await archived.span():
        times += [found[0], found[1] - 1]
    return (min(times), max(times)) if times else (0, 0)


def _within(span_ms: tuple[int, int], ids_ms: list[int]) -> tuple[int, int]:
    """What of a span of times is not astray; all of it where everything is."""
    if not ids_ms:
        return span_ms
    begin_ms, end_ms = max(span_ms[0], min(ids_ms) - ASTRAY_MS), min(span_ms[1], max(ids_ms) + ASTRAY_MS)
    return (begin_ms, end_ms) if begin_ms <= end_ms else span_ms


async def _time(moment: Moment, question: Question, edge: Edge, otherwise_ms: int) -> int:
    """The time that an edge stands for, milliseconds since 1970."""
    if edge.ts is not None:
        return milliseconds(edge.ts)
    if edge.position is not None:
        return edge.position.id.ms
    if edge.cycle is not None:
        start, end = await moment.ends_of(edge, question)
        place = start.id.after() if edge is question.since else min(end.id, moment.head.id)
        return place.ms
    return otherwise_ms


def _width_s(asked_s: int, range_ms: int, *, fine_events: int) -> int:
    """How wide the buckets are.

    Raises:
        RequestError: there would be too many, or too much would have to be counted.
    """
    widths_s = (*_FINE_S, *_WIDTHS_S) if fine_events <= FINE_EVENTS_MAX else _WIDTHS_S
    if not asked_s:
        fitting = (width_s for width_s in widths_s if range_ms <= width_s * 1000 * BUCKETS_SUITABLE)
        return next(fitting, _WIDTHS_S[-1])
    buckets = range_ms // (asked_s * 1000)
    if buckets > BUCKETS_MAX:
        fits = next((s for s in _WIDTHS_S if range_ms <= s * 1000 * BUCKETS_MAX), _WIDTHS_S[-1])
        raise RequestError(
            "bad_request",
            f"bucket: this range has {buckets:,} of them, and {BUCKETS_MAX:,} are given at once; "
            f"ask for {fits // 60}m or more, or for 'auto'",
        )
    if asked_s < 60 and fine_events > FINE_EVENTS_MAX:
        raise RequestError(
            "bad_request",
            f"bucket: seconds are counted of {FINE_EVENTS_MAX:,} events at the most, and this range has more; "
            "ask for 1m or more, for less of the log, or for 'auto'",
        )
    return asked_s


def _earliest_ms(whole: Range) -> int:
    return min(whole.earliest.ms, _YEARS_MS.stop - 1)


def _ts(ms: int) -> str:
    return timestamp(ms * 1_000_000)
