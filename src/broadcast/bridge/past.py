"""The log's past over all its tiers: archive, stream and ring, joined where the archive ends.

Rules:
1. What the ring alone holds is read there: it needs neither Redis nor PostgreSQL.
2. Everything else is of one *moment*: the archive in one snapshot, up to its checkpoint; and behind that, the stream.
   What was appended again after a rewind, and is archived already, is not given again.
3. Every event has a place: the number of its log, and its id in it. The log that the stream holds now, if the archive
   has not met it yet, comes after all that it has met.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.history_requests import Edge, Question
from broadcast.bridge.ring import RingEvent
from broadcast.errors import RequestError, UnreachableError
from broadcast.log.places import Extent, Place
from broadcast.log.position import START, EntryId, Gap, Position, parse_since

if TYPE_CHECKING:
    import psycopg

    from broadcast.log.archive import Archive

__all__ = ["EVERYTHING", "Moment", "Past", "PastEvent", "Range", "is_start"]

_END: Final = EntryId(2**64 - 1, 2**64 - 1)
_LAST_LOG: Final = 2**31 - 1
REWOUND_MS: Final = 600_000
"""So long after Redis has lost a tail, events of it may come again: only the archive knows which it has."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the past."""

    position: Position
    type: str
    ts: str
    json: bytes
    """Its delivered form."""


@dataclass(frozen=True, slots=True)
class Range:
    """A question's range in one moment."""

    after: Place
    """Exclusive."""
    until: Place
    """Inclusive."""
    ts_from: str | None = None
    ts_to: str | None = None

    def covers(self, ts: str) -> bool:
        """Whether a time lies in it."""
        return (self.ts_from or "") <= ts and (self.ts_to is None or ts <= self.ts_to)


EVERYTHING: Final = Range(Place(0, START), Place(_LAST_LOG, _END))


class Past:
    """Reads the past.

    Args:
        fanout: the log as this bridge has it.
        archive: the third tier; None where there is none.
    """

    def __init__(self, fanout: Fanout, archive: Archive | None) -> None:
        self.fanout = fanout
        self.archive = archive

    async def page(self, question: Question, matches: Callable[[str], bool], *, count: int) -> list[PastEvent]:
        """The first events of a question's answer, in its order.

        Args:
            question: which.
            matches: whether an event of a type is wanted, and may be seen.
            count: at most so many.

        Raises:
            RequestError: it cannot be answered.
            UnreachableError: a tier that is needed does not answer.
        """
        found = self._in_ring(question, matches, count)
        if found is not None:
            return found
        try:
            async with self.moment() as moment:
                return await moment.page(
                    await moment.range(question, matches), matches, newest_first=question.newest_first, count=count
                )
        except UnreachableError:
            if self.archive is None or not await self._is_in_stream(question):
                raise
        # What the stream holds as a whole can be read without the archive.
        moment = Moment(self.fanout, None, None)
        return await moment.page(
            await moment.range(question, matches), matches, newest_first=question.newest_first, count=count
        )

    @asynccontextmanager
    async def moment(self) -> AsyncGenerator[Moment]:
        """The log as it is at one moment.

        Raises:
            UnreachableError: the archive does not answer, or refuses.
        """
        if self.archive is None:
            yield Moment(self.fanout, None, None)
            return
        from broadcast.log.archive import read_extent

        async with self.archive.snapshot() as connection:
            yield Moment(self.fanout, connection, await read_extent(connection))

    def _in_ring(self, question: Question, matches: Callable[[str], bool], count: int) -> list[PastEvent] | None:
        """The answer, if the ring has all of it; else None."""
        fanout, ring = self.fanout, self.fanout.ring
        first, bounds = ring.first_event(), fanout.ring_bounds()
        if (
            not fanout.is_loaded
            or first is None
            or question.since.cycle is not None
            or question.until.cycle is not None
        ):
            return None
        moment = Moment(fanout, None, None)
        places = (question.since.position, question.until.position, question.cursor)
        if any(place is not None and place.epoch not in (None, fanout.head.epoch) for place in places):
            return None
        asked = moment.plain_range(question)
        edge = first.id.before()
        if bounds.forked_at is not None and self.archive is not None:
            edge = max(edge, EntryId(bounds.forked_at.ms + REWOUND_MS, 0))
        after = max(asked.after.id, _early(asked.ts_from))
        if after >= edge or (self.archive is None and fanout.ring_reaches(Position(after))):
            return _in_ring_between(fanout, asked, matches, question.newest_first, count)
        if not question.newest_first:
            return None
        newest = Range(Place(asked.after.epoch, edge), asked.until, asked.ts_from, asked.ts_to)
        found = _in_ring_between(fanout, newest, matches, True, count)
        return found if len(found) == count else None

    async def _is_in_stream(self, question: Question) -> bool:
        """Whether the stream holds the whole range; the archive cannot be asked."""
        places = (question.since.position, question.cursor)
        if question.since.cycle is not None or any(
            p is not None and p.epoch not in (None, self.fanout.head.epoch) for p in places
        ):
            return False
        asked = Moment(self.fanout, None, None).plain_range(question)
        first = (await self.fanout.reader.bounds()).first
        return first is not None and max(asked.after.id, _early(asked.ts_from)) >= first.before()


