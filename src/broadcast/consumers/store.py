"""The archiver's own connection to PostgreSQL: who may write, and a batch with its checkpoint in one transaction.

Rules:
1. Every transaction begins with the fence: it moves the checkpoint on from where this archiver believes it is, and only
   if this archiver still holds it. So whatever else is in the transaction happens once.
2. Who starts takes the checkpoint at once; who was fenced off takes it only after the other has been silent for long.
3. What is kept in memory (the epoch's number, the producers' last seqs) is true as long as the fence holds, and is
   thrown away with the connection.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg

from broadcast.consumers.batch import Batch
from broadcast.consumers.connection import connect
from broadcast.consumers.writing import bigints, write_batch
from broadcast.errors import BroadcastError, SettingError
from broadcast.log.migrate import migrate
from broadcast.log.ownership import refuse_another
from broadcast.log.partitions import make, week_of
from broadcast.log.position import START, EntryId, Position

__all__ = ["Checkpoint", "FencedError", "Store", "refusal_of"]

CLAIM_LOCK_TIMEOUT_MS: Final = 3_000
SILENT_S: Final = 10.0
"""An archiver that was not heard of for so long may be replaced by one that waits."""
OF_A_PART: Final = "import of a part"
"""Who holds an archive that lacks what the stream may still have in front of its checkpoint."""
PRODUCERS_CACHED: Final = 20_000
PARTITION_TRIES: Final = 3


class FencedError(BroadcastError):
    """Another archiver holds the checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where the stream is archived."""

    epoch: int
    """The archive's number for the log."""
    name: str
    """What the log calls itself; empty for one without a name."""
    id: EntryId
    n: int | None

    @property
    def position(self) -> Position:
        """From where to read on."""
        return Position(self.id, self.n, self.name)


def refusal_of(error: psycopg.Error) -> str:
    """What PostgreSQL says where it cannot store what it was given, now or later; empty for any other error."""
    if (error.sqlstate or "")[:2] not in ("22", "54"):  # data exception, program limit exceeded
        return ""
    return f"PostgreSQL: {error.diag.message_primary or error}"[:500]


