"""A batch as it goes into the archive's tables; who may write it, and where it stands, is `store.py`'s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, LiteralString

import psycopg

from broadcast.consumers.batch import Batch
from broadcast.consumers.rows import COLUMNS, Parked
from broadcast.log.places import SEQ_MAX
from broadcast.log.position import EntryId, Gap

__all__ = ["bigints", "park", "write_batch"]

_COPY: Final[LiteralString] = "COPY events (" + COLUMNS + ") FROM STDIN"


async def write_batch(connection: psycopg.AsyncConnection[Any], epoch: int, batch: Batch) -> None:
    """Put all of a batch in, in the caller's transaction.

    Args:
        connection: to the archive.
        epoch: the number of the batch's log.
        batch: without what is archived already.
    """
    if lines := batch.lines(epoch):
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write(lines)
    if producers := batch.producers:
        names, lasts = list(producers), list(producers.values())
        await connection.execute(
            "INSERT INTO producers SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) ON CONFLICT (name) "
            "DO UPDATE SET last_seq = excluded.last_seq, last_ms = excluded.last_ms",
            (names, [seq for seq, _ in lasts], [ms for _, ms in lasts]),
        )
    types, counts = batch.counts()
    if types:
        await connection.execute(
            "INSERT INTO types SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT (type) "
            "DO UPDATE SET events = types.events + excluded.events",
            (list(types), list(types.values())),
        )
        spans, begins, of_types = (list(column) for column in zip(*counts, strict=True))
        await connection.execute(
            "INSERT INTO counts SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[]) "
            "ON CONFLICT (span_ms, begin_ms, type) DO UPDATE SET events = counts.events + excluded.events",
            (spans, begins, of_types, list(counts.values())),
        )
    await park(connection, epoch, batch.parked)
    if batch.gap is not None:
        await _note_gap(connection, epoch, batch.gap)


async def park(connection: psycopg.AsyncConnection[Any], epoch: int, parked: Iterable[Parked]) -> int:
    """Keep what cannot be stored as events, as it came; what is parked already stays. How many were new."""
    if rows := [(epoch, *each.id, each.by, each.raw, each.error) for each in parked]:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO parked (epoch, id_ms, id_seq, by, raw, error) VALUES (%s, %s, %s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                rows,
            )
            return cursor.rowcount
    return 0


async def _note_gap(connection: psycopg.AsyncConnection[Any], epoch: int, gap: Gap) -> None:
    before = bigints(gap.before) if gap.before else (None, None)
    await connection.execute(
        "INSERT INTO gaps (epoch, after_ms, after_seq, before_ms, before_seq, lost, reason, announced) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        # Of what Redis had lost, the archive holds all that it had had; and what producers could not append again
        # they announce themselves.
        (epoch, *bigints(gap.after), *before, gap.lost, gap.reason, gap.reason == "rewound"),
    )


def bigints(place: EntryId) -> tuple[int, int]:
    """A place as its columns hold it."""
    return min(place.ms, SEQ_MAX), min(place.seq, SEQ_MAX)
