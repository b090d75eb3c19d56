"""The archive as lines of JSON, a slice at a time, straight from PostgreSQL's COPY: no line is looked into on its way.

A slice is read as fast as PostgreSQL gives it and kept, however slowly somebody takes it: so no reader holds a
connection, or a snapshot, for longer than a slice takes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from broadcast.log.epochs import epochs_of
from broadcast.log.places import Place, Range
from broadcast.log.position import EntryId
from broadcast.log.questions import DELIVERED, Stretch, select, stretches

__all__ = ["Slice", "read_slice"]

SLICE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Where events are so large that their number alone would not bound a slice, it is cut here."""
CHUNK_BYTES: Final = 64 * 1024
WINDOW: Final = 4
ENOUGH: Final = 8
"""Type by type is read where among so many times what is wanted fewer than an eighth of it was found."""

# With these, what COPY writes is the text as it is: JSON has none of the two, and neither a line's end nor `\\.` alone.
_COPY: Final = "COPY ({}) TO STDOUT WITH (FORMAT csv, QUOTE E'\\x01', ESCAPE E'\\x01', DELIMITER E'\\x02')"


@dataclass(slots=True)
class Slice:
    """Lines that follow on one another."""

    chunks: list[bytes] = field(default_factory=list[bytes])
    """Whole lines, each with its end."""
    rows: int = 0
    last: Place | None = None
    """Of its last line."""
    is_partial: bool = False
    """Whether there may be more of the range, though it has fewer lines than were asked for."""


class _TooLargeError(Exception):
    """There is enough of it: the rest of the COPY is called off."""


async def read_slice(
    connection: psycopg.AsyncConnection[Any],
    asked: Range,
    types: list[str] | None,
    count: int,
    *,
    newest_first: bool = False,
) -> Slice:
    """The first events of a range as lines, in the caller's snapshot, where nothing more is read behind a partial one.

    Args:
        connection: in a `snapshot`.
        asked: the range.
        types: what `wanted_types` said.
        count: at most so many.
        newest_first: the other way round.
    """
    found = Slice()
    epochs = await epochs_of(connection, asked)
    for stretch in stretches(asked, epochs, types, newest_first=newest_first):
        before = found.rows
        for step in stretch.steps(count * WINDOW):
            begun = step.behind(found.last, newest_first=newest_first)
            await _copy(connection, begun, found, count - found.rows, newest_first=newest_first)
            if found.rows >= count or found.is_partial:
                return found
            if step.window is not None and (found.rows - before) * ENOUGH >= count:
                # It is worth while to go on like this from here.
                return replace(found, is_partial=True)
    return found


async def _copy(
    connection: psycopg.AsyncConnection[Any], stretch: Stretch, found: Slice, count: int, *, newest_first: bool
) -> None:
    statement = sql.SQL(_COPY).format(select(DELIVERED, stretch, count=count, newest_first=newest_first))
    size, last = 0, b""
    try:
        async with connection.cursor() as cursor, cursor.copy(statement):
            is_done = False
            while not is_done:
                rows, is_done = await connection.wait(_some(connection.pgconn))
                if rows:
                    chunk, last = b"".join(rows), bytes(rows[-1])
                    found.chunks.append(chunk)
                    found.rows += len(rows)
                    size += len(chunk)
                if size > SLICE_BYTES_MAX and not is_done:
                    raise _TooLargeError
                await asyncio.sleep(0)  # rows may come without end: others get their turn
    except _TooLargeError:
        found.is_partial = True
    if last:
        ms, _, seq = str(orjson.loads(last)["id"]).partition("-")
        found.last = Place(stretch.epoch, EntryId(int(ms), int(seq)))


def _some(pgconn: PGconn) -> PQGen[tuple[list[memoryview], bool]]:
    """A chunk of rows, and whether it is the last: as psycopg reads one row, without a wait for each."""
    rows: list[memoryview] = []
    size = 0
    read = pgconn.get_copy_data
    while size < CHUNK_BYTES:
        length, row = read(1)
        if length > 0:
            rows.append(row)
            size += length
        elif length == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            for result in (yield from fetch_many(pgconn)):
                if result.status != ExecStatus.COMMAND_OK:
                    raise error_from_result(result)
            return rows, True
    return rows, False
