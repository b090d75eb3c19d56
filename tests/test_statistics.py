"""What an archive tells as a whole, on a real PostgreSQL, against the same counted here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from random import Random
from typing import Any

import pytest

from broadcast.event import timestamp
from broadcast.log.archive import Archive
from broadcast.log.counts import Count, read_counts
from broadcast.log.statistics import Statistics, read_statistics
from tests.archives import database, fill
from tests.pasts import BEGAN_MS, event
from tests.postgresql import PostgresqlServer

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def statistics(url: str, **options: Any) -> Statistics | None:
    async def read() -> Statistics | None:
        async with aclosing(Archive(url)) as archive:
            return await read_statistics(archive, **options)

    return asyncio.run(read())


def life(cycles: int) -> list[dict[str, Any]]:
    """Cycles of a minute and their number of seconds; in every third, something goes wrong."""
    events: list[dict[str, Any]] = []
    for cycle in range(1, cycles + 1):
        begin_ms = BEGAN_MS + cycle * 20 * MINUTE_MS
        end_ms = begin_ms + MINUTE_MS + cycle * 1000
        told: dict[str, Any] = {"duration_ms": end_ms - begin_ms + 0.5} if cycle % 2 else {}
        marks: list[tuple[str, int, dict[str, Any]]] = [("cycle.start", begin_ms, {}), ("cycle.end", end_ms, told)]
        if cycle % 3 == 0:
            marks.insert(1, ("error", begin_ms + 500, {"source": "sense", "message": f"no {cycle}"}))
        events += [event(ms, 0, None, name, ts_ms=ms, cycle=cycle, **data) for name, ms, data in marks]
    return events


def test_an_empty_archive_tells_nothing(url: str) -> None:
    assert statistics(url) is None


def test_a_life_is_told_in_numbers(url: str) -> None:
    events = life(100)
    fill(url, events)
    told = statistics(url, shown=3)
    assert told is not None
    assert (len(events), 100, 33) == (told.events, told.cycles, told.errors)
    assert (("cycle.end", 100), ("cycle.start", 100), ("error", 33)) == told.types
    assert tuple(sorted(Counter(e["ts"][:10] for e in events).items())) == told.days
    assert (100, 110_500.25, 2.33) == (told.ended, told.median_ms, told.events_per_cycle)
    assert [(1, 233, 100, 33)] == [(d.day, d.events, d.cycles, d.errors) for d in told.mind_days]
    assert [(100, 160_000.0, 0), (99, 159_000.5, 1), (98, 158_000.0, 0)] == [
        (slow.cycle, slow.duration_ms, slow.errors) for slow in told.slowest
    ]
    assert events[-2]["id"] == told.slowest[0].id and events[-2]["ts"] == told.slowest[0].ts
    assert [("sense", "no 99"), ("sense", "no 96"), ("sense", "no 93")] == [
        (f.source, f.message) for f in told.failures
    ]


def test_a_range_is_told_alone(url: str) -> None:
    events = life(30)
    fill(url, events)
    inside = [e for e in events if 10 <= e["cycle"] <= 12]
    told = statistics(url, ts_from=inside[0]["ts"], ts_to=inside[-1]["ts"])
    assert told is not None
    assert (len(inside), 3, 1) == (told.events, told.cycles, len(told.failures))
    assert [12, 11, 10] == [slow.cycle for slow in told.slowest]


def test_all_numbers_of_a_range_are_of_the_same_range_to_the_millisecond(url: str) -> None:
    events = life(40)
    fill(url, events)
    draw = Random(13)
    edges = [event["ts"] for event in events]
    moments = [timestamp(BEGAN_MS * 10**6 + draw.randrange(40 * 20 * MINUTE_MS) * 10**6) for _ in range(10)]
    pairs = [sorted(draw.sample(edges + moments, 2)) for _ in range(25)]
    same_minute = (edges[0], timestamp((BEGAN_MS + 20 * MINUTE_MS + 5) * 10**6))
    for begin, end in [*pairs, same_minute, (edges[3], edges[3]), (None, edges[5]), (edges[5], None)]:
        inside = [e for e in events if (begin or "") <= e["ts"] <= (end or "~")]
        told = statistics(url, ts_from=begin, ts_to=end)
        assert told is not None
        of_type = Counter(e["type"] for e in inside)
        assert (len(inside), of_type["cycle.start"]) == (told.events, told.cycles), (begin, end)
        assert (of_type["error"], min(10, of_type["error"])) == (told.errors, len(told.failures))
        assert (len(inside), dict(of_type)) == (sum(day.events for day in told.mind_days), dict(told.types))
        assert sorted(Counter(e["ts"][:10] for e in inside).items()) == list(told.days)


def test_what_is_not_the_minds_makes_no_day_of_its_own(url: str) -> None:
    events = life(3)
    blank = {**events[-1], "id": f"{BEGAN_MS + 100 * MINUTE_MS}-0", "type": "broadcast.blank", "cycle": 0, "day": 0}
    fill(url, [*events, blank])
    told = statistics(url)
    assert told is not None and len(events) + 1 == told.events
    assert [(1, len(events))] == [(day.day, day.events) for day in told.mind_days]


def test_buckets_are_what_one_counts(url: str) -> None:
    draw = Random(7)
    times = sorted(BEGAN_MS + draw.randrange(30 * HOUR_MS) for _ in range(400))
    events = [event(ms, 0, None, draw.choice(("error", "state.mood")), ts_ms=ms, cycle=1) for ms in sorted(set(times))]
    fill(url, events)

    async def read(*arguments: Any, **options: Any) -> list[Count]:
        async with aclosing(Archive(url)) as archive, archive.snapshot() as connection:
            return await read_counts(connection, *arguments, **options)

    for bucket_ms in (MINUTE_MS, 7 * MINUTE_MS, HOUR_MS, 5 * HOUR_MS):
        for types in (None, ["error"]):
            begin_ms, end_ms = (BEGAN_MS + draw.randrange(30 * HOUR_MS // MINUTE_MS) * MINUTE_MS for _ in range(2))
            begin_ms, end_ms = min(begin_ms, end_ms), max(begin_ms, end_ms) + MINUTE_MS
            begin_ms, end_ms = (ms // MINUTE_MS * MINUTE_MS for ms in (begin_ms, end_ms))
            expected = Counter(
                (ms - ms % bucket_ms, e["type"])
                for e in events
                if begin_ms <= (ms := int(e["id"].partition("-")[0])) < end_ms and (types is None or e["type"] in types)
            )
            found = asyncio.run(read(begin_ms, end_ms, bucket_ms=bucket_ms, types=types))
            assert sorted(Count(*key, events) for key, events in expected.items()) == found
