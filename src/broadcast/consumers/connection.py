"""A connection of a consumer's own to PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from broadcast.errors import SettingError

__all__ = ["connect"]

CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_MS: Final = 60_000
_OPTIONS: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "client_encoding": "utf8",  # of the lines of COPY, whatever the database's own is
}


async def connect(url: str, name: str) -> psycopg.AsyncConnection[Any]:
    """A connection that notices within half a minute that nobody is at the other end any more.

    Args:
        url: what libpq knows as a connection string.
        name: what `pg_stat_activity` calls it.

    Raises:
        SettingError: the address is none.
        psycopg.Error: PostgreSQL does not answer, or refuses.
    """
    given: dict[str, Any] = {**_OPTIONS, "application_name": name[:63], "connect_timeout": CONNECT_TIMEOUT_S}
    # Every statement its own transaction: those of several are written out.
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, **given)
    except psycopg.ProgrammingError as error:
        raise SettingError(f"DATABASE_URL: {str(error).strip()}") from None
    # Not as an option of the connection, which would take the place of those in the address.
    try:
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            await connection.execute("SELECT set_config(%s, %s, false)", (setting, str(STATEMENT_TIMEOUT_MS)))
    except BaseException:
        await connection.close()
        raise
    return connection
