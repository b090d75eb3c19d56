"""Erasing in the archive: a blank takes the row's place, and whatever was counted is counted anew.

In batches, each a transaction of its own: an archive may hold millions of what shall go, and the archiver must go on.
Where times are named, only the rows are read that can have them: an event is in the log soon after its `ts`, or it is
in the index of those that came late.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from broadcast.errors import SettingError, UnreachableError
from broadcast.log.archive import Place, read_extent
from broadcast.log.blanks import Blanked, blank_out
from broadcast.log.erasure import BLANK, ERASED, Erasure
from broadcast.log.places import LATE_MS, milliseconds
from broadcast.log.position import START, EntryId

__all__ = ["ArchiveEraser"]

BATCH_EVENTS: Final = 5_000
CONNECT_TIMEOUT_S: Final = 5
TRIES_MAX: Final = 5
BIGINT_MAX: Final = 2**63 - 1
RETRY_S: Final = 0.2
EARLY_MS: Final = 86_400_000
"""So far ahead of the time in its id an event's `ts` may be, by another machine's clock; wide, so that none is left."""


@dataclass(slots=True)
class _Question:
    """Conditions on a row, and their values."""

    parts: list[LiteralString]
    values: dict[str, Any]

    def where(self, *more: LiteralString) -> sql.Composed:
        return sql.SQL(" AND ").join([sql.SQL(part) for part in (*self.parts, *more)])


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
        self._row: int | None = None

    async def count(self) -> int:
        """How many events are meant.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
            SettingError: the database holds no archive, or that of another log than Redis has.
        """
        async with await self._connected() as connection:
            await self._refuse_strangers(connection)
            total = 0
            for question in self._parted(await self._question(connection)):
                query = sql.SQL("SELECT count(*) FROM events WHERE {}").format(question.where())
                row = await (await connection.execute(query, question.values)).fetchone()
                total += int(row[0]) if row else 0
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
        async with await self._connected() as connection:
            for question in self._parted(await self._question(connection)):
                after = Place(-(2**31), START)
                while batch := await self._patiently(connection, question, after):
                    total, after = total + len(batch), batch[-1].place
        return total

    async def has_all(self) -> bool:
        """Whether everything up to the end is archived, so that nothing of it is on the way any more."""
        async with await self._connected() as connection:
            extent = await read_extent(connection)
        if self.newest == START:
            return True
        number = None if extent is None else extent.number_of(self.epoch or "")
        return extent is not None and number is not None and Place(number, self.newest) <= extent.end

    async def purge(self) -> str:
        """Clean the pages that held what is gone, and what the planner had noted of it.

        Returns:
            What is said of it.
        """
        try:
            async with await self._connected() as connection:
                for name in await self._tables(connection):
                    await connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.SQL(name)))  # pyright: ignore
                # Nobody but a person lets the whole be analysed: it then has samples of its own.
                noted = "SELECT 1 FROM pg_statistic WHERE starelid = 'events'::regclass LIMIT 1"
                if await (await connection.execute(noted)).fetchone():
                    await connection.execute("ANALYZE events")
        except UnreachableError as error:
            return f"not vacuumed ({error})"
        return "vacuumed"

    async def _tables(self, connection: psycopg.AsyncConnection[Any]) -> list[str]:
        """Where something may have been erased, now or by a run that came no further."""
        found = {"parked"}
        question = await self._question(connection)
        question.parts = [part for part in question.parts if not part.startswith("type ")]
        for each in self._parted(question):
            query = sql.SQL("SELECT DISTINCT tableoid::regclass::text FROM events WHERE {}").format(
                each.where("type = %(blank)s")
            )
            rows = await connection.execute(query, each.values | {"blank": BLANK})
            found |= {name for (name,) in await rows.fetchall()}
        return sorted(found)

    # --- one connection

    async def _connected(self) -> _Connection:
        connection = _Connection(self._url)
        await connection.open()
        return connection

    async def _refuse_strangers(self, connection: psycopg.AsyncConnection[Any]) -> None:
        # Two addresses that do not belong together: what is erased cannot be brought back.
        extent, epoch = await read_extent(connection), self.epoch
        if extent is not None and self.end not in (None, START) and extent.number_of(epoch or "") is None:
            raise SettingError(
                "REDIS_URL and DATABASE_URL name two logs: the archive has never met the one in Redis "
                f"({epoch or 'without a name'}). Name those that belong together, or let the archiver come this far"
            )

    async def _question(self, connection: psycopg.AsyncConnection[Any]) -> _Question:
        erasure = self._erasure
        parts: list[LiteralString] = ["type <> ALL(%(kept)s)"]
        values: dict[str, Any] = {"kept": [BLANK, ERASED]}
        if erasure.ids:
            parts.append("id_ms = ANY(%(ids_ms)s) AND (id_ms || '-' || id_seq) = ANY(%(ids)s)")
            values |= {"ids_ms": [each.ms for each in erasure.ids], "ids": [str(each) for each in erasure.ids]}
        if erasure.types is not None:
            there = await (await connection.execute("SELECT type FROM types")).fetchall()
            parts.append("type = ANY(%(types)s)")
            values["types"] = [name for (name,) in there if erasure.types.matches(name)]
        if erasure.ts_from is not None:
            parts.append("ts >= %(ts_from)s::timestamptz AND id_ms >= %(from_ms)s")
            values |= {"ts_from": erasure.ts_from, "from_ms": milliseconds(erasure.ts_from) - EARLY_MS}
        if erasure.ts_to is not None:
            # Readers compare milliseconds, which is all that an event tells; the column may hold more.
            parts.append("ts < %(ts_to)s::timestamptz + interval '1 ms'")
            values["ts_to"] = erasure.ts_to
        extent = await read_extent(connection)
        number = None if extent is None else extent.number_of(self.epoch or "")
        if number is not None:
            end = self.end or EntryId(BIGINT_MAX, BIGINT_MAX)
            parts.append("(epoch, id_ms, id_seq) <= (%(end_epoch)s, %(end_ms)s, %(end_seq)s)")
            values |= {"end_epoch": number, "end_ms": end.ms, "end_seq": end.seq}
        return _Question(parts, values)

    def _parted(self, question: _Question) -> tuple[_Question, ...]:
        """The same question in parts that an index answers each: what came in time, and what came late."""
        if self._erasure.ts_to is None:
            return (question,)
        values = question.values | {"late_ms": milliseconds(self._erasure.ts_to) + LATE_MS}
        late: LiteralString = "ts < to_timestamp((id_ms - 60000) / 1000.0::double precision)"
        return (
            _Question([*question.parts, "id_ms <= %(late_ms)s"], values),
            _Question([*question.parts, "id_ms > %(late_ms)s", late], values),
        )

    async def _patiently(
        self, connection: psycopg.AsyncConnection[Any], question: _Question, after: Place
    ) -> list[Blanked]:
        for turn in range(TRIES_MAX):
            try:
                async with connection.transaction():
                    return await self._batch(connection, question, after)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                if turn == TRIES_MAX - 1:
                    raise
                await asyncio.sleep(RETRY_S)  # the archiver counts in the same rows
        return []

    async def _batch(
        self, connection: psycopg.AsyncConnection[Any], question: _Question, after: Place
    ) -> list[Blanked]:
        query = sql.SQL(
            "SELECT epoch, id_ms, id_seq, type, (extract(epoch FROM ts) * 1000)::bigint "
            "FROM events WHERE {} AND (epoch, id_ms, id_seq) > (%(epoch)s, %(ms)s, %(seq)s) "
            "ORDER BY epoch, id_ms, id_seq LIMIT %(count)s FOR UPDATE"
        ).format(question.where())
        more = {"epoch": after.epoch, "ms": after.id.ms, "seq": after.id.seq, "count": BATCH_EVENTS}
        rows = await (await connection.execute(query, question.values | more)).fetchall()
        batch = [Blanked(Place(row[0], EntryId(row[1], row[2])), *row[3:]) for row in rows]
        if batch:
            await blank_out(connection, batch)
        if batch or self._row is None:
            await self._note(connection, len(batch))
        return batch

    async def _note(self, connection: psycopg.AsyncConnection[Any], number: int) -> None:
        if self._row is None:
            query = "INSERT INTO erasures (asked, events) VALUES (%s, %s) RETURNING erasure"
            row = await (await connection.execute(query, (Jsonb(self._erasure.as_data()), number))).fetchone()
            self._row = row[0] if row else None
        else:
            query = "UPDATE erasures SET events = events + %s WHERE erasure = %s"
            await connection.execute(query, (number, self._row))


class _Connection:
    """A connection whose failures are told as ours."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def open(self) -> None:
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="broadcast-erase"
            )
        except psycopg.Error as error:
            raise UnreachableError(f"PostgreSQL: {error}"[:300]) from error
        made = await (await connection.execute("SELECT to_regclass('erasures') IS NOT NULL")).fetchone()
        if not (made and made[0]):
            await connection.close()
            raise SettingError("DATABASE_URL: the database holds no archive; `broadcast archive` makes one")
        self._connection = connection

    async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
        assert self._connection is not None
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self._connection is not None
        await self._connection.close()
        if isinstance(error, psycopg.Error):
            raise UnreachableError(f"PostgreSQL: {type(error).__name__}: {error}"[:300]) from error
