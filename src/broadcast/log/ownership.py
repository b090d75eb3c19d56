"""Whose events an archive holds: those of one stream, whose archiver wrote them."""

from __future__ import annotations

from typing import Any

import psycopg

from broadcast.errors import SettingError

__all__ = ["refuse_another"]


async def refuse_another(connection: psycopg.AsyncConnection[Any], stream: str) -> None:
    """Look whether the archive is this stream's; an empty one is anybody's.

    Args:
        connection: to a database with our tables.
        stream: the stream's key.

    Raises:
        SettingError: it holds another stream's events.
    """
    row = await (await connection.execute("SELECT stream FROM checkpoint")).fetchone()
    if row is not None and row[0] != stream:
        raise SettingError(
            f"DATABASE_URL: this database holds the events of the stream {row[0]!r}, not of {stream!r}; give "
            "each stream a database (or a schema) of its own, or set BROADCAST_STREAM"
        )
