"""Cleaning the pages that held what is erased, and finding out whether they are clean.

VACUUM leaves what a snapshot may still see, and what is not its caller's, without a failure. So what it warned of is
told, and what it has counted as dead and left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

__all__ = ["Purged", "vacuum"]

TRIES_MAX: Final = 3
RETRY_S: Final = 1.0
"""So long a short snapshot may take to end, and the numbers of whoever erased to arrive."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What came of it."""

    said: str
    is_done: bool
    """Whether nothing of it is left in the tables' pages."""


async def vacuum(connection: psycopg.AsyncConnection[Any], tables: Iterable[str]) -> Purged:
    """Vacuum some tables, and have the planner's samples of them taken anew.

    Args:
        connection: to the archive, in no transaction.
        tables: their names, quoted; one that is dropped meanwhile is clean.

    Raises:
        psycopg.Error: PostgreSQL does not answer, or refuses.
    """
    left: list[str] = []
    with _warnings(connection) as warnings:
        for name in tables:
            if not await _is_clean(connection, sql.SQL(name)):  # pyright: ignore[reportArgumentType]
                left.append(name)
        # Nobody but a person lets the whole be analysed: it then has samples of its own.
        if await (await connection.execute(_SAMPLES)).fetchone():
            await connection.execute("ANALYZE events")
    if warnings:
        return Purged(f"not vacuumed ({'; '.join(warnings)})"[:400], is_done=False)
    if left:
        holders = "an export, a dump, a long transaction, a replica"
        said = f"not clean yet: a snapshot that is open ({holders}) keeps what was in {', '.join(left)}"
        return Purged(f"{said[:400]}; the same again once it has ended", is_done=False)
    return Purged("vacuumed", is_done=True)


_SAMPLES: Final = (
    "SELECT 1 FROM pg_stats WHERE tablename = 'events' AND schemaname = (SELECT relnamespace::regnamespace::text "
    "FROM pg_class WHERE oid = 'events'::regclass) LIMIT 1"
)


async def _is_clean(connection: psycopg.AsyncConnection[Any], table: sql.SQL) -> bool:
    for turn in range(TRIES_MAX):
        if turn:
            await asyncio.sleep(RETRY_S)
        try:
            await connection.execute(sql.SQL("VACUUM {}").format(table))
            # Before ANALYZE, which puts an estimate in its place.
            dead = sql.SQL("SELECT pg_stat_get_dead_tuples({}::regclass)").format(sql.Literal(table.as_string(None)))
            row = await (await connection.execute(dead)).fetchone()
            is_clean = row is None or not row[0]
            if is_clean or turn == TRIES_MAX - 1:
                await connection.execute(sql.SQL("ANALYZE {}").format(table))
                return is_clean
        except psycopg.errors.UndefinedTable:
            return True
    return False


@contextmanager
def _warnings(connection: psycopg.AsyncConnection[Any]) -> Generator[dict[str, None]]:
    """What PostgreSQL warns of meanwhile, each once."""
    found: dict[str, None] = {}

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING" and diagnostic.message_primary:
            found[diagnostic.message_primary] = None

    connection.add_notice_handler(note)
    try:
        yield found
    finally:
        connection.remove_notice_handler(note)
