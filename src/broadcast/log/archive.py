"""Reading the archive: where it ends, what an id or a time means in it, and pages of it in the delivered form.

Rules:
1. The delivered JSON is made by PostgreSQL: what was archived is never decoded again on its way to a viewer.
2. A question names one epoch at a time, and bounds the id: then PostgreSQL looks at the partitions of that range alone,
   in their order, and stops at the page's end.
3. What is asked together has to be of one moment: `Extent` and the rows up to it come from the same snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from broadcast.errors import PositionError, UnreachableError
from broadcast.log.position import START, EntryId, Position

__all__ = ["DELIVERED", "TS", "Archive", "Archived", "Epoch", "Extent", "Place", "read_extent", "read_page"]

CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_MS: Final = 30_000

TS: Final[LiteralString] = """to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
"""A row's `ts` as it stands in the event."""

DELIVERED: Final[LiteralString] = (
    """'{"type":' || to_json(type)::text || ',"ts":"' || """
    + TS
    + """ || '","cycle":' || coalesce(cycle::text, (extra->'cycle')::text, 'null')
    || ',"day":' || coalesce(day::text, (extra->'day')::text, 'null') || ',"data":' || data::text
    || CASE WHEN extra IS NULL OR (extra - 'cycle' - 'day') = '{}'::jsonb THEN ''
       ELSE ',' || substr((extra - 'cycle' - 'day')::text, 2, length((extra - 'cycle' - 'day')::text) - 2) END
    || ',"id":"' || id_ms || '-' || id_seq || '"' || CASE WHEN by IS NULL THEN '' ELSE ',"by":' || to_json(by)::text END
    || CASE WHEN n IS NULL THEN '' ELSE ',"n":' || n END || '}'"""
)
"""A row as the JSON of the delivered event."""


class Place(NamedTuple):
    """A place in the archive, ordered as it is."""

    epoch: int
    """The number that the archive gave to the log."""
    id: EntryId

    def __str__(self) -> str:
        return f"{self.epoch}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str` wrote.

        Raises:
            PositionError: it is none.
        """
        epoch, _, entry_id = text.partition(".")
        ms, _, seq = entry_id.partition("-")
        parts = (epoch, ms, seq)
        if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in parts) or int(epoch) >= 2**31:
            raise PositionError(f"cursor: expected what `next` said, such as '1.1771095683456-0', got {text[:60]!r}")
        return cls(int(epoch), EntryId(int(ms), int(seq)))


@dataclass(frozen=True, slots=True)
class Epoch:
    """One log, as the archive knows it."""

    number: int
    name: str
    parent: str | None
    forked_at: EntryId | None
    first: EntryId
    """Where the archive's part of it begins."""

    def has_taken(self, at: EntryId) -> bool:
        """Whether a place that it has in common with the log before it is archived under this one."""
        return self.forked_at is not None and self.first <= at <= self.forked_at


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the archive reaches."""

    epochs: tuple[Epoch, ...]
    """In their order; the last one is the checkpoint's."""
    end: Place
    """The checkpoint: everything up to here is archived."""
    n: int | None
    """Its ordinal in its log."""

    def position(self) -> Position:
        """The checkpoint as a position in the log."""
        return Position(self.end.id, self.n, self.epochs[-1].name)

    def place_of(self, position: Position) -> Place | None:
        """Where a position lies; None if it is in a log that the archive has not met.

        A bare id is looked for in the newest log that had begun by then: ids begin with a time. What a log has in
        common with the one that it continues is archived once, under either of them.
        """
        if position.epoch is None:
            return self._begun_by(position.id, self.epochs)
        known = self._named(position.epoch)
        if known is None:
            return None
        if known.forked_at is None and position.n is None and position.id < known.first.before():
            # Who counts by `n` stands in that log; a bare id under its name may have come from one before.
            return self._begun_by(position.id, [epoch for epoch in self.epochs if epoch.number <= known.number])
        place = Place(known.number, position.id)
        while (before := self.parting(place)) is not None and place.id < known.first.before():
            place = before
            known = self._numbered(place.epoch)
        child = next((epoch for epoch in self.epochs if epoch.parent == known.name and epoch.has_taken(place.id)), None)
        return place if child is None else Place(child.number, place.id)

    def parting(self, place: Place) -> Place | None:
        """The same place, or the last one in common, in the log that this one continues; None if it continues none."""
        known = self._numbered(place.epoch)
        parent = self._named(known.parent)
        if parent is None or known.forked_at is None:
            return None
        return Place(parent.number, min(place.id, known.forked_at))

    @staticmethod
    def _begun_by(at: EntryId, epochs: Sequence[Epoch]) -> Place:
        begun = [epoch for epoch in epochs if epoch.first <= at]
        return Place((begun[-1] if begun else epochs[0]).number, at)

    def _numbered(self, number: int) -> Epoch:
        return next(epoch for epoch in self.epochs if epoch.number == number)

    def _named(self, name: str | None) -> Epoch | None:
        return next((epoch for epoch in self.epochs if epoch.name == name), None)

    def name_of(self, number: int) -> str | None:
        """What the log of this number calls itself."""
        return next((epoch.name for epoch in self.epochs if epoch.number == number), None)