class Store:
    """The archive, as the archiver writes it.

    Args:
        url: what libpq knows as a connection string.
        stream: the stream's key; a database holds one.
        holder: this archiver's name, which no other has.
    """

    def __init__(self, url: str, stream: str, holder: str) -> None:
        self.stream = stream
        self.holder = holder
        self.checkpoint: Checkpoint | None = None
        """None until something was archived."""
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._last_seq: dict[str, int] = {}
        self._weeks: set[int] = set()

    @property
    def connection(self) -> psycopg.AsyncConnection[Any]:
        """The open connection."""
        assert self._connection is not None, "the store is not open"
        return self._connection

    async def open(self) -> None:
        """Connect, and bring the tables up to this version.

        Raises:
            SettingError: see `migrate`; or the database is not in UTF-8, or holds another stream's events.
            psycopg.Error: PostgreSQL does not answer, or refuses.
        """
        self._connection = await connect(self._url, f"broadcast-{self.holder}")
        encoding = self.connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise SettingError(
                f"DATABASE_URL: the database's encoding is {encoding}, which cannot hold every text; make another one "
                "(CREATE DATABASE mind ENCODING 'UTF8' TEMPLATE template0)"
            )
        await migrate(self.connection)
        await refuse_another(self.connection, self.stream)

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    async def claim(self, *, at_once: bool) -> None:
        """Become the one who writes.

        Args:
            at_once: whether to take the checkpoint from whoever holds it; else only from one that is silent.

        Raises:
            FencedError: another archiver holds it, and lives.
            SettingError: only a part of a log was imported here.
            psycopg.Error: PostgreSQL does not answer, or refuses.
        """
        connection = self.connection
        try:
            async with connection.transaction():
                await connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(CLAIM_LOCK_TIMEOUT_MS),))
                found = await self._take(at_once=at_once)
        except psycopg.errors.LockNotAvailable:
            # Its transaction does not end: it was stopped, or its machine is gone and nobody has told PostgreSQL.
            await self._end_the_holder(at_once=at_once)
            async with connection.transaction():
                found = await self._take(at_once=at_once)
        self.checkpoint = found
        self._weeks.clear()
        self._last_seq = dict(
            await self._all("SELECT name, last_seq FROM producers ORDER BY last_ms DESC LIMIT %s", (PRODUCERS_CACHED,))
        )

    async def _take(self, *, at_once: bool) -> Checkpoint | None:
        values = {"me": self.holder, "at_once": at_once, "silent_s": SILENT_S, "part": OF_A_PART}
        row = await self._one(
            "UPDATE checkpoint SET holder = %(me)s, heard_at = clock_timestamp() WHERE holder <> %(part)s AND "
            "(%(at_once)s OR holder = %(me)s OR heard_at < clock_timestamp() - make_interval(secs => %(silent_s)s)) "
            "RETURNING epoch, id_ms, id_seq, n",
            values,
        )
        if row is not None:
            name = await self._one("SELECT name FROM epochs WHERE epoch = %s", (row[0],))
            assert name is not None, "a foreign key says so"
            return Checkpoint(row[0], name[0], EntryId(row[1], row[2]), row[3])
        holder = await self._one("SELECT holder FROM checkpoint")
        if holder is not None and holder[0] == OF_A_PART:
            raise SettingError(
                "DATABASE_URL: this archive was begun with a part of a log (an export with --types, --since or a time "
                "as --until, or a recorded file), and would lack the rest for ever. Import a whole export; or archive "
                "into another database first, and import the part there"
            )
        if holder is not None:
            raise FencedError(f"another archiver is at work: {holder[0]}")
        return None

    async def _end_the_holder(self, *, at_once: bool) -> None:
        await self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity, checkpoint WHERE datname = current_database() "
            "AND application_name = left('broadcast-' || holder, 63) AND holder <> %s "
            "AND (%s OR heard_at < clock_timestamp() - make_interval(secs => %s))",
            (self.holder, at_once, SILENT_S),
        )

    async def hold(self) -> None:
        """Say that this archiver lives, though nothing flows.

        Raises:
            FencedError: another one has taken over.
            psycopg.Error: PostgreSQL does not answer, or refuses.
        """
        if self.checkpoint is None:
            return
        done = await self.connection.execute(
            "UPDATE checkpoint SET heard_at = clock_timestamp() WHERE holder = %s", (self.holder,)
        )
        if done.rowcount != 1:
            raise FencedError("another archiver has taken over")

    async def release(self) -> None:
        """Let whoever waits take over at once."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await self.connection.execute(
                    "UPDATE checkpoint SET heard_at = 'epoch' WHERE holder = %s", (self.holder,)
                )

    async def commit(self, batch: Batch) -> int:
        """Store a batch, and move the checkpoint behind it, in one transaction.

        Returns:
            How many rows were new.

        Raises:
            FencedError: another archiver holds the checkpoint; nothing was stored.
            psycopg.Error: nothing was stored; see `refusal_of`.
        """
        weeks = _weeks(batch)
        for left in reversed(range(PARTITION_TRIES)):
            await self._make_partitions(weeks)
            try:
                async with self.connection.transaction():
                    epoch = await self._enter(batch)
                    checkpoint = await self._fence(epoch, batch)
                    fresh = batch.without_repeats(await self._known(batch))
                    await write_batch(self.connection, epoch, fresh)
            except psycopg.errors.CheckViolation:  # somebody has just dropped the partition
                self._weeks.clear()
                if not left:
                    raise
            else:
                self.checkpoint = checkpoint
                self._last_seq |= {name: seq for name, (seq, _) in fresh.producers.items()}
                return len(fresh.rows)
        raise AssertionError("the last try has returned or raised")

    async def _make_partitions(self, weeks: set[int]) -> None:
        if missing := weeks - self._weeks:
            await make(self.connection, missing)
            self._weeks |= missing

    async def _enter(self, batch: Batch) -> int:
        """The number of the batch's log; a new one where the log is another, or goes on from an earlier place."""
        now, log = self.checkpoint, batch.epoch
        begins = batch.gap is not None and batch.gap.reason in ("rewound", "reset")
        if now is not None and not begins:
            if now.name == log.name:
                return now.epoch
            if not now.name and log.parent is None:  # it has got its name only now
                await self.connection.execute("UPDATE epochs SET name = %s WHERE epoch = %s", (log.name, now.epoch))
                return now.epoch
        parent, forked_at, first = log.parent, log.forked_at, batch.first or START
        # In the order in which an import locks them. A sequence would lose a number with every attempt that fails.
        await self.connection.execute("SELECT 1 FROM checkpoint FOR UPDATE")
        await self.connection.execute("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE")
        if now is not None:
            # A log of this name is known: Redis got an older copy of its data, or nobody may give it another name.
            await self.connection.execute("UPDATE epochs SET name = name || '~' || epoch WHERE name = %s", (log.name,))
        row = await self._one(
            "INSERT INTO epochs (epoch, name, parent, forked_ms, forked_seq, first_ms, first_seq) "
            "SELECT coalesce(max(epoch), 0) + 1, %s, %s, %s::bigint, %s::bigint, %s, %s FROM epochs RETURNING epoch",
            (log.name, parent, *(bigints(forked_at) if forked_at else (None, None)), *bigints(first)),
        )
        assert row is not None
        # Not for us: an archiver of an older version takes its numbers from there.
        await self.connection.execute("SELECT setval(pg_get_serial_sequence('epochs', 'epoch'), %s)", row)
        return int(row[0])

    async def _fence(self, epoch: int, batch: Batch) -> Checkpoint:
        # An id that no bigint holds: the ordinal would be another entry's.
        place, now = EntryId(*bigints(batch.end.id)), self.checkpoint
        n = batch.end.n if place == batch.end.id else None
        if now is None:
            done = await self.connection.execute(
                "INSERT INTO checkpoint (stream, epoch, id_ms, id_seq, n, holder, heard_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp()) ON CONFLICT DO NOTHING",
                (self.stream, epoch, *place, n, self.holder),
            )
        else:
            done = await self.connection.execute(
                "UPDATE checkpoint SET epoch = %s, id_ms = %s, id_seq = %s, n = %s, heard_at = clock_timestamp() "
                "WHERE holder = %s AND epoch = %s AND id_ms = %s AND id_seq = %s",
                (epoch, *place, n, self.holder, now.epoch, *now.id),
            )
        if done.rowcount != 1:
            raise FencedError("another archiver has taken over")
        return Checkpoint(epoch, batch.epoch.name, place, n)

    async def _known(self, batch: Batch) -> dict[str, int]:
        """The last seq of each of the batch's producers that has any."""
        names = batch.producers
        if unknown := [name for name in names if name not in self._last_seq]:
            if len(self._last_seq) > 2 * PRODUCERS_CACHED:
                self._last_seq.clear()
                unknown = list(names)
            rows = await self._all("SELECT name, last_seq FROM producers WHERE name = ANY(%s)", (unknown,))
            self._last_seq |= dict(rows)
        return {name: self._last_seq[name] for name in names if name in self._last_seq}

    async def _one(self, query: LiteralString, values: Any = None) -> Any:
        return await (await self.connection.execute(query, values)).fetchone()

    async def _all(self, query: LiteralString, values: Any = None) -> list[Any]:
        return await (await self.connection.execute(query, values)).fetchall()


def _weeks(batch: Batch) -> set[int]:
    rows = [row for row in (batch.rows[:1] + batch.rows[-1:]) if row.line is not None]
    ends = {week_of(row.entry.id.ms) for row in rows}
    if len(rows) == 2 and len(ends) == 1:
        return ends
    return {week_of(row.entry.id.ms) for row in batch.rows if row.line is not None}