class Moment:
    """The log at one moment.

    Args:
        fanout: the log as this bridge has it.
        connection: to the archive, in a snapshot; None to do without.
        extent: how far the archive reaches in that snapshot; None if it is empty.
    """

    def __init__(self, fanout: Fanout, connection: psycopg.AsyncConnection[Any] | None, extent: Extent | None) -> None:
        self._fanout = fanout
        self.connection = connection
        self.extent = extent
        self.bounds = fanout.ring_bounds()
        self.head = fanout.head
        known = None if extent is None else extent.number_of(self.head.epoch)
        if extent is None:
            self.here = 1
        elif known is not None or self.head.epoch is None:
            self.here = known or extent.end.epoch
        else:
            self.here = extent.end.epoch + 1
        """The number of the log that the stream holds."""

    # --- what a question means

    async def range(self, question: Question, matches: Callable[[str], bool]) -> Range:
        """A question's range.

        Raises:
            RequestError: it names a cycle that there is not, or that may not be seen.
        """
        plain = self.plain_range(question)
        after, until = plain.after, plain.until
        if question.since.cycle is not None:
            start, _ = await self.cycle(question.since, matches)
            after = max(after, start)
        if question.until.cycle is not None:
            _, end = await self.cycle(question.until, matches)
            until = min(until, end)
        return Range(after, until, plain.ts_from, plain.ts_to)

    def plain_range(self, question: Question) -> Range:
        """A question's range, whatever cycles it names."""
        since, until, cursor = question.since, question.until, question.cursor
        after = EVERYTHING.after if since.position is None else self.place_of(since.position)
        last = EVERYTHING.until if until.position is None else self.place_of(until.position)
        if cursor is not None and question.newest_first:
            place = self.place_of(cursor)
            last = min(last, _in_front_of(place))
        elif cursor is not None:
            after = max(after, self.place_of(cursor))
        return Range(after, last, since.ts, until.ts)

    async def cycle(self, edge: Edge, matches: Callable[[str], bool]) -> tuple[Place, Place]:
        """In front of where a cycle begins, and in front of where the next one does.

        Raises:
            RequestError: there is no such cycle, or its beginning may not be seen.
            UnreachableError: a tier that is needed does not answer.
        """
        if not matches("cycle.start"):
            raise RequestError("forbidden", "cycle: where it begins may not be seen")
        start = await self.start_of(edge.cycle)
        if start is None:
            raise RequestError("not_found", f"cycle: there is no cycle {edge.cycle}")
        following = await self.page(Range(start, EVERYTHING.until), is_start, newest_first=False, count=1)
        end = self.place_of(following[0].position) if following else EVERYTHING.until
        return _in_front_of(start), _in_front_of(end)

    async def start_of(self, cycle: int | None) -> Place | None:
        """The place of the newest `cycle.start` of this number; None if there is none.

        Raises:
            UnreachableError: a tier that is needed does not answer.
        """
        for event in await self.tail(EVERYTHING, is_start, newest_first=True):
            if orjson.loads(event.json)["cycle"] == cycle:
                return self.place_of(event.position)
        if self.connection is None:
            return None
        rows = await self.connection.execute(
            "SELECT epoch, id_ms, id_seq FROM events WHERE type = 'cycle.start' AND cycle = %s "
            "ORDER BY epoch DESC, id_ms DESC, id_seq DESC LIMIT 1",
            (cycle,),
        )
        row = await rows.fetchone()
        return None if row is None else Place(row[0], EntryId(row[1], row[2]))

    def place_of(self, position: Position) -> Place:
        """Where a position lies among all logs."""
        extent = self.extent
        if extent is None:
            return Place(self.here, position.id)
        if position.epoch is not None:
            if position.epoch == self.head.epoch:
                return Place(self.here, position.id)
            if position.epoch == self.bounds.parent and self._is_kept(position.id, extent):
                return Place(self.here, position.id)  # the stream's log has it from its parent, and it is not archived
            place = extent.place_of(position)
            if place is not None:
                return place
        # A bare id, or one of a log that nobody knows any more: it begins with a time.
        begins = self._stream_begin(extent)
        if self.here > extent.end.epoch and position.id > begins:
            return Place(self.here, position.id)
        return extent.place_of(Position(position.id)) or Place(self.here, position.id)

    def _is_kept(self, entry_id: EntryId, extent: Extent) -> bool:
        forked_at = self.bounds.forked_at
        return self.here > extent.end.epoch and forked_at is not None and extent.end.id < entry_id <= forked_at

    def _stream_begin(self, extent: Extent) -> EntryId:
        """Behind this, the stream has what the archive has not."""
        if self.here == extent.end.epoch:
            return extent.end.id
        if self.bounds.parent == extent.name_of(extent.end.epoch) and self.bounds.forked_at is not None:
            return min(extent.end.id, self.bounds.forked_at)
        return START

    # --- events

    async def page(
        self, asked: Range, matches: Callable[[str], bool], *, newest_first: bool, count: int
    ) -> list[PastEvent]:
        """The first events of a range, in the order that is asked for.

        Raises:
            UnreachableError: a tier that is needed does not answer.
        """
        if newest_first:
            found = await self.tail(asked, matches, newest_first=True, count=count)
            return found + await self._archived(asked, matches, True, count - len(found))
        found = await self._archived(asked, matches, False, count)
        if len(found) < count:
            found += await self.tail(asked, matches, newest_first=False, count=count - len(found))
        return found

    async def _archived(
        self, asked: Range, matches: Callable[[str], bool], newest_first: bool, count: int
    ) -> list[PastEvent]:
        if self.connection is None or self.extent is None or asked.after >= self.extent.end or count == 0:
            return []
        from broadcast.log.archive import read_page, wanted_types

        until = min(asked.until, self.extent.end)
        types = await wanted_types(self.connection, matches)
        rows = await read_page(
            self.connection,
            max(asked.after, Place(self.extent.epochs[0].number, START)),
            Place(until.epoch, until.id.after()) if newest_first else until,
            count,
            types,
            (asked.ts_from, asked.ts_to),
            newest_first=newest_first,
        )
        names = {epoch.number: epoch.name for epoch in self.extent.epochs}
        return [
            PastEvent(Position(row.place.id, row.n, names[row.place.epoch]), row.type, row.ts, row.json) for row in rows
        ]

    async def tail(
        self, asked: Range, matches: Callable[[str], bool], *, newest_first: bool, count: int | None = None
    ) -> list[PastEvent]:
        """What of a range is not archived yet.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        begin = START if self.extent is None else self._stream_begin(self.extent)
        after = max(Place(self.here, begin), asked.after)
        until = min(Place(self.here, self.head.id), asked.until)
        if after >= until or count == 0:
            return []
        if not self._fanout.is_loaded:
            raise UnreachableError("the stream has not been read yet")
        inside = Range(after, until, asked.ts_from, asked.ts_to)
        if self._fanout.ring_reaches(Position(after.id)):
            events = _in_ring_between(self._fanout, inside, matches, newest_first, None)
        else:
            events = await self._in_stream_between(inside, matches)
            events = events[::-1] if newest_first else events
        return list(islice(await self._not_archived(events), count))

    async def _in_stream_between(self, asked: Range, matches: Callable[[str], bool]) -> list[PastEvent]:
        found: list[PastEvent] = []
        async for page in self._fanout.past(Position(asked.after.id), until=asked.until.id):
            if not isinstance(page, Gap):
                found += [_past(e, self.head.epoch) for e in page if asked.covers(e.ts) and matches(e.type)]
        return found

    async def _not_archived(self, events: list[PastEvent]) -> list[PastEvent]:
        """Without those that the archive has already, from before Redis lost them."""
        if self.connection is None or self.extent is None or not events:
            return events
        identities = [_identity(event) for event in events]
        names = list({name for name, _ in identities if name})
        rows = await self.connection.execute(
            "SELECT name, last_seq FROM producers WHERE name = ANY(%s::text[])", (names,)
        )
        last: dict[str, int] = dict(await rows.fetchall())
        return [
            event for event, (name, seq) in zip(events, identities, strict=True) if not name or seq > last.get(name, 0)
        ]


def _in_ring_between(
    fanout: Fanout, asked: Range, matches: Callable[[str], bool], newest_first: bool, count: int | None
) -> list[PastEvent]:
    epoch, after = fanout.head.epoch, asked.after.id
    if newest_first:
        found: list[PastEvent] = []
        for event in fanout.ring.newest_first(matches, until=asked.until.id):
            if event.id <= after or len(found) == count:
                break
            if asked.covers(event.ts):
                found.append(_past(event, epoch))
        return found
    ring = fanout.ring
    items = ring.read(max(ring.start, ring.index_after(after)), len(ring))
    events = (
        item
        for item in items
        if isinstance(item, RingEvent)
        and item.id <= asked.until.id
        and not item.is_forgotten
        and matches(item.type)
        and asked.covers(item.ts)
    )
    return [_past(event, epoch) for event in islice(events, count)]


def is_start(event_type: str) -> bool:
    """Whether it begins a cycle."""
    return event_type == "cycle.start"


def _in_front_of(place: Place) -> Place:
    return Place(place.epoch, place.id.before())


def _past(event: RingEvent, epoch: str | None) -> PastEvent:
    return PastEvent(event.position(epoch), event.type, event.ts, event.json)


def _early(ts: str | None) -> EntryId:
    """The least id that an event of this time, or a later one, has."""
    if ts is None:
        return START
    from datetime import UTC, datetime

    position = parse_since(ts, now=datetime.now(UTC)).position
    return START if position is None else position.id


def _identity(event: PastEvent) -> tuple[str, int]:
    by = orjson.loads(event.json).get("by")
    name, _, digits = (by if isinstance(by, str) else "").rpartition(":")
    is_number = name and len(digits) <= 18 and digits.isascii() and digits.isdigit()
    return (name, int(digits)) if is_number else ("", 0)
