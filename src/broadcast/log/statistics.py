"""What an archive tells of a life as a whole: how much of what, and when; how long its cycles took; what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from broadcast.log.archive import Archive, read_extent
from broadcast.log.counts import Count, read_exact_counts
from broadcast.log.ownership import refuse_another
from broadcast.log.places import milliseconds
from broadcast.log.position import EARLY_MS
from broadcast.log.questions import TS

__all__ = ["Failure", "MindDay", "SlowCycle", "Statistics", "read_statistics"]

DAY_MS: Final = 24 * 3_600_000
DAYS_MAX: Final = 1_000
TIMEOUT_MS: Final = 600_000
"""Somebody waits for it at a terminal: what reads every event of a life may take longer than a viewer would wait."""
_END_MS: Final = 253_402_300_800_000
"""The end of the year 9999: as far as a `ts` goes."""

_WITHIN: Final = """id_ms >= %(first)s AND (%(from)s::timestamptz IS NULL OR ts >= %(from)s::timestamptz)
      AND (%(to)s::timestamptz IS NULL OR ts <= %(to)s::timestamptz)"""
_SLOWEST: Final = """
WITH marks AS (
    SELECT epoch, id_ms, id_seq, type, cycle, day, ts, CASE WHEN type = 'cycle.end' THEN data->'duration_ms' END AS told
    FROM events
    WHERE type IN ('cycle.start', 'cycle.end') AND {within}
), pairs AS (
    SELECT epoch, id_ms, id_seq, type, cycle, day, ts, lead(type) OVER log AS next_type,
           lead(cycle) OVER log AS next_cycle, lead(ts) OVER log AS end_ts, lead(id_ms) OVER log AS end_ms,
           lead(id_seq) OVER log AS end_seq, lead(told) OVER log AS told
    FROM marks
    WINDOW log AS (PARTITION BY epoch ORDER BY id_ms, id_seq)
), ended AS MATERIALIZED (
    SELECT epoch, id_ms, id_seq, cycle, day, ts, end_ms, end_seq,
           CASE WHEN jsonb_typeof(told) = 'number' THEN told::float8
                ELSE extract(epoch FROM end_ts - ts) * 1000 END::float8 AS duration_ms
    FROM pairs
    WHERE type = 'cycle.start' AND next_type = 'cycle.end' AND next_cycle IS NOT DISTINCT FROM cycle
), slowest AS (
    SELECT * FROM ended ORDER BY duration_ms DESC, epoch, id_ms, id_seq LIMIT %(shown)s
)
SELECT (SELECT count(*) FROM ended), (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FROM ended),
    id_ms || '-' || id_seq, cycle, day, {ts}, duration_ms, (
    SELECT count(*) FROM events AS e
    WHERE e.type = 'error' AND e.epoch = slowest.epoch AND e.id_ms BETWEEN slowest.id_ms AND slowest.end_ms
      AND (e.id_ms, e.id_seq) > (slowest.id_ms, slowest.id_seq)
      AND (e.id_ms, e.id_seq) < (slowest.end_ms, slowest.end_seq)
)
FROM slowest ORDER BY duration_ms DESC, epoch, id_ms, id_seq
"""
_MIND_DAYS: Final = """
SELECT day, count(*), count(*) FILTER (WHERE type = 'cycle.start'), count(*) FILTER (WHERE type = 'error')
FROM events WHERE day IS NOT NULL AND type NOT LIKE 'broadcast.%%' AND {within}
GROUP BY day ORDER BY day DESC LIMIT %(days)s
"""
_FAILURES: Final = """
SELECT id_ms || '-' || id_seq, cycle, {ts}, coalesce(data->>'source', ''), coalesce(data->>'message', '')
FROM events
WHERE type = 'error' AND {within}
ORDER BY epoch DESC, id_ms DESC, id_seq DESC LIMIT %(shown)s
"""


@dataclass(frozen=True, slots=True)
class SlowCycle:
    """One cycle, and how long it took."""

    id: str
    """Of its `cycle.start`."""
    cycle: int | None
    day: int | None
    ts: str
    duration_ms: float
    """What its `cycle.end` says, else the time from the one to the other."""
    errors: int
    """How many `error` events lie between the two."""


@dataclass(frozen=True, slots=True)
class MindDay:
    """A day as the mind itself numbers it: the `day` of its events; blanks and gaps have none."""

    day: int
    events: int
    cycles: int
    """How many have begun."""
    errors: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One `error` event."""

    id: str
    cycle: int | None
    ts: str
    source: str
    message: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """An archive, or a range of it, in numbers."""

    events: int
    types: tuple[tuple[str, int], ...]
    """How many of each type, the most frequent first."""
    days: tuple[tuple[str, int], ...]
    """How many on each day, `2026-02-14`, UTC; days without events are left out."""
    mind_days: tuple[MindDay, ...]
    """The same by the mind's own `day`, the greatest numbers of them, in their order."""
    cycles: int
    """How many cycles have begun."""
    events_per_cycle: float | None
    """On the average; None without a cycle."""
    ended: int
    """How many of the cycles have ended: the next mark of a cycle behind their start is their end."""
    median_ms: float | None
    """How long these took; None if there are none."""
    slowest: tuple[SlowCycle, ...]
    """Of the cycles that have ended, the slowest first."""
    errors: int
    failures: tuple[Failure, ...]
    """The newest of the errors, newest first."""


