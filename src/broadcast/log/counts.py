"""How many events of each type lie in each stretch of time.

What the archiver has counted is of minutes and of hours, by `ts`: nothing is read twice, and a range is rounded
outwards to whole minutes. Only where few events are to be told apart by seconds, or a range has to be exact, they are
counted one by one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from broadcast.event import timestamp
from broadcast.log.epochs import epochs_of
from broadcast.log.places import Extent, Place, Range
from broadcast.log.position import START
from broadcast.log.questions import select, stretches

__all__ = [
    "HOUR_MS",
    "MINUTE_MS",
    "Count",
    "count_events",
    "read_counts",
    "read_exact_counts",
    "read_span",
    "read_totals",
]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
EVENTS_MAX: Final = 2**62
"""All of them."""


class Count(NamedTuple):
    """So many events."""

    begin_ms: int
    """Where the stretch of time begins, milliseconds since 1970, UTC."""
    type: str
    events: int


async def read_counts(
    connection: psycopg.AsyncConnection[Any],
    begin_ms: int,
    end_ms: int,
    *,
    bucket_ms: int | None = None,
    types: list[str] | None = None,
) -> list[Count]:
    """Counts per bucket and type, those that are not zero, in the order of time.

    Args:
        connection: in a snapshot of the archive.
        begin_ms: of the range, inclusive; rounded down to a whole minute.
        end_ms: of the range, exclusive; rounded up.
        bucket_ms: how wide a bucket is, whole minutes; they begin at multiples of it. None: the range is one.
        types: only these; None for all.
    """
    width_ms = bucket_ms or 2**62
    # An hour is read as one row where no bucket ends in it.
    is_by_hour = width_ms % HOUR_MS == 0 or bucket_ms is None
    parts = _parts(begin_ms, end_ms) if is_by_hour else [(MINUTE_MS, *_whole(begin_ms, end_ms, MINUTE_MS))]
    found: dict[tuple[int, str], int] = {}
    for span_ms, first_ms, last_ms in parts:
        rows = await connection.execute(
            "SELECT begin_ms - begin_ms %% %(width)s, type, sum(events)::bigint FROM counts "
            "WHERE span_ms = %(span)s AND begin_ms >= %(first)s AND begin_ms < %(last)s "
            "AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s)) GROUP BY 1, 2",
            {"width": width_ms, "span": span_ms, "first": first_ms, "last": last_ms, "types": types},
        )
        for bucket, event_type, events in await rows.fetchall():
            found[bucket, event_type] = found.get((bucket, event_type), 0) + events
    return [Count(*key, events) for key, events in sorted(found.items()) if events > 0]


async def count_events(
    connection: psycopg.AsyncConnection[Any], asked: Range, types: list[str] | None, *, bucket_ms: int, events_max: int
) -> list[Count]:
    """The same, counted one by one: for buckets of less than a minute.

    Args:
        connection: in a snapshot of the archive.
        asked: of the archive, between two times.
        types: only these; None for all.
        bucket_ms: how wide a bucket is; they begin at multiples of it.
        events_max: of each stretch of one log, at most so many are looked at: the caller knows that there are fewer.
    """
    found: list[Count] = []
    epochs = await epochs_of(connection, asked)
    for stretch in stretches(asked, epochs, types):
        each = select("(extract(epoch FROM ts) * 1000)::bigint AS ts_ms, type", stretch, count=events_max)
        counting = sql.SQL(
            "SELECT ts_ms - ts_ms % {width}, type, count(*) FROM ({each}) AS each GROUP BY 1, 2 ORDER BY 1, 2"
        ).format(width=sql.Literal(bucket_ms), each=each)
        found += [Count(*row) for row in await (await connection.execute(counting)).fetchall()]
    return found


async def read_exact_counts(
    connection: psycopg.AsyncConnection[Any], extent: Extent, begin_ms: int, end_ms: int, *, bucket_ms: int
) -> list[Count]:
    """The same as `read_counts` for all types and an exact range; a bucket may come more than once for a type.

    Args:
        connection: in a snapshot of the archive.
        extent: how far it reaches.
        begin_ms: of the range, inclusive; what lies in a part of a minute is counted one by one.
        end_ms: of the range, exclusive; likewise.
        bucket_ms: how wide a bucket is, whole minutes.
    """
    first_ms, last_ms = -(-begin_ms // MINUTE_MS) * MINUTE_MS, end_ms // MINUTE_MS * MINUTE_MS
    if first_ms > last_ms:  # within one minute
        first_ms = last_ms = end_ms
    found = await read_counts(connection, first_ms, last_ms, bucket_ms=bucket_ms) if first_ms < last_ms else []
    whole = Range(Place(extent.epochs[0].number, START), extent.end)
    for part_ms in ((begin_ms, first_ms), (last_ms, end_ms)):
        if part_ms[0] < part_ms[1]:
            ts_from, ts_to = (timestamp(ms * 1_000_000) for ms in (part_ms[0], part_ms[1] - 1))
            part = replace(whole, ts_from=ts_from, ts_to=ts_to)
            found += await count_events(connection, part, None, bucket_ms=bucket_ms, events_max=EVENTS_MAX)
    return found


async def read_span(connection: psycopg.AsyncConnection[Any], types: list[str] | None) -> tuple[int, int] | None:
    """Where the first counted minute begins and the last one ends, by `ts`; None if nothing is counted.

    Args:
        connection: in a snapshot of the archive.
        types: only these; None for all.
    """
    rows = await connection.execute(
        "SELECT min(begin_ms), max(begin_ms) FROM counts WHERE span_ms = %(span)s AND events > 0 "
        "AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s))",
        {"span": MINUTE_MS, "types": types},
    )
    row = await rows.fetchone()
    return None if row is None or row[0] is None else (row[0], row[1] + MINUTE_MS)


async def read_totals(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    """How many events of each type the archive has, in the caller's snapshot."""
    rows = await connection.execute("SELECT type, events FROM types WHERE events > 0")
    return dict(await rows.fetchall())


def _parts(begin_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
    """A range as whole hours, and minutes before and behind them: `(span_ms, first, end)`."""
    first, last = _whole(begin_ms, end_ms, MINUTE_MS)
    hours = (-(-first // HOUR_MS) * HOUR_MS, last // HOUR_MS * HOUR_MS)
    if hours[0] >= hours[1]:
        return [(MINUTE_MS, first, last)]
    parts = [(MINUTE_MS, first, hours[0]), (HOUR_MS, *hours), (MINUTE_MS, hours[1], last)]
    return [part for part in parts if part[1] < part[2]]


def _whole(begin_ms: int, end_ms: int, span_ms: int) -> tuple[int, int]:
    return begin_ms // span_ms * span_ms, -(-end_ms // span_ms) * span_ms
