"""The archive's tables: numbered SQL files, each run once, under a lock that ends with its transaction."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, LiteralString, cast

import psycopg

from broadcast.errors import SettingError

__all__ = ["VERSION_MIN", "migrate", "migrations"]

VERSION_MIN: Final = 140_000
LOCK: Final = 0x76355F6C6F67
"""The advisory lock's number: `v5_log`. Of a transaction, since a pooler may strand one of a connection."""


def migrations() -> list[tuple[str, str]]:
    """The files, in their order: name and text."""
    folder = files("broadcast.log") / "migrations"
    found = [(file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(found)


async def migrate(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """Bring a database up to this version; whoever comes second waits, and finds it done.

    Args:
        connection: to the database; its account may create tables.

    Returns:
        The names of the migrations that were run now.

    Raises:
        SettingError: the server is too old, the database was made by a newer version, or it holds tables of somebody
            else's under our names.
        psycopg.Error: anything else that PostgreSQL has to say.
    """
    if connection.info.server_version < VERSION_MIN:
        raise SettingError(
            f"DATABASE_URL: PostgreSQL 14 or newer is needed, this is {connection.info.server_version // 10_000}"
        )
    ran: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        done = await _done(connection)
        known = migrations()
        if newer := sorted(done - {name for name, _ in known}):
            raise SettingError(
                f"DATABASE_URL: the database is of a newer version, it has {newer[-1]}; update broadcast"
            )
        for name, text in known:
            if name not in done:
                await _run(connection, text)
                await connection.execute("INSERT INTO broadcast_migrations (name) VALUES (%s)", (name,))
                ran.append(name)
    return ran


async def _run(connection: psycopg.AsyncConnection[Any], text: str) -> None:
    try:
        # A file of this package's own, never anything that came from outside.
        await connection.execute(cast("LiteralString", text))
    except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject) as error:
        raise SettingError(
            f"DATABASE_URL: the database has something of that name that is not ours ({error.diag.message_primary}); "
            "give the archive a database of its own, or a schema (…?options=-csearch_path%3Dmind)"
        ) from None


async def _done(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS broadcast_migrations "
        "(name text PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT now())"
    )
    return {row[0] for row in await (await connection.execute("SELECT name FROM broadcast_migrations")).fetchall()}