@dataclass(frozen=True, slots=True)
class Archived:
    """One event of the archive."""

    place: Place
    n: int | None
    type: str
    ts: str
    by: str | None
    json: bytes
    """Its delivered form."""


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
                # The plan depends on the range; one that is made for all of them reads every partition.
                "prepare_threshold": None,
                "options": f"-c statement_timeout={QUERY_TIMEOUT_MS} -c default_transaction_read_only=on",
            },
            min_size=0,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            max_idle=60.0,
            open=False,
        )
        self._is_open = False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A connection in a transaction that sees the archive as it is at one moment.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        try:
            if not self._is_open:
                self._is_open = True
                await self._pool.open()
            async with self._pool.connection() as connection:
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                async with connection.transaction():
                    yield connection
        except (psycopg.Error, PoolTimeout, PoolClosed, OSError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}"[:300]) from error

    async def extent(self) -> Extent | None:
        """How far the archive reaches; None if nothing was archived yet.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self.snapshot() as connection:
            return await read_extent(connection)

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
        """Events behind a place, oldest first.

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
            return await read_page(connection, after, until, count, types, (ts_from, ts_to))

    async def page_before(
        self,
        before: Place,
        *,
        since: Place,
        count: int,
        matches: Callable[[str], bool] | None = None,
        ts_from: str | None = None,
        ts_to: str | None = None,
    ) -> list[Archived]:
        """Events in front of a place, newest first; the arguments as those of `page`, `before` and `since` exclusive.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self.snapshot() as connection:
            types = await wanted_types(connection, matches)
            return await read_page(connection, since, before, count, types, (ts_from, ts_to), newest_first=True)


async def read_extent(connection: psycopg.AsyncConnection[Any]) -> Extent | None:
    """How far the archive reaches, in the caller's snapshot; None if nothing was archived yet."""
    made = await (await connection.execute("SELECT to_regclass('checkpoint') IS NOT NULL")).fetchone()
    if made is None or not made[0]:
        return None
    row = await (await connection.execute("SELECT epoch, id_ms, id_seq, n FROM checkpoint")).fetchone()
    if row is None:
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
) -> list[Archived]:
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
    found: list[Archived] = []
    if types == []:
        return found
    for epoch in _epochs_between(after.epoch, until.epoch, newest_first=newest_first):
        begin = after.id if epoch == after.epoch else START
        end = until.id if epoch == until.epoch else None
        left = count - len(found)
        query, values = _question(epoch, begin, end, left, types, times, newest_first=newest_first, late_only=late_only)
        rows = await connection.execute(query, values)
        found += [_archived(row) for row in await rows.fetchall()]
        if len(found) >= count:
            break
    return found


def _epochs_between(first: int, last: int, *, newest_first: bool) -> range:
    return range(last, first - 1, -1) if newest_first else range(first, last + 1)


def _question(
    epoch: int,
    begin: EntryId,
    end: EntryId | None,
    count: int,
    types: list[str] | None,
    times: tuple[str | None, str | None],
    *,
    newest_first: bool,
    late_only: bool,
) -> tuple[sql.Composed, dict[str, Any]]:
    # Comparing rows finds the place in the index, comparing the time alone finds the partition: both are needed.
    where: list[LiteralString] = ["epoch = %(epoch)s", "id_ms >= %(ms)s", "(id_ms, id_seq) > (%(ms)s, %(seq)s)"]
    values: dict[str, Any] = {"epoch": epoch, "ms": min(begin.ms, 2**63 - 1), "seq": min(begin.seq, 2**63 - 1)}
    if end is not None:
        where.append("id_ms <= %(end_ms)s")
        last = "(id_ms, id_seq) < (%(end_ms)s, %(end_seq)s)"
        where.append(last if newest_first else "(id_ms, id_seq) <= (%(end_ms)s, %(end_seq)s)")
        values |= {"end_ms": min(end.ms, 2**63 - 1), "end_seq": min(end.seq, 2**63 - 1)}
    if types is not None:
        where.append("type = ANY(%(types)s)")
        values["types"] = types
    if times[0] is not None:
        where.append("ts >= %(ts_from)s::timestamptz")
        values["ts_from"] = times[0]
    if times[1] is not None:
        where.append("ts <= %(ts_to)s::timestamptz")
        values["ts_to"] = times[1]
    if late_only:  # the predicate of the index `events_late`, word for word
        where.append("ts < to_timestamp((id_ms - 60000) / 1000.0::double precision)")
    order: LiteralString = "DESC" if newest_first else "ASC"
    values["count"] = count
    query = sql.SQL(
        "SELECT epoch, id_ms, id_seq, n, type, {ts}, by, {json} FROM events WHERE {where} "
        "ORDER BY id_ms {order}, id_seq {order} LIMIT %(count)s"
    ).format(
        ts=sql.SQL(TS),
        json=sql.SQL(DELIVERED),
        where=sql.SQL(" AND ").join([sql.SQL(part) for part in where]),
        order=sql.SQL(order),
    )
    return query, values


def _archived(row: tuple[Any, ...]) -> Archived:
    epoch, ms, seq, n, event_type, ts, by, json = row
    return Archived(Place(epoch, EntryId(ms, seq)), n, event_type, ts, by, json.encode())