async def read_statistics(
    archive: Archive,
    stream: str | None = None,
    *,
    ts_from: str | None = None,
    ts_to: str | None = None,
    shown: int = 10,
) -> Statistics | None:
    """Read the statistics of a range of times.

    Args:
        archive: where to read.
        stream: the stream's key, whose archive it has to be; None for whichever it is of.
        ts_from: inclusive; None for the beginning.
        ts_to: likewise; None for the end.
        shown: how many cycles and errors are told one by one.

    Returns:
        None if nothing was archived yet.

    Raises:
        SettingError: it is the archive of another stream.
        UnreachableError: PostgreSQL does not answer, or refuses.
    """
    async with archive.snapshot() as connection:
        await connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(TIMEOUT_MS),))
        if (extent := await read_extent(connection)) is None:
            return None
        if stream is not None:
            await refuse_another(connection, stream)
        begin_ms = 0 if ts_from is None else milliseconds(ts_from)
        end_ms = _END_MS if ts_to is None else milliseconds(ts_to) + 1
        counts = await read_exact_counts(connection, extent, begin_ms, end_ms, bucket_ms=DAY_MS)
        by_type = _summed(counts, lambda count: count.type)
        by_day = _summed(counts, lambda count: f"{datetime.fromtimestamp(count.begin_ms / 1000, UTC):%Y-%m-%d}")
        bounds = {"first": begin_ms - EARLY_MS, "from": ts_from, "to": ts_to, "shown": shown, "days": DAYS_MAX}
        events, cycles = sum(by_type.values()), by_type.get("cycle.start", 0)
        ended, median_ms, slowest = await _durations(connection, bounds)
        return Statistics(
            events=events,
            types=tuple(sorted(by_type.items(), key=lambda item: (-item[1], item[0]))),
            days=tuple(sorted(by_day.items())),
            mind_days=await _mind_days(connection, bounds),
            cycles=cycles,
            events_per_cycle=events / cycles if cycles else None,
            ended=ended,
            median_ms=median_ms,
            slowest=slowest,
            errors=by_type.get("error", 0),
            failures=await _failures(connection, bounds),
        )


def _summed(counts: list[Count], key: Callable[[Count], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in counts:
        found[key(count)] = found.get(key(count), 0) + count.events
    return found


async def _durations(
    connection: psycopg.AsyncConnection[Any], bounds: dict[str, Any]
) -> tuple[int, float | None, tuple[SlowCycle, ...]]:
    """How many cycles have ended, how long they took (the median), and the slowest of them."""
    rows = await _ask(connection, _SLOWEST, bounds)
    ended, median_ms = rows[0][:2] if rows else (0, None)
    return ended, median_ms, tuple(SlowCycle(*row[2:]) for row in rows)


async def _mind_days(connection: psycopg.AsyncConnection[Any], bounds: dict[str, Any]) -> tuple[MindDay, ...]:
    return tuple(MindDay(*row) for row in reversed(await _ask(connection, _MIND_DAYS, bounds)))


async def _failures(connection: psycopg.AsyncConnection[Any], bounds: dict[str, Any]) -> tuple[Failure, ...]:
    return tuple(Failure(*row) for row in await _ask(connection, _FAILURES, bounds))


async def _ask(connection: psycopg.AsyncConnection[Any], query: LiteralString, bounds: dict[str, Any]) -> list[Any]:
    rows = await connection.execute(sql.SQL(query).format(ts=sql.SQL(TS), within=sql.SQL(_WITHIN)), bounds)
    return await rows.fetchall()
