"""Erasing in the archive: a blank takes the row's place, and whatever was counted is counted anew.

In batches, each a transaction of its own: an archive may hold millions of what shall go, and the archiver must go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from broadcast.consumers.blanks import Blanked, blank_out, unpark
from broadcast.consumers.connection import connect
from broadcast.consumers.parking import parked_pages
from broadcast.consumers.selection import KEPT, Selection
from broadcast.consumers.vacuum import Purged, vacuum
from broadcast.errors import SettingError, UnreachableError
from broadcast.log.archive import Place, read_extent
from broadcast.log.erasure import Erasure
from broadcast.log.position import START, EntryId

__all__ = ["ArchiveEraser"]

BATCH_EVENTS: Final = 5_000
TRIES_MAX: Final = 5
RETRY_S: Final = 0.2
NEWEST: Final = EntryId(2**64 - 1, 2**64 - 1)
_T = TypeVar("_T")


class ArchiveEraser:
    """Erases in one archive.

    Args:
        url: its address.
        erasure: what.
    """

    def __init__(self, url: str, erasure: Erasure) -> None:
        self._url, self._erasure = url, erasure
        self.epoch: str | None = None
        """The log when the question was asked; what came into it later is not meant."""
        self.end: EntryId | None = START
        """Its last id then; None if there was no stream: then all that the archive has of it is meant."""
        self.newest = START
        """The newest event that the stream had then, which the archiver has to come past."""
        self.unread: set[EntryId] = set()
        """Parked entries that may be meant or not: nobody can tell their type."""
        self._tables = {"parked"}
        """Where something was erased."""
        self._row: int | None = None

    async def count(self) -> int:
        """How many events are meant, parked ones among them.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
            SettingError: the database holds no archive, or that of another log than Redis has.
        """
        async with self._connected() as connection:
            await self._refuse_strangers(connection)
            end = await self._end(connection)
            selection = await Selection.of(connection, self._erasure, end)
            total = 0
            for part in selection.parted(self._erasure.ts_to):
                total += await _count(connection, part)
            async for page in parked_pages(connection, self._erasure, end):
                total += len(page.meant) - await _count(connection, selection.among(page.meant))
            return total

    async def erase(self) -> int:
        """Blank everything that is meant, and what was parked of it.

        Returns:
            How many events were blanked.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
            SettingError: the database holds no archive.
        """
        total = 0
        async with self._connected() as connection:
            end = await self._end(connection)
            for part in (await Selection.of(connection, self._erasure, end)).parted(self._erasure.ts_to):
                after = Place(-(2**31), START)
                while batch := await _patiently(connection, lambda p=part, a=after: self._batch(connection, p, a)):
                    total, after = total + len(batch), batch[-1].place
            self.unread.clear()
            async for page in parked_pages(connection, self._erasure, end):
                self.unread.update(page.unread)
                if meant := page.meant:
                    await _patiently(connection, lambda m=meant: self._parked(connection, m))
                    total += len(meant)
        return total

    async def has_all(self) -> bool:
        """Whether everything up to the end is archived, so that nothing of it is on the way any more."""
        async with self._connected() as connection:
            extent = await read_extent(connection)
        if self.newest == START:
            return True
        number = None if extent is None else extent.number_of(self.epoch or "")
        return extent is not None and number is not None and Place(number, self.newest) <= extent.end

    async def purge(self) -> Purged:
        """Clean the pages that held what is gone, and what the planner had noted of it."""
        try:
            async with self._connected() as connection:
                return await vacuum(connection, await self._where(connection))
        except UnreachableError as error:
            return Purged(f"not vacuumed ({error})", is_done=False)

    async def _where(self, connection: psycopg.AsyncConnection[Any]) -> list[str]:
        """The tables where something may have been erased, now or by a run that came no further."""
        selection = await Selection.of(connection, self._erasure, await self._end(connection))
        for part in selection.blanked().parted(self._erasure.ts_to):
            query = sql.SQL("SELECT DISTINCT tableoid::regclass::text FROM events WHERE {}").format(part.where())
            self._tables |= {name for (name,) in await (await connection.execute(query, part.values)).fetchall()}
        return sorted(self._tables)

    # --- one connection

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        try:
            async with await connect(self._url, "broadcast-erase") as connection:
                made = await (await connection.execute("SELECT to_regclass('erasures') IS NOT NULL")).fetchone()
                if not (made and made[0]):
                    raise SettingError("DATABASE_URL: the database holds no archive; `broadcast archive` makes one")
                # To look through a large archive, or to vacuum it, takes its time.
                await connection.execute("SELECT set_config('statement_timeout', '0', false)")
                yield connection
        except (psycopg.Error, OSError) as error:
            raise UnreachableError(f"PostgreSQL: {type(error).__name__}: {error}"[:300]) from error

    async def _refuse_strangers(self, connection: psycopg.AsyncConnection[Any]) -> None:
        # Two addresses that do not belong together: what is erased cannot be brought back.
        extent, epoch = await read_extent(connection), self.epoch
        if extent is not None and self.end not in (None, START) and extent.number_of(epoch or "") is None:
            raise SettingError(
                "REDIS_URL and DATABASE_URL name two logs: the archive has never met the one in Redis "
                f"({epoch or 'without a name'}). Name those that belong together, or let the archiver come this far"
            )

    async def _end(self, connection: psycopg.AsyncConnection[Any]) -> Place | None:
        extent = await read_extent(connection)
        number = None if extent is None else extent.number_of(self.epoch or "")
        return None if number is None else Place(number, self.end or NEWEST)

    async def _batch(
        self, connection: psycopg.AsyncConnection[Any], selection: Selection, after: Place
    ) -> list[Blanked]:
        where = selection.where("(epoch, id_ms, id_seq) > (%(epoch)s, %(ms)s, %(seq)s)")
        more = {"epoch": after.epoch, "ms": after.id.ms, "seq": after.id.seq}
        batch = await self._blank(connection, where, selection.values | more)
        if batch or self._row is None:
            await self._note(connection, len(batch))
        return batch

    async def _parked(self, connection: psycopg.AsyncConnection[Any], places: list[Place]) -> None:
        selection = Selection(("type <> ALL(%(kept)s)",), {"kept": KEPT}).among(places)
        await self._blank(connection, selection.where(), selection.values)
        await unpark(connection, places)
        await self._note(connection, len(places))

    async def _blank(
        self, connection: psycopg.AsyncConnection[Any], where: sql.Composed, values: dict[str, Any]
    ) -> list[Blanked]:
        query = sql.SQL(
            "SELECT epoch, id_ms, id_seq, type, (extract(epoch FROM ts) * 1000)::bigint, tableoid::regclass::text "
            "FROM events WHERE {} ORDER BY epoch, id_ms, id_seq LIMIT %(count)s FOR UPDATE"
        ).format(where)
        rows = await (await connection.execute(query, values | {"count": BATCH_EVENTS})).fetchall()
        batch = [Blanked(Place(row[0], EntryId(row[1], row[2])), row[3], row[4]) for row in rows]
        self._tables |= {row[5] for row in rows}
        if batch:
            await blank_out(connection, batch)
        return batch

    async def _note(self, connection: psycopg.AsyncConnection[Any], number: int) -> None:
        if self._row is None:
            query = "INSERT INTO erasures (asked, events) VALUES (%s, %s) RETURNING erasure"
            row = await (await connection.execute(query, (Jsonb(self._erasure.as_data()), number))).fetchone()
            self._row = row[0] if row else None
        else:
            query = "UPDATE erasures SET events = events + %s WHERE erasure = %s"
            await connection.execute(query, (number, self._row))


async def _count(connection: psycopg.AsyncConnection[Any], selection: Selection) -> int:
    query = sql.SQL("SELECT count(*) FROM events WHERE {}").format(selection.where())
    row = await (await connection.execute(query, selection.values)).fetchone()
    return int(row[0]) if row else 0


async def _patiently(connection: psycopg.AsyncConnection[Any], work: Callable[[], Awaitable[_T]]) -> _T:
    for _ in range(TRIES_MAX - 1):
        try:
            async with connection.transaction():
                return await work()
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            await asyncio.sleep(RETRY_S)  # the archiver counts in the same rows
    async with connection.transaction():
        return await work()
