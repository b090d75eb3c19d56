"""Where the archive ends and the stream goes on: pages of the archive, the last of them with all that the seam needs.

Rules:
1. A page, the checkpoint and the producers come from one snapshot. What is at or before the checkpoint is in the
   archive; whatever else there is stands in the stream behind the checkpoint.
2. What was appended again after a rewind is archived once, in its first place: behind the checkpoint, a `by` that the
   archive has is none to be given again.
3. What the archiver had to leave out stands in `gaps`, and is told in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from broadcast.log.archive import Archive, Archived, Extent, Place, read_extent, read_page, wanted_types
from broadcast.log.position import START, EntryId, Gap, Position

__all__ = ["ArchiveFront", "ArchivePage", "Seam"]

PRODUCERS_MAX: Final = 4096
GAPS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class ArchivePage:
    """What the archive has behind a place."""

    extent: Extent
    pieces: list[Gap | list[Archived]]
    """Events, and gaps in their places; the events of one list are of one epoch."""
    end: Place
    """Everything wanted up to here is in `pieces`."""
    is_last: bool
    """Whether there is nothing more up to where it was read."""
    producers: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """With the last page up to the checkpoint: the last seq of each producer, the one silent for longest first."""

    @property
    def position(self) -> Position:
        """The end as a position in the log."""
        if self.end == self.extent.end:
            return self.extent.position()
        rows = self.pieces[-1] if self.pieces else None
        n = rows[-1].n if isinstance(rows, list) and rows[-1].place == self.end else None
        return Position(self.end.id, n, self.extent.name_of(self.end.epoch))


@dataclass(frozen=True, slots=True)
class ArchiveFront:
    """What the archive has in front of a position."""

    pieces: list[Gap | list[Archived]]
    """The newest events, oldest first, and in their places the gaps between them; none where another log begins."""
    reach: Position | None
    """Up to here, in front of the position, all is in the archive or a gap in it; None if it does not know its log."""


class Seam:
    """The archive of one stream, as its readers see it.

    Args:
        archive: where to read.
        stream: the stream's key; the archive of another stream is as good as none.
    """

    def __init__(self, archive: Archive, stream: str) -> None:
        self._archive = archive
        self._stream = stream

    async def extent(self) -> Extent | None:
        """How far the archive of this stream reaches; None if there is nothing of it.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self._archive.snapshot() as connection:
            return await self._extent(connection)

    async def reaches_beyond(self, position: Position) -> bool:
        """Whether it has something behind a position.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        extent = await self.extent()
        place = None if extent is None else extent.place_of(position)
        return extent is not None and place is not None and place < extent.end

    async def page(
        self,
        at: Position | Place,
        *,
        count: int,
        until: Position | None = None,
        matches: Callable[[str], bool] | None = None,
        times: tuple[str | None, str | None] = (None, None),
        late_only: bool = False,
    ) -> ArchivePage | None:
        """What lies behind a place, oldest first; None if the archive has nothing behind it, or does not know its log.

        Args:
            at: exclusive. Given as a position, what was never archived behind it is told as a gap.
            count: at most so many events; a page of large ones has fewer.
            until: inclusive; None for the checkpoint, which also is the most there is.
            matches: whether an event of a type is wanted; None for all.
            times: bounds of `ts`, both inclusive; None for no bound.
            late_only: only those that came into the log a minute or more after their `ts`.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self._archive.snapshot() as connection:
            extent = await self._extent(connection)
            if extent is None:
                return None
            place = extent.place_of(at) if isinstance(at, Position) else at
            if place is None or place >= extent.end:
                return None
            stands = True
            if isinstance(at, Position):
                place, stands = await _entered(connection, extent, place)
            last = _least(extent, until)
            types = await wanted_types(connection, matches)
            found = await read_page(connection, place, last, count, types, times, late_only=late_only)
            rows = found.rows
            is_last = len(rows) < count and not found.is_cut
            end = max(place, last) if is_last else rows[-1].place
            gaps = [] if late_only else await _gaps(connection, place, end)
            if isinstance(at, Position) and not stands:
                gaps = await _gap_before(connection, at, place) + gaps
            producers = await _producers(connection) if is_last and last == extent.end else []
            return ArchivePage(extent, _pieces(rows, gaps), end, is_last, producers)

    async def before(self, at: Position, *, count: int, matches: Callable[[str], bool] | None = None) -> ArchiveFront:
        """What lies in front of a position.

        Args:
            at: exclusive.
            count: at most so many events, and fewer where these are large: 8 MiB at most.
            matches: whether an event of a type is wanted; None for all.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self._archive.snapshot() as connection:
            extent = await self._extent(connection)
            place = None if extent is None else extent.place_of(at)
            if extent is None or place is None:
                return ArchiveFront([], None)
            oldest = Place(extent.epochs[0].number, START)
            types = await wanted_types(connection, matches)
            rows = (await read_page(connection, oldest, place, count, types, newest_first=True)).rows[::-1]
            gaps = await _gaps(connection, rows[0].place, min(place, extent.end)) if rows else []
            trimmed = [(where, gap) for where, gap in gaps if gap.reason == "trimmed"]
            return ArchiveFront(_pieces(rows, trimmed), at if place <= extent.end else extent.position())

    async def cycle(self, number: int) -> tuple[Position, Position | None] | None:
        """Where the newest cycle of this number begins: in front of its `cycle.start`, and in front of the next one.

        Returns:
            None if the archive has no such cycle; the second one is None if it is the newest of all that are archived.

        Raises:
            UnreachableError: PostgreSQL does not answer, or refuses.
        """
        async with self._archive.snapshot() as connection:
            extent = await self._extent(connection)
            if extent is None:
                return None
            rows = await connection.execute(
                "SELECT epoch, id_ms, id_seq FROM events WHERE type = 'cycle.start' AND cycle = %s "
                "ORDER BY epoch DESC, id_ms DESC, id_seq DESC LIMIT 1",
                (number,),
            )
            if (row := await rows.fetchone()) is None:
                return None
            start = Place(row[0], EntryId(row[1], row[2]))
            following = await read_page(connection, start, extent.end, 1, ["cycle.start"])
            ends = [_in_front_of(extent, found.place) for found in following.rows]
            return _in_front_of(extent, start), ends[0] if ends else None

    async def _extent(self, connection: psycopg.AsyncConnection[Any]) -> Extent | None:
        return await read_extent(connection, self._stream)


def _least(extent: Extent, until: Position | None) -> Place:
    place = None if until is None else extent.place_of(until)
    return extent.end if place is None else min(place, extent.end)


def _in_front_of(extent: Extent, place: Place) -> Position:
    return Position(place.id.before(), None, extent.name_of(place.epoch), is_moment=True)


async def _producers(connection: psycopg.AsyncConnection[Any]) -> list[tuple[str, int]]:
    rows = await connection.execute(
        "SELECT name, last_seq FROM producers ORDER BY last_ms DESC LIMIT %s", (PRODUCERS_MAX,)
    )
    return [(name, seq) for name, seq in await rows.fetchall()][::-1]


async def _gaps(connection: psycopg.AsyncConnection[Any], begin: Place, end: Place) -> list[tuple[Place, Gap]]:
    """What is known to be missing between two places, by the place behind which it is.

    What Redis lost in a rewind the archive has, or its producers have announced: that is no gap in it.
    """
    at = begin.id.after()
    rows = await connection.execute(
        "SELECT epoch, after_ms, after_seq, before_ms, before_seq, lost, reason FROM gaps "
        "WHERE reason = 'trimmed' AND (epoch, after_ms, after_seq) < (%(end)s, %(end_ms)s, %(end_seq)s) "
        "AND ((epoch, after_ms, after_seq) >= (%(epoch)s, %(ms)s, %(seq)s) "
        "OR (epoch = %(epoch)s AND (before_ms, before_seq) > (%(at_ms)s, %(at_seq)s))) "
        "OR reason = 'reset' AND epoch > %(epoch)s AND epoch <= %(end)s "
        "ORDER BY gap LIMIT %(count)s",
        {
            **{"epoch": begin.epoch, "ms": begin.id.ms, "seq": begin.id.seq, "at_ms": at.ms, "at_seq": at.seq},
            **{"end": end.epoch, "end_ms": end.id.ms, "end_seq": end.id.seq, "count": GAPS_MAX},
        },
    )
    return [_placed(begin, *row) for row in await rows.fetchall()]


def _placed(
    begin: Place, epoch: int, ms: int, seq: int, before_ms: int | None, before_seq: int | None, lost: Any, reason: Any
) -> tuple[Place, Gap]:
    after = EntryId(ms, seq)
    before = None if before_ms is None else EntryId(before_ms, before_seq or 0)
    if reason == "reset":  # it stands under the log that begins, and names the last place of the one that was
        return Place(epoch, START), Gap(after, before, lost, reason)
    if Place(epoch, after) >= begin:
        return Place(epoch, after), Gap(after, before, lost, reason)
    return begin, Gap(begin.id, before, None, reason)  # who stands in the middle of it had some of what is missing


async def _entered(connection: psycopg.AsyncConnection[Any], extent: Extent, place: Place) -> tuple[Place, bool]:
    """Where to read on from a place, and whether something stands at or before it.

    A log that continues another begins, in the archive, with what is new in it: what was appended again stands where it
    was first. So who stands before that goes on from where the two parted.
    """
    while True:
        rows = await connection.execute(
            "SELECT 1 FROM events WHERE epoch = %s AND id_ms <= %s AND (id_ms, id_seq) <= (%s, %s) "
            "ORDER BY id_ms DESC, id_seq DESC LIMIT 1",
            (place.epoch, *(min(place.id.ms, 2**63 - 1),) * 2, min(place.id.seq, 2**63 - 1)),
        )
        if await rows.fetchone() is not None:
            return place, True
        parting = extent.parting(place)
        if parting is None:
            return place, False
        place = parting


async def _gap_before(connection: psycopg.AsyncConnection[Any], at: Position, place: Place) -> list[tuple[Place, Gap]]:
    """What lies behind a position and before the archive's beginning, or went with an old partition."""
    if at.is_moment or (at.id == START and at.n is None):
        return []  # it has not had anything, so nothing is missing
    rows = await connection.execute(
        "SELECT id_ms, id_seq, n FROM events WHERE epoch = %s ORDER BY id_ms, id_seq LIMIT 1", (place.epoch,)
    )
    first = await rows.fetchone()
    if first is None:
        return [(place, Gap(place.id, None, None, "trimmed"))]
    lost = None if at.n is None or first[2] is None else first[2] - at.n - 1
    if lost is not None and lost <= 0:
        return []
    return [(place, Gap(place.id, EntryId(first[0], first[1]), lost, "trimmed"))]


def _pieces(rows: list[Archived], gaps: list[tuple[Place, Gap]]) -> list[Gap | list[Archived]]:
    """The rows in lists, each of one epoch, with the gaps between them."""
    pieces: list[Gap | list[Archived]] = []
    waiting = gaps[::-1]
    for row in rows:
        while waiting and waiting[-1][0] < row.place:
            pieces.append(waiting.pop()[1])
        last = pieces[-1] if pieces else None
        if isinstance(last, list) and last[-1].place.epoch == row.place.epoch:
            last.append(row)
        else:
            pieces.append([row])
    return pieces + [gap for _, gap in reversed(waiting)]
