"""The log at one moment: the archive in one snapshot, up to its checkpoint; and behind that, the stream.

Rules:
1. Every event has a place: the number of its log, and its id in it. The log that the stream holds now, if the archive
   has not met it yet, comes after all that it has met.
2. What was appended again after a rewind, and is archived already, is not given again.
3. A place may be of another number in the next moment: what is kept from one to the other is a position.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.history_requests import Edge, Question
from broadcast.bridge.past_events import (
    Lines,
    Matches,
    PastEvent,
    in_front_of,
    in_ring,
    is_start,
    past_event,
    producer_of,
)
from broadcast.bridge.ring import RingEvent
from broadcast.errors import RequestError, UnreachableError
from broadcast.log.places import EVERYTHING, Extent, Place, Range, looked_for_from
from broadcast.log.position import START, EntryId, Gap, Position

if TYPE_CHECKING:
    import psycopg

__all__ = ["Moment", "TrimmedError"]

TAIL_EVENTS: Final = 500


class TrimmedError(Exception):
    """What was behind the checkpoint has left the stream; it is archived by now, or lost."""


class Moment:
    """The log at one moment.

    Args:
        fanout: the log as this bridge has it.
        connection: to the archive, in a snapshot; None to do without.
        extent: how far the archive reaches in that snapshot; None if it is empty.
        heeds_trimming: whether to fail where the stream lacks what is not archived, so that one looks again.
    """

    def __init__(
        self,
        fanout: Fanout,
        connection: psycopg.AsyncConnection[Any] | None = None,
        extent: Extent | None = None,
        *,
        heeds_trimming: bool = False,
    ) -> None:
        self._fanout = fanout
        self.connection = connection
        self.extent = extent
        self._heeds_trimming = heeds_trimming
        self._bounds = fanout.ring_bounds()
        self.head = fanout.head
        self.here = 1
        """The number of the log that the stream holds."""
        self._begin = START
        """Behind this, the stream has what the archive has not."""
        if extent is not None:
            number = extent.number_of(self.head.epoch) if self.head.epoch else extent.end.epoch
            self.here = number or extent.end.epoch + 1
            if self.here == extent.end.epoch:
                self._begin = extent.end.id
            elif self.here < extent.end.epoch:
                # The archiver has met the next log already, before this bridge has: of this one it has everything.
                self._begin = self.head.id
            elif self._bounds.parent == extent.epochs[-1].name and self._bounds.forked_at is not None:
                self._begin = min(extent.end.id, self._bounds.forked_at)

    # --- what a question means

    async def range(self, question: Question) -> Range:
        """A question's range.

        Raises:
            RequestError: it names a cycle that there is not, or that may not be seen.
            UnreachableError: a tier that is needed does not answer.
        """
        asked = self.plain_range(question)
        if question.since.cycle is not None:
            asked = replace(asked, after=max(asked.after, (await self.ends_of(question.since, question))[0]))
        if question.until.cycle is not None:
            asked = replace(asked, until=min(asked.until, (await self.ends_of(question.until, question))[1]))
        return asked

    async def settled(self, question: Question) -> Question:
        """The same question, with where its cycles begin: from page to page, and from slice to slice, they stay these.

        Raises:
            RequestError: it names a cycle that there is not, or that may not be seen.
            UnreachableError: a tier that is needed does not answer.
        """
        since, until = [await self._settled(edge, question) for edge in (question.since, question.until)]
        return replace(question, since=since, until=until)

    async def _settled(self, edge: Edge, question: Question) -> Edge:
        if edge.cycle is None or edge.start is not None:
            return edge
        return replace(edge, start=self._position(await self._start_at(edge, edge.cycle, question)))

    def plain_range(self, question: Question) -> Range:
        """A question's range, whatever cycles it names."""
        since, until, cursor = question.since, question.until, question.cursor
        after = EVERYTHING.after if since.position is None else self.place_of(since.position)
        last = EVERYTHING.until if until.position is None else self.place_of(until.position)
        if cursor is not None and question.newest_first:
            last = min(last, in_front_of(self.place_of(cursor)))
        elif cursor is not None:
            after = max(after, self.place_of(cursor))
        earliest = question.earliest if since.ts is None else max(question.earliest, looked_for_from(since.ts))
        return Range(after, last, since.ts, until.ts, earliest)

    def place_of(self, position: Position) -> Place:
        """Where a position lies among all logs."""
        extent, place = self.extent, Place(self.here, position.id)
        if extent is None:
            return place
        is_unmet, parent = self.here > extent.end.epoch, self._bounds.parent
        if position.epoch is not None and position.epoch == self.head.epoch:
            if is_unmet and parent == extent.epochs[-1].name and position.id <= self._begin:
                return Place(extent.end.epoch, position.id)  # both have it in common, and it is archived
            return place if is_unmet else extent.place_of(position) or place
        if position.epoch is not None and (known := extent.place_of(position)) is not None:
            # What was in the stream when its log ended, and was not archived, is in the one that goes on.
            is_kept = self._bounds.forked_at is not None and extent.end < known and known.id <= self._bounds.forked_at
            return place if is_unmet and position.epoch == parent and is_kept else known
        # A bare id, or one of a log that nobody knows any more: it is in the newest log that had begun by then.
        if is_unmet and position.id >= self._first_behind(self._begin):
            return place
        return extent.place_of(Position(position.id)) or place

    def _first_behind(self, entry_id: EntryId) -> EntryId:
        """The first event behind an id in the stream's log, as far as the ring knows it."""
        ring = self._fanout.ring
        items = ring.read(max(ring.whole_start, ring.index_after(entry_id)), len(ring))
        is_known = self._fanout.ring_reaches(Position(entry_id))
        first = next((item.id for item in items if isinstance(item, RingEvent) and not item.is_forgotten), None)
        return first if is_known and first is not None else entry_id.after()

    async def ends_of(self, edge: Edge, question: Question) -> tuple[Place, Place]:
        """In front of where an edge's cycle begins, and in front of where the next one does.

        Raises:
            RequestError: there is none, or where it begins may not be seen.
            UnreachableError: a tier that is needed does not answer.
        """
        start = await self._start_at(edge, edge.cycle or 0, question)
        following = await self.page(Range(start, EVERYTHING.until), is_start, newest_first=False, count=1)
        end = self.place_of(following[0].position) if following else EVERYTHING.until
        return in_front_of(start), in_front_of(end)

    async def _start_at(self, edge: Edge, cycle: int, question: Question) -> Place:
        """Where an edge's cycle begins: the newest of its number, unless it is known which one was meant."""
        if not question.granted.matches("cycle.start"):
            raise RequestError("forbidden", "cycle: the grant leaves out 'cycle.start', where one begins")
        start = await self.start_of(cycle) if edge.start is None else self.place_of(edge.start)
        if start is None or start.id < question.earliest:
            raise RequestError("not_found", f"cycle: there is no cycle {cycle}")
        return start

    async def start_of(self, cycle: int) -> Place | None:
        """The place of the newest `cycle.start` of this number; None if there is none.

        Raises:
            UnreachableError: a tier that is needed does not answer.
        """
        async with aclosing(self.pages_of_tail(EVERYTHING, is_start, newest_first=True)) as pages:
            async for page in pages:
                for event in page:
                    if orjson.loads(event.json)["cycle"] == cycle:
                        return self.place_of(event.position)
        if self.connection is None or self.extent is None:
            return None
        rows = await self.connection.execute(
            "SELECT epoch, id_ms, id_seq FROM events WHERE type = 'cycle.start' AND cycle = %s "
            "ORDER BY epoch DESC, id_ms DESC, id_seq DESC LIMIT 1",
            (cycle,),
        )
        row = await rows.fetchone()
        return None if row is None else Place(row[0], EntryId(row[1], row[2]))

    # --- events

    async def page(self, asked: Range, matches: Matches, *, newest_first: bool, count: int) -> list[PastEvent]:
        """The first events of a range, in the order that is asked for.

        Raises:
            UnreachableError: a tier that is needed does not answer.
            TrimmedError: see `heeds_trimming`.
        """
        found, is_cut = await self.some(asked, matches, newest_first=newest_first, count=count)
        while is_cut:
            last = self.place_of(found[-1].position)
            asked = replace(asked, until=in_front_of(last)) if newest_first else replace(asked, after=last)
            more, is_cut = await self.some(asked, matches, newest_first=newest_first, count=count - len(found))
            found += more
        return found

    async def some(
        self, asked: Range, matches: Matches, *, newest_first: bool, count: int
    ) -> tuple[list[PastEvent], bool]:
        """The same; it may be fewer where events are large, and then says that there may be more.

        Raises:
            UnreachableError: a tier that is needed does not answer.
            TrimmedError: see `heeds_trimming`.
        """
        if newest_first:
            found = await self.tail(asked, matches, newest_first=True, count=count)
            more, is_cut = await self._archived(asked, matches, newest_first=True, count=count - len(found))
            return found + more, is_cut
        found, is_cut = await self._archived(asked, matches, newest_first=False, count=count)
        if not is_cut:
            found += await self.tail(asked, matches, newest_first=False, count=count - len(found))
        return found, is_cut

    async def lines(self, asked: Range, matches: Matches, *, newest_first: bool, count: int) -> Lines:
        """The same as lines; it may be fewer than `count`, and not the last.

        Raises:
            UnreachableError: a tier that is needed does not answer.
            TrimmedError: see `heeds_trimming`.
        """
        found = Lines()
        if newest_first:
            found.add(await self.tail(asked, matches, newest_first=True, count=count))
        archived = self.in_archive(asked)
        if self.connection is not None and archived is not None and found.rows < count:
            from broadcast.log.archive import wanted_types
            from broadcast.log.slices import read_slice

            types = await wanted_types(self.connection, matches)
            left = count - found.rows
            more = await read_slice(self.connection, archived, types, left, newest_first=newest_first)
            found.chunks += more.chunks
            found.rows += more.rows
            found.last = found.last if more.last is None else self._position(more.last)
            if more.is_partial:
                found.is_last = False
                return found
        if not newest_first:
            found.add(await self.tail(asked, matches, newest_first=False, count=count - found.rows))
        found.is_last = found.rows < count
        return found

    async def _archived(
        self, asked: Range, matches: Matches, *, newest_first: bool, count: int
    ) -> tuple[list[PastEvent], bool]:
        archived = self.in_archive(asked)
        if self.connection is None or archived is None or count <= 0:
            return [], False
        from broadcast.log.archive import read_range, wanted_types

        types = await wanted_types(self.connection, matches)
        found = await read_range(self.connection, archived, types, count, newest_first=newest_first)
        is_cut = found.is_cut and len(found.rows) < count
        return [PastEvent(self._position(row.place, row.n), row.type, row.ts, row.json) for row in found.rows], is_cut

    def in_archive(self, asked: Range) -> Range | None:
        """What of a range lies in the archive."""
        if self.extent is None:
            return None
        after = max(asked.after, Place(self.extent.epochs[0].number, START))
        until = min(asked.until, self.extent.end)
        return replace(asked, after=after, until=until) if after < until else None

    def _position(self, place: Place, n: int | None = None) -> Position:
        epoch = None if self.extent is None else self.extent.name_of(place.epoch)
        return Position(place.id, n, epoch or self.head.epoch)

    # --- what is not archived yet

    async def tail(self, asked: Range, matches: Matches, *, newest_first: bool, count: int) -> list[PastEvent]:
        """The first events of what of a range is not archived yet.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
            TrimmedError: see `heeds_trimming`.
        """
        found: list[PastEvent] = []
        if count > 0:
            async with aclosing(self.pages_of_tail(asked, matches, newest_first=newest_first)) as pages:
                async for page in pages:
                    found += page
                    if len(found) >= count:
                        break
        return found[:count]

    async def pages_of_tail(
        self, asked: Range, matches: Matches, *, newest_first: bool = False
    ) -> AsyncGenerator[list[PastEvent]]:
        """All of what of a range is not archived yet, page by page.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
            TrimmedError: see `heeds_trimming`.
        """
        after = max(Place(self.here, self._begin), asked.after)
        if after >= asked.until:
            return
        if not self._fanout.is_loaded:
            raise UnreachableError(f"the stream has not been read yet: {self._fanout.down_reason}")
        until = min(Place(self.here, self.head.id), asked.until)
        if after >= until:
            return
        inside = replace(asked, after=after, until=until)
        # The ring moves between its pages; what it has lost by then, the stream has.
        while self._fanout.ring_reaches(Position(inside.after.id)):
            events = in_ring(self._fanout, inside, matches, newest_first=newest_first, count=TAIL_EVENTS)
            yield await self._not_archived(events)
            if len(events) < TAIL_EVENTS:
                return
            last = Place(self.here, events[-1].position.id)
            inside = replace(inside, until=in_front_of(last)) if newest_first else replace(inside, after=last)
        read = self._backward if newest_first else self._forward
        async with aclosing(read(inside, matches)) as pages:
            async for page in pages:
                taken = [past_event(e, self.head.epoch) for e in page if inside.covers(e.id, e.ts) and matches(e.type)]
                yield await self._not_archived(taken)

    async def _forward(self, asked: Range, matches: Matches) -> AsyncGenerator[list[RingEvent]]:
        del matches
        async with aclosing(self._fanout.history.forward(Position(asked.after.id), until=asked.until.id)) as pages:
            async for page in pages:
                if not isinstance(page, Gap):
                    yield page
                elif self._heeds_trimming:
                    raise TrimmedError

    async def _backward(self, asked: Range, matches: Matches) -> AsyncGenerator[list[RingEvent]]:
        until = asked.until.id
        while until > asked.after.id:
            page = await self._fanout.history.newest_in_stream(matches, count=TAIL_EVENTS, until=until)
            yield [event for event in page if event.id > asked.after.id]
            if len(page) < TAIL_EVENTS:
                return
            until = page[-1].id.before()

    async def _not_archived(self, events: list[PastEvent]) -> list[PastEvent]:
        """Without those that the archive has already, from before Redis lost them."""
        if self.connection is None or self.extent is None or not events:
            return events
        identities = [producer_of(event) for event in events]
        names = list({name for name, _ in identities if name})
        rows = await self.connection.execute("SELECT name, last_seq FROM producers WHERE name = ANY(%s)", (names,))
        last: dict[str, int] = dict(await rows.fetchall())
        return [
            event for event, (name, seq) in zip(events, identities, strict=True) if not name or seq > last.get(name, -1)
        ]
