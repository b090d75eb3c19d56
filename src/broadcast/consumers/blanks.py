"""Blanks in the archive: the row, what was parked of it, and whatever was counted, in the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from broadcast.log.archive import Place
from broadcast.log.counts import HOUR_MS, MINUTE_MS
from broadcast.log.erasure import BLANK, blank

__all__ = ["Blanked", "blank_out", "drop_types", "unpark"]


@dataclass(frozen=True, slots=True)
class Blanked:
    """One row that is blanked."""

    place: Place
    type: str
    """What it was."""
    ts_ms: int


async def blank_out(connection: psycopg.AsyncConnection[Any], batch: list[Blanked]) -> None:
    """Blank some rows, and count anew.

    Args:
        connection: in a transaction that has locked them.
        batch: at least one.
    """
    await _blank(connection, [each.place for each in batch])
    await _count_anew(connection, batch)


async def _blank(connection: psycopg.AsyncConnection[Any], places: list[Place]) -> None:
    named = "SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS gone (epoch, id_ms, id_seq)"
    same = "e.epoch = gone.epoch AND e.id_ms = gone.id_ms AND e.id_seq = gone.id_seq"
    ids_ms = [each.id.ms for each in places]
    await connection.execute(
        # The bounds of the ids leave the other partitions alone.
        sql.SQL(
            "UPDATE events e SET type = {blank}, cycle = 0, day = 0, data = {data}, extra = NULL "
            "FROM ({named}) gone WHERE {same} AND e.id_ms BETWEEN {first} AND {last}"
        ).format(
            first=sql.Literal(min(ids_ms)),
            last=sql.Literal(max(ids_ms)),
            blank=sql.Literal(BLANK),
            data=sql.Literal(Jsonb(blank("")["data"])),
            named=sql.SQL(named),
            same=sql.SQL(same),
        ),
        _columns(places),
    )
    await unpark(connection, places)


async def unpark(connection: psycopg.AsyncConnection[Any], places: list[Place]) -> None:
    """Take out what is parked of some places, in the caller's transaction."""
    await connection.execute(
        "DELETE FROM parked p USING unnest(%s::int[], %s::numeric[], %s::numeric[]) AS gone (epoch, id_ms, id_seq) "
        "WHERE p.epoch = gone.epoch AND p.id_ms = gone.id_ms AND p.id_seq = gone.id_seq",
        _columns(places),
    )


def _columns(places: list[Place]) -> tuple[list[int], list[int], list[int]]:
    return [each.epoch for each in places], [each.id.ms for each in places], [each.id.seq for each in places]


async def _count_anew(connection: psycopg.AsyncConnection[Any], batch: list[Blanked]) -> None:
    types: Counter[str] = Counter()
    counts: Counter[tuple[int, int, str]] = Counter()
    for each in batch:
        for name, step in ((each.type, -1), (BLANK, 1)):
            types[name] += step
            for span_ms in (MINUTE_MS, HOUR_MS):
                counts[span_ms, each.ts_ms - each.ts_ms % span_ms, name] += step
    async with connection.cursor() as cursor:
        # In one order, as everybody who counts: so two of them do not wait for each other.
        await cursor.executemany(
            "INSERT INTO types AS t (type, events) VALUES (%s, %s) ON CONFLICT (type) "
            "DO UPDATE SET events = t.events + excluded.events",
            sorted(types.items()),
        )
        await cursor.executemany(
            "INSERT INTO counts AS c (span_ms, begin_ms, type, events) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (span_ms, begin_ms, type) DO UPDATE SET events = c.events + excluded.events",
            _rows(counts),
        )
    await drop_types(connection)
    spans, begins, names = (list(column) for column in zip(*sorted(counts), strict=True))
    await connection.execute(
        "DELETE FROM counts c USING unnest(%s::bigint[], %s::bigint[], %s::text[]) "
        "AS changed (span_ms, begin_ms, type) WHERE c.span_ms = changed.span_ms AND c.begin_ms = changed.begin_ms "
        "AND c.type = changed.type AND c.events <= 0",
        (spans, begins, names),
    )


async def drop_types(connection: psycopg.AsyncConnection[Any]) -> None:
    """Strike off the types that are no more: whoever reads some types only looks here which there are."""
    await connection.execute(
        "DELETE FROM types WHERE events <= 0 AND NOT EXISTS (SELECT 1 FROM events WHERE events.type = types.type)"
    )


def _rows(counts: Counter[tuple[int, int, str]]) -> Iterable[tuple[int, int, str, int]]:
    return [(*key, number) for key, number in sorted(counts.items())]
