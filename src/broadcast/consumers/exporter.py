"""The archive as JSON lines: one snapshot of it, whatever flows meanwhile, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from broadcast.consumers.connection import connect
from broadcast.errors import PositionError, SettingError, UnreachableError
from broadcast.event import timestamp
from broadcast.filters import parse_filter
from broadcast.log.archive import DELIVERED, Epoch, Extent, Place, read_extent, wanted_types
from broadcast.log.export_form import end_line, epoch_line, header_line
from broadcast.log.ownership import refuse_another
from broadcast.log.places import LATE_MS, looked_for_from, milliseconds
from broadcast.log.position import START, EntryId, Since, parse_since

__all__ = ["Exporter"]


class Exporter:
    """Exports one archive.

    Args:
        url: its address.
        stream: the stream's key, whose archive it has to be; None for whichever it is of.
        types: the filter; None for all.
        since: where to begin, an id, a time or a duration ago; None for the beginning.
        until: where to end, inclusive; None for the end.

    Raises:
        FilterError: a type pattern is none.
        PositionError: a position is none.
    """

    def __init__(
        self,
        url: str,
        stream: str | None = None,
        *,
        types: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> None:
        self._url, self._stream, self._types = url, stream, types
        self._filter = None if types is None else parse_filter(types)
        now = datetime.now(UTC)
        self._since, self._until = (None if each is None else parse_since(each, now=now) for each in (since, until))
        for each in (self._since, self._until):
            if each is not None and each.cycle is not None:
                raise PositionError("a cycle is no range of an export: name an id, a time, or a duration ago")
        self._asked = {"types": types, "since": since, "until": until}
        self.events = 0
        """How many were given so far."""
        self.is_whole = False
        """Whether everything was given."""
        self.on_progress: Callable[[int], None] = lambda _: None
        """Told of them now and then."""

    async def lines(self) -> AsyncGenerator[bytes]:
        """The export, some lines at a time.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
            SettingError: the database holds no archive, or another stream's.
        """
        try:
            connection = await connect(self._url, "broadcast-export")
        except psycopg.Error as error:
            raise UnreachableError(f"PostgreSQL: {error}"[:300]) from error
        try:
            # As long as it takes; one statement reads it all.
            await connection.execute("SELECT set_config('statement_timeout', '0', false)")
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            async with connection.transaction():
                async for data in self._lines(connection):
                    yield data
        except psycopg.Error as error:
            raise UnreachableError(f"PostgreSQL: {type(error).__name__}: {error}"[:300]) from error
        finally:
            await connection.close()

    async def _lines(self, connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[bytes]:
        extent = await read_extent(connection)
        if extent is None:
            raise SettingError("DATABASE_URL: the database holds no archive, or an empty one")
        if self._stream is not None:
            await refuse_another(connection, self._stream)
        types = await wanted_types(connection, None if self._filter is None else self._filter.matches)
        begin, end = _place(self._since, extent), _place(self._until, extent)
        epochs = tuple(
            each
            for each in extent.epochs
            if (begin is None or each.number >= begin.epoch) and (end is None or each.number <= end.epoch)
        )
        yield header_line(epochs, ts=_now(), **self._asked)
        for epoch in epochs:
            yield epoch_line(epoch.name, ts=_now())
            query = self._question(
                epoch,
                types,
                begin.id if begin is not None and begin.epoch == epoch.number else None,
                end.id if end is not None and end.epoch == epoch.number else None,
            )
            async with connection.cursor() as cursor, cursor.copy(query) as copy:
                async for block in copy:
                    # In COPY's text form a line is a row, and only a backslash of ours needs to be written twice.
                    data = bytes(block).replace(b"\\\\", b"\\")
                    self.events += data.count(b"\n")
                    self.on_progress(self.events)
                    yield data
        yield end_line(self.events, ts=_now())
        self.is_whole = True

    def _question(
        self, epoch: Epoch, types: list[str] | None, begin: EntryId | None, end: EntryId | None
    ) -> sql.Composed:
        parts: list[sql.Composed] = [sql.SQL("epoch = {}").format(epoch.number)]

        def add(condition: LiteralString, *values: Any) -> None:
            parts.append(sql.SQL(condition).format(*values))

        if begin is not None:
            add("id_ms >= {} AND (id_ms, id_seq) >= ({}, {})", begin.ms, begin.ms, begin.seq)
        if end is not None:
            add("id_ms <= {} AND (id_ms, id_seq) <= ({}, {})", end.ms, end.ms, end.seq)
        if types is not None:
            add("type = ANY({})", types)
        if self._since is not None and self._since.ts is not None:
            add("ts >= {}::timestamptz AND id_ms >= {}", self._since.ts, looked_for_from(self._since.ts).ms)
        if self._until is not None and self._until.ts is not None:
            add(
                "ts <= {}::timestamptz AND (id_ms <= {} OR ts < to_timestamp((id_ms - 60000) / 1000.0::float8))",
                self._until.ts,
                milliseconds(self._until.ts) + LATE_MS,
            )
        return sql.SQL("COPY (SELECT {} FROM events WHERE {} ORDER BY epoch, id_ms, id_seq) TO STDOUT").format(
            sql.SQL(DELIVERED), sql.SQL(" AND ").join(parts)
        )


def _place(asked: Since | None, extent: Extent) -> Place | None:
    """The place that an id means; None for what is a time, or nothing."""
    if asked is None or asked.ts is not None or asked.position is None or asked.position.id == START:
        return None
    return extent.place_of(asked.position)


def _now() -> str:
    return timestamp(int(datetime.now(UTC).timestamp() * 1_000_000_000))
