"""Reading the archive: where it ends, what an id or a time means in it, and pages of it in the delivered form.

Rules:
1. The delivered JSON is made by PostgreSQL: what was archived is never decoded again on its way to a viewer.
2. A question names one epoch at a time, and bounds the id: see `questions.py`.
3. What is asked together has to be of one moment: `Extent` and the rows up to it come from the same snapshot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg import capabilities, sql
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from broadcast.errors import UnreachableError
from broadcast.log.epochs import epochs_of
from broadcast.log.places import Archived, Epoch, Extent, Place, Range
from broadcast.log.position import EntryId
from broadcast.log.questions import DELIVERED, TS, select, stretches

__all__ = [
    "DELIVERED",
    "TS",
    "Archive",
    "Archived",
    "Epoch",
    "Extent",
    "Found",
    "Place",
    "read_extent",
    "read_page",
    "read_range",
    "wanted_types",
]

# Its pool says in the log what is raised here, too; a script without a log of its own would have it on its terminal.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_MS: Final = 30_000
AWAY_S: Final = 2.0
WINDOW: Final = 10
"""So many times what is wanted is read of all types, before each type is looked for on its own."""
BYTES_MAX: Final = 8 * 1024 * 1024
"""So much JSON is read at once. Events may be large: JSONB writes `1e300` with three hundred digits."""
ROWS_AT_ONCE: Final = 8
_COLUMNS: Final[LiteralString] = "epoch, id_ms, id_seq, n, type, " + TS + ", by, " + DELIVERED


class Archive:
    """Reads one archive through a few connections.

    Args:
        url: what libpq knows as a connection string, `postgresql://…`.
        name: what `pg_stat_activity` calls it, behind `broadcast-`.
        connections_max: so many questions at once; others wait for their turn.
    """

    def __init__(self, url: str, *, name: str = "reader", connections_max: int = 4) -> None:
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            kwargs={
                "application_name": f"broadcast-{name}",
                "connect_timeout": CONNECT_TIMEOUT_S,
                "client_encoding": "utf8",  # whatever PGCLIENTENCODING says: JSON has no other
                # The plan depends on the range; one that is made for all of them reads every partition.
                "prepare_threshold": None,
            },
            configure=_configure,
            min_size=0,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            # PostgreSQL may have been restarted since a connection was used.
            check=AsyncConnectionPool.check_connection,
            max_idle=60.0,
            open=False,
        )
        self.logs: frozenset[str] | None = None
        """Which logs it had when it was last looked into; None if it never was."""
        self.on_read: Callable[[float, bool], None] = lambda _seconds, _has_answered: None
        """Told of each snapshot: for how long it was read, and whether PostgreSQL answered to the end."""
        self._is_open = False
        self._in_use = 0
        self._away_until_s = 0.0
        """Until then PostgreSQL is taken to be away: who asks meanwhile need not wait to be told so."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A connection in a transaction that sees the archive as it is at one moment.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        began_s = time.monotonic()
        if began_s < self._away_until_s:
            raise UnreachableError("PostgreSQL did not answer a moment ago")
        try:
            if not self._is_open:
                self._is_open = True
                await self._pool.open()
            async with self._connection() as connection:
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                async with connection.transaction():
                    yield connection
            self.on_read(time.monotonic() - began_s, True)
        except (psycopg.Error, PoolTimeout, PoolClosed, OSError) as error:
            self.on_read(time.monotonic() - began_s, False)
            raise UnreachableError(f"{type(error).__name__}: {error}"[:300]) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        try:
            connection = await self._pool.getconn()
        except PoolTimeout:
            if not self._in_use:  # else all of them are busy
                self._away_until_s = time.monotonic() + AWAY_S
            raise
        self._in_use += 1
        try:
            yield connection
        finally:
            self._in_use -= 1
            await self._pool.putconn(connection)

    async def extent(self, stream: str | None = None) -> Extent | None:
        """How far the archive reaches; None if nothing of this stream was archived yet.

        Args:
            stream: the stream's key; None for whichever it is of.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self.snapshot() as connection:
            return await self.extent_in(connection, stream)

    async def extent_in(self, connection: psycopg.AsyncConnection[Any], stream: str | None) -> Extent | None:
        """The same in a snapshot of it."""
        extent = await read_extent(connection, stream)
        self.logs = frozenset(() if extent is None else (epoch.name for epoch in extent.epochs))
        return extent

    async def page(
        self,
        after: Place,
        *,
        until: Place,
        count: int,
        matches: Callable[[str], bool] | None = None,
        ts_from: str | None = None,
        ts_to: str | None = None,
    ) -> list[Archived]:
        """Events behind a place, oldest first; fewer than there are where these are large.

        Args:
            after: exclusive.
            until: inclusive.
            count: at most so many.
            matches: whether an event of a type is wanted; None for all.
            ts_from: events that are older by `ts` are left out; None for no such bound.
            ts_to: likewise newer ones.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self.snapshot() as connection:
            types = await wanted_types(connection, matches)
            return (await read_page(connection, after, until, count, types, (ts_from, ts_to))).rows


