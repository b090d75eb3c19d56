"""Gaps of the archive that an import has filled: what is told as lost is what is lost.

The sizes are known by the ordinals: between two events that follow one another, `n` says how many are missing. Where
they have none, a gap is let go only if as many events are there as were lost. One whose end or size nobody knows stays.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

import psycopg

__all__ = ["close_filled_gaps"]

HOLES_MAX: Final = 100
"""A gap of which more is left than so many pieces stays as it is: every reader would be told each of them."""

_GAPS: Final[LiteralString] = """
SELECT gap, epoch, after_ms, after_seq, before_ms, before_seq, lost FROM gaps
WHERE reason = 'trimmed' AND before_ms IS NOT NULL AND lost IS NOT NULL ORDER BY gap FOR UPDATE
"""
_WITHIN: Final[LiteralString] = """
SELECT count(*) FROM events WHERE epoch = %s AND id_ms BETWEEN %s AND %s
AND (id_ms, id_seq) > (%s, %s) AND (id_ms, id_seq) < (%s, %s)
"""
_HOLES: Final[LiteralString] = """
SELECT after_ms, after_seq, id_ms, id_seq, n - after_n - 1 FROM (
    SELECT id_ms, id_seq, n, lag(id_ms) OVER w AS after_ms, lag(id_seq) OVER w AS after_seq, lag(n) OVER w AS after_n
    FROM events WHERE epoch = %s AND id_ms BETWEEN %s AND %s
    AND (id_ms, id_seq) >= (%s, %s) AND (id_ms, id_seq) <= (%s, %s) WINDOW w AS (ORDER BY id_ms, id_seq)
) AS each WHERE after_ms IS NOT NULL AND n IS DISTINCT FROM after_n + 1 LIMIT %s
"""
_SPLIT: Final[LiteralString] = """
INSERT INTO gaps (epoch, after_ms, after_seq, before_ms, before_seq, lost, reason, noted_at, announced)
SELECT epoch, %s, %s, %s, %s, %s, reason, noted_at, announced FROM gaps WHERE gap = %s
"""


async def close_filled_gaps(connection: psycopg.AsyncConnection[Any]) -> None:
    """Take away the gaps of which all is there now, and let the others be as large as what is left of them."""
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM checkpoint FOR UPDATE")
        has_changed = False
        for gap, *ends, lost in await (await connection.execute(_GAPS)).fetchall():
            left = await _left(connection, tuple(ends), lost)
            if left is None:
                continue
            for hole in left:
                await connection.execute(_SPLIT, (*hole, gap))
            await connection.execute("DELETE FROM gaps WHERE gap = %s", (gap,))
            has_changed = True
        if has_changed:  # gaps are part of answers
            await connection.execute("UPDATE checkpoint SET imports = imports + 1")


async def _left(
    connection: psycopg.AsyncConnection[Any], ends: tuple[int, int, int, int, int], lost: int
) -> list[tuple[int, ...]] | None:
    """What is left of a gap, each piece with its two ends and how many it lacks; None to let it be as it is."""
    epoch, after_ms, after_seq, before_ms, before_seq = ends
    values = (epoch, after_ms, before_ms, after_ms, after_seq, before_ms, before_seq)
    row = await (await connection.execute(_WITHIN, values, prepare=False)).fetchone()
    there = int(row[0]) if row else 0
    if not there or there >= lost:
        return [] if there else None
    holes = await (await connection.execute(_HOLES, (*values, HOLES_MAX + 1), prepare=False)).fetchall()
    # An end that is not there, or an event without an ordinal, and nobody knows where they are.
    is_known = len(holes) <= HOLES_MAX and all(hole[4] is not None for hole in holes)
    return holes if is_known and sum(hole[4] for hole in holes) == lost - there else None
