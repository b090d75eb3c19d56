"""An export, or a recorded file, into the archive: every event exactly once, also if it was cut off or comes twice.

Rules:
1. An event's place is (epoch, id): what is there already is left as it is. So is what stands under another place, which
   its `by` tells, near to it: Redis had lost it, and it was appended again.
2. Logs of the export that the archive does not know come in front of those it knows, or behind them; so order stays as
   it was. In front there may be no numbers left: then all that it knows get greater ones.
3. An archive that was begun with a part is marked, so that no archiver goes on there: it would leave out the rest.
4. The archiver's checkpoint is moved on only by an export that has everything from before it on, so that nothing is
   left out in between. It is moved in the transaction of the batch, which fences the archiver off: that finds the new
   one, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from broadcast.consumers.connection import connect
from broadcast.consumers.dump_file import Recorded
from broadcast.consumers.filled_gaps import close_filled_gaps
from broadcast.consumers.incoming import place_in, store_incoming, without_repeats
from broadcast.consumers.log_numbers import begin_earlier, numbered
from broadcast.consumers.rows import Row, parts_of, row_of
from broadcast.consumers.store import OF_A_PART, refusal_of
from broadcast.errors import BroadcastError, EventError, UnreachableError
from broadcast.log.archive import Epoch, Extent, Place, read_extent
from broadcast.log.entry import Entry
from broadcast.log.export_form import Exported, Header, Mark, Unplaced, read_line
from broadcast.log.migrate import migrate
from broadcast.log.ownership import refuse_another
from broadcast.log.partitions import make, week_of
from broadcast.log.position import EntryId, Position

__all__ = ["Imported", "Importer"]

BATCH_EVENTS: Final = 5_000
BATCH_CHARS: Final = 8 * 1024 * 1024
HOLDER: Final = "import"
UNNAMED: Final = "imported"


@dataclass(slots=True)
class Imported:
    """What has become of the lines."""

    events: int = 0
    """Read, with a place."""
    fresh: int = 0
    """Put into the archive; the others were there."""
    unplaced: int = 0
    """Events without an id, which belong to no place in the log."""
    beyond: int = 0
    """Left out: they lie behind the archiver's checkpoint, and it will archive them itself."""
    parked: int = 0
    """No rows as they came: a `broadcast.malformed` stands in the place of each."""


