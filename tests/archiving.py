"""An archiver in a few lines, for tests of what reads the archive while it grows: batches, each with its checkpoint."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import psycopg

from broadcast.log.entry import Entry
from broadcast.log.migrate import migrate
from broadcast.log.partitions import make, week_of
from broadcast.log.position import START, EntryId, Position, Seen
from broadcast.log.stream import StreamReader
from tests.archives import _row


class LittleArchiver:
    """Moves the stream into the archive, a batch at each `step`; for one log that nothing happens to.

    Args:
        url: the archive's.
        redis_url: the stream's.
        stream: its key.
    """

    def __init__(self, url: str, redis_url: str, *, stream: str = "v5:stream") -> None:
        self._url = url
        self._stream = stream
        self._redis_url = redis_url
        self._at = Position(START, 0)
        self._seen = Seen()
        self.archived = 0

    async def run(self, *, batch: int = 500, pause_s: float = 0.02) -> None:
        """For ever."""
        while True:
            await self.catch_up(batch=batch)
            await asyncio.sleep(pause_s)

    async def catch_up(self, *, batch: int = 500) -> None:
        """Until there is nothing more."""
        async with (
            aclosing(StreamReader(self._redis_url, self._stream, name="little-archiver")) as reader,
            await psycopg.AsyncConnection.connect(self._url, autocommit=True) as link,
        ):
            await migrate(link)
            while await self._step(reader, link, batch):
                pass

    async def _step(self, reader: StreamReader, link: psycopg.AsyncConnection[Any], batch: int) -> bool:
        """One batch; False if there was none."""
        bounds = await reader.bounds()
        entries, gap = await reader.range(self._at, count=batch)
        if not entries:
            return False
        epoch = bounds.epoch or "e"
        async with link.transaction():
            row = await link.execute(
                "INSERT INTO epochs (name, first_ms, first_seq) VALUES (%s, %s, %s) "
                "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING epoch",
                (epoch, *entries[0].id),
            )
            found = await row.fetchone()
            assert found is not None
            number: int = found[0]
            if gap is not None:
                await link.execute(
                    "INSERT INTO gaps (epoch, after_ms, after_seq, before_ms, before_seq, lost, reason) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (number, *gap.after, *(gap.before or EntryId(0, 0)), gap.lost, gap.reason),
                )
            await make(link, {week_of(entry.id.ms) for entry in entries})
            await self._put(link, number, [entry for entry in entries if self._seen.is_new(entry.by)])
            last = entries[-1]
            await link.execute(
                "INSERT INTO checkpoint (stream, epoch, id_ms, id_seq, n, holder) "
                "VALUES (%s, %s, %s, %s, %s, 'little') "
                "ON CONFLICT (stream) DO UPDATE SET epoch = excluded.epoch, id_ms = excluded.id_ms, "
                "id_seq = excluded.id_seq, n = excluded.n",
                (self._stream, number, *last.id, last.n),
            )
        self._at = Position(last.id, last.n)
        self.archived += len(entries)
        return True

    async def _put(self, link: psycopg.AsyncConnection[Any], number: int, entries: list[Entry]) -> None:
        command = "COPY events (epoch, id_ms, id_seq, by, type, ts, cycle, day, data, extra, n) FROM STDIN"
        async with link.cursor() as cursor, cursor.copy(command) as copy:
            for entry in entries:
                await copy.write_row(_row(number, *entry.id, entry.event))
        types = {entry.event["type"] for entry in entries}
        producers = {}
        for entry in entries:
            name, _, seq = (entry.by or "").rpartition(":")
            if name:
                producers[name] = (int(seq), entry.id.ms)
        async with link.cursor() as cursor:
            await cursor.executemany("INSERT INTO types VALUES (%s, 0) ON CONFLICT DO NOTHING", [(t,) for t in types])
            await cursor.executemany(
                "INSERT INTO producers VALUES (%s, %s, %s) ON CONFLICT (name) "
                "DO UPDATE SET last_seq = excluded.last_seq, last_ms = excluded.last_ms",
                [(name, *last) for name, last in producers.items()],
            )
