"""The archive's partitions: weeks of the id's time. Pure but for those that run what they say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql

__all__ = ["WEEK_MS", "begin_ms", "detach", "detached", "make", "name_of", "older_than", "week_of"]

WEEK_MS: Final = 7 * 24 * 3600 * 1000
LOCK: Final = 0x76355F7765656B
"""The advisory lock's number: `v5_week`."""
_DETACHED: Final = "detached_"
_MONDAY_MS: Final = 4 * 24 * 3600 * 1000
"""1970-01-05 was the first Monday."""
_YEARS_END_MS: Final = 253_402_300_800_000
"""Beyond the year 9999, a week is named by its number."""


def week_of(id_ms: int) -> int:
    """The week a time lies in: 0 is the one that began on Monday, 1970-01-05, UTC."""
    return (id_ms - _MONDAY_MS) // WEEK_MS


def begin_ms(week: int) -> int:
    """Where a week begins; the first one takes in what lies before it."""
    return max(0, _MONDAY_MS + week * WEEK_MS)


def name_of(week: int) -> str:
    """What a week's partition is called: `events_20261123`, by its Monday."""
    at_ms = begin_ms(week)
    if at_ms >= _YEARS_END_MS:
        return f"events_w{week}"
    return f"events_{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%d}"


async def make(connection: psycopg.AsyncConnection[Any], weeks: Iterable[int]) -> None:
    """Make the partitions of some weeks where they are missing; nobody who reads or writes the others is held up.

    Args:
        connection: to the archive; in the caller's transaction, if it has one.
        weeks: see `week_of`.
    """
    for week in sorted(set(weeks)):
        name = name_of(week)
        async with connection.transaction():
            # Two that make the same one: the second finds it made.
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if name in await standing(connection):
                continue
            # Not `CREATE … PARTITION OF`: it would wait for whoever reads any of them, and let nobody pass meanwhile.
            made = sql.SQL("CREATE TABLE {} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            await connection.execute(made.format(sql.Identifier(name)))
            attached = sql.SQL("ALTER TABLE events ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(name), sql.Literal(begin_ms(week)), sql.Literal(begin_ms(week + 1))
            )
            await connection.execute(attached)


async def standing(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """The names of the partitions that there are."""
    rows = await connection.execute(
        "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'events'::regclass"
    )
    return {name for (name,) in await rows.fetchall()}


async def older_than(connection: psycopg.AsyncConnection[Any], id_ms: int) -> list[str]:
    """The partitions that hold nothing but what is older; a week goes as a whole, or stays."""
    weeks = {name: _week_named(name) for name in await standing(connection)}
    return sorted(name for name, week in weeks.items() if week is not None and begin_ms(week + 1) <= id_ms)


async def detach(connection: psycopg.AsyncConnection[Any], name: str) -> None:
    """Take a partition out of the archive; as a table of another name it stays, until it is dropped.

    Args:
        connection: in a transaction; readers and writers wait until that is over.
        name: the partition's.
    """
    table = sql.Identifier(name)
    await connection.execute(sql.SQL("ALTER TABLE events DETACH PARTITION {}").format(table))
    # Under its old name nobody could make it again.
    await connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(_DETACHED + name)))


async def detached(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """The tables that were partitions, also those whose dropping was cut off."""
    rows = await connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND starts_with(relname, %s)",
        (_DETACHED,),
    )
    names = sorted(name for (name,) in await rows.fetchall())
    return [name for name in names if _week_named(name.removeprefix(_DETACHED)) is not None]


def _week_named(name: str) -> int | None:
    stem = name.removeprefix("events_")
    if stem.startswith("w") and stem[1:].isdigit():
        return int(stem[1:])
    if len(stem) != 8 or not stem.isdigit():
        return None
    try:
        monday = datetime.strptime(stem, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    week = week_of(int(monday.timestamp() * 1000))
    return week if name_of(week) == name else None
