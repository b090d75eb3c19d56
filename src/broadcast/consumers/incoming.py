"""Imported rows as they go into the archive's tables: what is new of them, counted, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, LiteralString

import psycopg

from broadcast.consumers.rows import COLUMNS, Row
from broadcast.consumers.writing import bigints, park
from broadcast.log.places import SEQ_MAX
from broadcast.log.position import EntryId

__all__ = ["place_in", "store_incoming", "without_repeats"]

REPEATS_MS: Final = 600_000
"""So far from its first place an event may have been appended again; a producer keeps its last seconds."""

_STAGE: Final[LiteralString] = "CREATE TEMP TABLE incoming (LIKE events) ON COMMIT DROP"
_COPY: Final[LiteralString] = "COPY incoming (" + COLUMNS + ") FROM STDIN"
# What is new is counted by what was put in, so that nothing is counted twice.
_INSERT: Final[LiteralString] = """
WITH fresh AS (
    INSERT INTO events (epoch, id_ms, id_seq, by, type, ts, cycle, day, data, extra, n)
    SELECT epoch, id_ms, id_seq, by, type, ts, cycle, day, data, extra, n FROM incoming
    ON CONFLICT DO NOTHING RETURNING type, ts
), of_types AS (
    INSERT INTO types AS t (type, events) SELECT type, count(*) FROM fresh GROUP BY type ORDER BY type
    ON CONFLICT (type) DO UPDATE SET events = t.events + excluded.events
), of_spans AS (
    INSERT INTO counts AS c (span_ms, begin_ms, type, events)
    SELECT span_ms, floor(extract(epoch FROM ts) * 1000 / span_ms)::bigint * span_ms AS begin_ms, type, count(*)
    FROM fresh CROSS JOIN (VALUES (60000::bigint), (3600000)) AS spans (span_ms)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (span_ms, begin_ms, type) DO UPDATE SET events = c.events + excluded.events
)
SELECT count(*) FROM fresh
"""
_PRODUCERS: Final[LiteralString] = """
INSERT INTO producers AS p SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[])
ON CONFLICT (name) DO UPDATE SET last_seq = greatest(p.last_seq, excluded.last_seq),
    last_ms = greatest(p.last_ms, excluded.last_ms)
"""
_NEW: Final[LiteralString] = """
SELECT by FROM unnest(%(by)s::text[], %(ms)s::bigint[], %(seq)s::bigint[]) AS place (by, ms, seq)
WHERE NOT EXISTS (
    SELECT 1 FROM events AS e WHERE e.epoch = %(epoch)s AND e.id_ms = place.ms AND e.id_seq = place.seq
    AND e.id_ms BETWEEN %(first)s AND %(last)s
)
"""
# An identity is of one type for ever, unless it was erased or could not be stored.
_STANDING: Final[LiteralString] = """
SELECT by FROM events WHERE epoch = ANY(%(epochs)s) AND id_ms BETWEEN %(first)s AND %(last)s
AND type = ANY(%(types)s) AND by = ANY(%(by)s)
"""
_INSTEAD: Final = frozenset({"broadcast.blank", "broadcast.malformed"})


def place_in(row: Row) -> EntryId:
    """Its id as the archive's columns hold it."""
    return EntryId(*bigints(row.entry.id))


async def without_repeats(
    connection: psycopg.AsyncConnection[Any], rows: list[Row], number: int, epochs: Collection[int]
) -> list[Row]:
    """The rows but those whose identity stands under another place.

    Args:
        connection: to the archive.
        rows: of one log, in their order.
        number: the log's.
        epochs: the numbers of all logs that may hold them.
    """
    doubtful = await _new_of(connection, await _had(connection, rows), number)
    if not doubtful:
        return rows
    # There is no index on `by`: without bounds it would be every event ever archived.
    values = {
        "epochs": list(epochs),
        "first": place_in(doubtful[0]).ms - REPEATS_MS,
        "last": min(place_in(doubtful[-1]).ms + REPEATS_MS, SEQ_MAX),
        "types": sorted({row.type for row in doubtful} | _INSTEAD),
        "by": [row.entry.by for row in doubtful],
    }
    found = await (await connection.execute(_STANDING, values, prepare=False)).fetchall()
    repeats = {by for (by,) in found} & {row.entry.by for row in doubtful}
    return [row for row in rows if row.entry.by not in repeats]


async def _had(connection: psycopg.AsyncConnection[Any], rows: list[Row]) -> list[Row]:
    """Those that the archive may have had: their producers have come so far. None of what is newer than it is."""
    names = {row.identity[0] for row in rows if row.identity is not None}
    query = "SELECT name, last_seq FROM producers WHERE name = ANY(%s)"
    last = dict(await (await connection.execute(query, (sorted(names),))).fetchall())
    return [
        row
        for row in rows
        if row.line is not None and row.identity is not None and row.identity[1] <= last.get(row.identity[0], -1)
    ]


async def _new_of(connection: psycopg.AsyncConnection[Any], rows: list[Row], number: int) -> list[Row]:
    """Those in whose places nothing stands."""
    if not rows:
        return []
    places = [place_in(row) for row in rows]
    values = {
        "by": [row.entry.by for row in rows],
        "ms": [place.ms for place in places],
        "seq": [place.seq for place in places],
        "epoch": number,
        "first": places[0].ms,
        "last": places[-1].ms,
    }
    found = {by for (by,) in await (await connection.execute(_NEW, values, prepare=False)).fetchall()}
    return [row for row in rows if row.entry.by in found]


async def store_incoming(connection: psycopg.AsyncConnection[Any], rows: list[Row], number: int) -> tuple[int, int]:
    """Put in what is not there, under the log of a number; how many were new, and how many are newly parked."""
    if not rows:
        return 0, 0
    lines = "".join(f"{number}\t{row.line}\n" for row in rows if row.line is not None)
    await connection.execute(_STAGE)
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(lines.encode())
    found = await (await connection.execute(_INSERT)).fetchone()
    last: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.identity is not None:
            name, seq = row.identity
            last[name] = max(last.get(name, (0, 0)), (seq, place_in(row).ms))
    parked = await park(connection, number, [row.parked for row in rows if row.parked is not None])
    names = sorted(last)
    values = (names, [last[name][0] for name in names], [last[name][1] for name in names])
    await connection.execute(_PRODUCERS, values)
    return int(found[0]) if found else 0, parked