class Importer:
    """Imports into one archive, which is made if there is none.

    Args:
        url: its address.
        stream: the stream's key, which a fresh archive is said to be of.
        recorded: what log the end of the file is of, where no line in it says so; None: what its ids say.
    """

    def __init__(self, url: str, stream: str, *, recorded: Recorded | None = None) -> None:
        self._url, self._stream = url, stream
        self._recorded = recorded
        self._epoch = None if recorded is None or recorded.behind else recorded.epoch
        self._numbers: dict[str, int] = {}
        self._rows: list[Row] = []
        self._chars = 0
        self._is_whole = self._is_from_start = False
        self._is_complete = True
        self._has_met_checkpoint = False
        self.done = Imported()
        """How far it is."""
        self.is_over = False
        """Whether all lines were taken in."""
        self.on_progress: Callable[[int], None] = lambda _: None
        """Told of the events that were read, now and then."""

    async def run(self, lines: Iterable[bytes]) -> Imported:
        """Import some lines.

        Raises:
            BroadcastError: there is no line, one is no event, or the export was cut off; what was before is imported.
            SettingError: the database holds another stream's events.
            UnreachableError: PostgreSQL does not answer, or refuses; the same again does what is left.
        """
        try:
            connection = await connect(self._url, "broadcast-import")
            try:
                await migrate(connection)
                await refuse_another(connection, self._stream)
                await self._run(connection, lines)
            finally:
                await connection.close()
        except psycopg.Error as error:
            raise UnreachableError(f"PostgreSQL: {type(error).__name__}: {error}"[:300]) from error
        if not self._is_complete:
            raise BroadcastError(f"the export was cut off after {self.done.events} events: its last line is missing")
        self.is_over = True
        return self.done

    async def _run(self, connection: psycopg.AsyncConnection[Any], lines: Iterable[bytes]) -> None:
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                await self._read(connection, line, number)
        except BroadcastError:
            await self._flush(connection)
            raise
        if not number:
            raise BroadcastError("there is no line in it; an export of nothing has three")
        await self._flush(connection)
        await close_filled_gaps(connection)

    async def _read(self, connection: psycopg.AsyncConnection[Any], line: bytes, number: int) -> None:
        try:
            read = read_line(line)
        except EventError as error:
            raise BroadcastError(f"line {number}: {error}") from None
        if isinstance(read, Entry):
            await self._take(connection, read)
        elif isinstance(read, Unplaced):
            self.done.unplaced += 1
            if read.is_of_another_log:
                await self._flush(connection)
                beside = self._recorded
                self._epoch = beside.epoch if beside is not None and beside.behind == number else None
        else:
            await self._flush(connection)
            await self._heed(connection, read)

    async def _take(self, connection: psycopg.AsyncConnection[Any], entry: Entry) -> None:
        self._rows.append(row := row_of(entry))
        self._chars += len(row.line or "")
        if len(self._rows) >= BATCH_EVENTS or self._chars >= BATCH_CHARS:
            await self._flush(connection)

    async def _heed(self, connection: psycopg.AsyncConnection[Any], told: Header | Mark | Exported) -> None:
        if isinstance(told, Header):
            self._is_whole, self._is_from_start, self._is_complete = told.is_whole, told.is_from_start, False
            self._numbers |= await numbered(connection, told.epochs)
        elif isinstance(told, Mark):
            self._epoch = told.name
        else:
            self._is_complete = True

    # --- a batch

    async def _flush(self, connection: psycopg.AsyncConnection[Any]) -> None:
        rows, self._rows, self._chars = self._rows, [], 0
        if rows:
            await self._store(connection, rows)

    async def _store(self, connection: psycopg.AsyncConnection[Any], rows: list[Row]) -> None:
        """Store rows; those that PostgreSQL refuses in halves, down to the event that it refuses."""
        numbers, beyond = dict(self._numbers), self.done.beyond
        try:
            fresh, parked = await self._commit(connection, rows)
        except psycopg.Error as error:
            refusal = refusal_of(error)
            parts = parts_of(rows, refusal) if refusal else []
            if not parts:
                raise
            self._numbers, self.done.beyond = numbers, beyond  # what was in that transaction is not there
            for part in parts:
                await self._store(connection, part)
            return
        self.done.events += len(rows)
        self.done.fresh += fresh
        self.done.parked += parked
        self.on_progress(self.done.events)

    async def _commit(self, connection: psycopg.AsyncConnection[Any], rows: list[Row]) -> tuple[int, int]:
        """Store rows in one transaction; how many were new, and how many are newly parked."""
        await make(connection, {week_of(row.entry.id.ms) for row in rows if row.line is not None})
        async with connection.transaction():
            # Whoever else writes waits, or is fenced off.
            await connection.execute("SELECT 1 FROM checkpoint FOR UPDATE")
            first = place_in(rows[0])
            number = await self._number_of(connection, first)
            extent = await read_extent(connection)  # not before: that may have given greater numbers to all logs
            names = [] if extent is None else [epoch.name for epoch in extent.epochs]
            await begin_earlier(connection, number, first, names)
            kept = await self._kept(connection, rows, number, extent)
            if extent is not None:
                numbers = [epoch.number for epoch in extent.epochs]
                kept = await without_repeats(connection, kept, number, numbers)
            fresh, parked = await store_incoming(connection, kept, number)
            if fresh:
                await connection.execute("UPDATE checkpoint SET imports = imports + 1")
        return fresh, parked

    async def _number_of(self, connection: psycopg.AsyncConnection[Any], first: EntryId) -> int:
        name = self._epoch
        if name is None:
            extent = await read_extent(connection)
            place = None if extent is None else extent.place_of(Position(first))
            if place is not None:
                return place.epoch
            name = UNNAMED
        if name not in self._numbers:
            self._numbers |= await numbered(connection, (Epoch(0, name, None, None, first),))
        return self._numbers[name]

    async def _kept(
        self, connection: psycopg.AsyncConnection[Any], rows: list[Row], number: int, extent: Extent | None
    ) -> list[Row]:
        """The rows that may go in; moves the checkpoint behind them where it has to."""
        holder = await (await connection.execute("SELECT holder FROM checkpoint")).fetchone()
        end = place_in(rows[-1])
        # An id that no bigint holds: the ordinal would be another entry's.
        n = rows[-1].entry.n if end == rows[-1].entry.id else None
        is_all = self._is_whole and self._is_from_start
        if extent is None or holder is None:
            await connection.execute(
                "INSERT INTO checkpoint (stream, epoch, id_ms, id_seq, n, holder, heard_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'epoch')",
                (self._stream, number, *end, n, HOLDER if is_all else OF_A_PART),
            )
            self._has_met_checkpoint = True
            return rows
        self._has_met_checkpoint |= Place(number, rows[0].entry.id) <= extent.end
        if is_all and Place(number, end) >= extent.end:
            await connection.execute("UPDATE checkpoint SET holder = %s WHERE holder = %s", (HOLDER, OF_A_PART))
        if Place(number, end) <= extent.end:
            return rows
        goes_on = self._is_whole and self._has_met_checkpoint
        if not goes_on and holder[0] not in (HOLDER, OF_A_PART):
            if number > extent.end.epoch:
                raise BroadcastError(
                    f"the log {self._epoch!r} is not what this archive's archiver goes on with, and is newer than what "
                    "it has: import into a database of its own"
                )
            kept = [row for row in rows if Place(number, row.entry.id) <= extent.end]
            self.done.beyond += len(rows) - len(kept)
            return kept
        await connection.execute("UPDATE checkpoint SET epoch = %s, id_ms = %s, id_seq = %s, n = %s", (number, *end, n))
        if not goes_on:  # nobody archives into it: it has what was imported
            await connection.execute("UPDATE checkpoint SET holder = %s", (OF_A_PART,))
        return rows
