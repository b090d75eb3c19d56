"""How many events lie where: what a minimap draws, and what a scrubber needs to know of the log's extent.

Buckets are whole, and begin at multiples of their width since 1970, UTC: the range is rounded outwards to them.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from broadcast.bridge.history_requests import Edge, Question
from broadcast.bridge.moment import Moment
from broadcast.bridge.past_events import Matches
from broadcast.errors import RequestError
from broadcast.event import timestamp
from broadcast.log.places import EVERYTHING, Range, milliseconds
from broadcast.log.position import START

__all__ = ["census"]

BUCKETS_MAX: Final = 2_000
BUCKETS_SUITABLE: Final = 300
_WIDTHS_S: Final = (60, 300, 900, 3600, 10_800, 21_600, 86_400, 604_800, 2_592_000, 31_104_000)
_YEARS_MS: Final = range(253_402_300_800_000)
"""As far as a `ts` goes."""


@dataclass(slots=True)
class _Tally:
    """Events by bucket and type."""

    width_ms: int
    events: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])

    def add(self, ts_ms: int, event_type: str, events: int = 1) -> None:
        self.events[ts_ms - ts_ms % self.width_ms, event_type] += events

    def buckets(self) -> list[dict[str, Any]]:
        types: dict[int, dict[str, int]] = {}
        for (begin_ms, event_type), events in sorted(self.events.items()):
            types.setdefault(begin_ms, {})[event_type] = events
        return [
            {"ts": timestamp(begin_ms * 1_000_000), "count": sum(found.values()), "types": found}
            for begin_ms, found in types.items()
        ]


async def census(moment: Moment, question: Question, matches: Matches) -> dict[str, Any]:
    """Count a question's range per bucket.

    Args:
        moment: the log.
        question: its edges stand for times.
        matches: whether an event of a type is wanted, and may be seen.

    Raises:
        RequestError: these are too many buckets, or it names a cycle that there is not.
        UnreachableError: a tier that is needed does not answer.
    """
    extent = await _extent(moment, question, matches)
    whole = replace(EVERYTHING, earliest=question.earliest)
    begins_ms, ends_ms = await _span(moment, whole, matches)
    begin_ms = await _time(moment, question, question.since, begins_ms)
    end_ms = await _time(moment, question, question.until, ends_ms) + 1
    begin_ms, end_ms = max(0, begin_ms, question.earliest.ms), min(_YEARS_MS.stop, max(begin_ms + 1, end_ms))
    width_ms = 1000 * _width_s(question.bucket_s or 0, end_ms - begin_ms)
    first_ms, last_ms = begin_ms // width_ms * width_ms, -(-end_ms // width_ms) * width_ms
    # Of a bucket that a grant does not reach back to with all of it, nothing is told.
    first_ms = max(first_ms, -(-question.earliest.ms // width_ms) * width_ms)
    tally = _Tally(width_ms)
    await _count(tally, moment, whole, matches, (first_ms, last_ms))
    return {"buckets": tally.buckets(), "bucket_s": width_ms // 1000, "extent": extent}


async def _count(tally: _Tally, moment: Moment, whole: Range, matches: Matches, times_ms: tuple[int, int]) -> None:
    first_ms, last_ms = times_ms
    async with aclosing(moment.pages_of_tail(whole, matches)) as pages:
        async for page in pages:
            for event in page:
                if first_ms <= (ts_ms := milliseconds(event.ts)) < last_ms:
                    tally.add(ts_ms, event.type)
    if moment.connection is not None and moment.extent is not None:
        from broadcast.log.archive import wanted_types
        from broadcast.log.counts import read_counts

        types = await wanted_types(moment.connection, matches)
        counts = await read_counts(moment.connection, first_ms, last_ms, bucket_ms=tally.width_ms, types=types)
        for count in counts:
            tally.add(count.begin_ms, count.type, count.events)


async def _extent(moment: Moment, question: Question, matches: Matches) -> dict[str, Any]:
    """The whole log as far as it may be seen: where it begins and ends, and how many events and cycles it has."""
    whole = replace(EVERYTHING, earliest=question.earliest)
    first, last = [
        await moment.page(whole, matches, newest_first=newest_first, count=1) for newest_first in (False, True)
    ]
    of_type = Counter[str]()
    async with aclosing(moment.pages_of_tail(whole, matches)) as pages:
        async for page in pages:
            of_type.update(event.type for event in page)
    if moment.connection is not None and moment.extent is not None:
        from broadcast.log.archive import wanted_types
        from broadcast.log.counts import read_counts, read_totals

        if question.earliest == START:
            of_type.update({name: n for name, n in (await read_totals(moment.connection)).items() if matches(name)})
        else:
            types = await wanted_types(moment.connection, matches)
            begin_ms = question.earliest.ms
            for count in await read_counts(moment.connection, begin_ms, _YEARS_MS.stop, types=types):
                of_type[count.type] += count.events
    return {
        "first": first[0].ts if first else None,
        "last": last[0].ts if last else None,
        "events": of_type.total(),
        "cycles": of_type["cycle.start"],
    }


async def _span(moment: Moment, whole: Range, matches: Matches) -> tuple[int, int]:
    """The times between which everything lies; not those of the first and the last, since a mind may have been late."""
    times: list[int] = []
    async with aclosing(moment.pages_of_tail(whole, matches)) as pages:
        async for page in pages:
            times += [milliseconds(event.ts) for event in page]
    if moment.connection is not None and moment.extent is not None:
        from broadcast.log.archive import wanted_types
        from broadcast.log.counts import read_span

        begin_ms, end_ms = await read_span(moment.connection, await wanted_types(moment.connection, matches)) or (0, 0)
        times += [begin_ms, end_ms - 1] if end_ms else []
    return (min(times), max(times)) if times else (0, 0)


async def _time(moment: Moment, question: Question, edge: Edge, otherwise_ms: int) -> int:
    """The time that an edge stands for, milliseconds since 1970."""
    if edge.ts is not None:
        return milliseconds(edge.ts)
    if edge.position is not None:
        return edge.position.id.ms
    if edge.cycle is not None:
        start, end = await moment.ends_of(edge.cycle, question.granted.matches, question.earliest)
        place = start.id.after() if edge is question.since else min(end.id, moment.head.id)
        return place.ms
    return otherwise_ms


def _width_s(asked_s: int, range_ms: int) -> int:
    """How wide the buckets are.

    Raises:
        RequestError: there would be too many.
    """
    if not asked_s:
        fitting = (width_s for width_s in _WIDTHS_S if range_ms <= width_s * 1000 * BUCKETS_SUITABLE)
        return next(fitting, _WIDTHS_S[-1])
    buckets = range_ms // (asked_s * 1000)
    if buckets > BUCKETS_MAX:
        fits = next((s for s in _WIDTHS_S if range_ms <= s * 1000 * BUCKETS_MAX), _WIDTHS_S[-1])
        raise RequestError(
            "bad_request",
            f"bucket: this range has {buckets:,} of them, and {BUCKETS_MAX:,} are given at once; "
            f"ask for {fits // 60}m or more, or for 'auto'",
        )
    return asked_s