@dataclass(slots=True)
class Found:
    """Events that follow on one another."""

    rows: list[Archived] = field(default_factory=list[Archived])
    is_cut: bool = False
    """Whether there may be more, though they are fewer than were asked for: together they are large."""
    bytes: int = 0
    """Of their JSON."""


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    # Not as an option of the connection, which would take the place of those in the address: a schema, for one.
    await connection.execute(
        "SELECT set_config('statement_timeout', %s, false), set_config('default_transaction_read_only', 'on', false)",
        (str(QUERY_TIMEOUT_MS),),
    )
    await connection.commit()


async def read_extent(connection: psycopg.AsyncConnection[Any], stream: str | None = None) -> Extent | None:
    """How far the archive reaches, in the caller's snapshot; None if nothing was archived yet.

    Args:
        connection: in a transaction.
        stream: the archive of another stream is as good as none; None for whichever it is of.
    """
    made = await (await connection.execute("SELECT to_regclass('checkpoint') IS NOT NULL")).fetchone()
    if made is None or not made[0]:
        return None
    row = await (await connection.execute("SELECT epoch, id_ms, id_seq, n, stream FROM checkpoint")).fetchone()
    if row is None or stream not in (None, row[4]):
        return None
    epochs = await connection.execute(
        "SELECT epoch, name, parent, forked_ms, forked_seq, first_ms, first_seq FROM epochs WHERE epoch <= %s "
        "ORDER BY epoch",
        (row[0],),
    )
    found = tuple(
        Epoch(number, name, parent, None if fork_ms is None else EntryId(fork_ms, fork_seq or 0), EntryId(ms, seq))
        for number, name, parent, fork_ms, fork_seq, ms, seq in await epochs.fetchall()
    )
    return Extent(found, Place(row[0], EntryId(row[1], row[2])), row[3])


async def wanted_types(
    connection: psycopg.AsyncConnection[Any], matches: Callable[[str], bool] | None
) -> list[str] | None:
    """Which of the types that there are match; None for all of them."""
    if matches is None:
        return None
    types = [name for (name,) in await (await connection.execute("SELECT type FROM types")).fetchall()]
    wanted = [name for name in types if matches(name)]
    return None if len(wanted) == len(types) else wanted


async def read_page(
    connection: psycopg.AsyncConnection[Any],
    after: Place,
    until: Place,
    count: int,
    types: list[str] | None,
    times: tuple[str | None, str | None] = (None, None),
    *,
    newest_first: bool = False,
    late_only: bool = False,
) -> Found:
    """Events between two places, in the caller's snapshot.

    Args:
        connection: in a `snapshot`.
        after: exclusive.
        until: inclusive; exclusive where the newest come first.
        count: at most so many.
        types: what `wanted_types` said.
        times: bounds of `ts`, both inclusive; None for no bound.
        newest_first: the other way round.
        late_only: only those that came into the log a minute or more after their `ts`.
    """
    if newest_first:
        until = until._replace(id=until.id.before())
    asked = Range(after, until, *times)
    return await read_range(connection, asked, types, count, newest_first=newest_first, late_only=late_only)


async def read_range(
    connection: psycopg.AsyncConnection[Any],
    asked: Range,
    types: list[str] | None,
    count: int,
    *,
    newest_first: bool = False,
    late_only: bool = False,
) -> Found:
    """The first events of a range, in the caller's snapshot; the arguments as those of `read_page`."""
    found = Found()
    epochs = await epochs_of(connection, asked)
    for stretch in stretches(asked, epochs, types, newest_first=newest_first, late_only=late_only):
        for step in stretch.steps(count * WINDOW):
            begun = step.behind(found.rows[-1].place if found.rows else None, newest_first=newest_first)
            query = select(_COLUMNS, begun, count=count - len(found.rows), newest_first=newest_first)
            await _add(connection, query, found)
            if len(found.rows) >= count or found.is_cut:
                return found
    return found


class _EnoughError(Exception):
    """What is left of the query is called off."""


async def _add(connection: psycopg.AsyncConnection[Any], query: sql.Composed, found: Found) -> None:
    """Read the rows of a query, as many as fit."""
    size = ROWS_AT_ONCE if capabilities.has_stream_chunked() else 1
    try:
        # A savepoint: after a query that was called off, the snapshot is there for the next one.
        async with (
            connection.transaction(),
            connection.cursor() as cursor,
            aclosing(cast("AsyncGenerator[tuple[Any, ...]]", cursor.stream(query, size=size))) as rows,
        ):
            async for row in rows:
                found.rows.append(_archived(row))
                found.bytes += len(found.rows[-1].json)
                if found.bytes >= BYTES_MAX:
                    found.is_cut = True
                    raise _EnoughError
    except _EnoughError:
        pass


def _archived(row: tuple[Any, ...]) -> Archived:
    epoch, ms, seq, n, event_type, ts, by, json = row
    return Archived(Place(epoch, EntryId(ms, seq)), n, event_type, ts, by, json.encode())
