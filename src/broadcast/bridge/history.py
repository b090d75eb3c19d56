"""What lies behind the ring: in the stream, and in the archive behind that; each read is for all who want the same.

Pages are shared by where they begin. So that viewers who come a moment apart want the same page, the ring is left at
an index that is a multiple of `ALIGN_EVENTS`, and not at its very start, which moves with every event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from itertools import islice
from typing import Final

from broadcast.bridge.past import Past, Wanted
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.bridge.shared import SharedReads
from broadcast.errors import UnreachableError
from broadcast.log.entry import Entry, numbered
from broadcast.log.position import EntryId, Gap, Position
from broadcast.log.stream import StreamReader

__all__ = ["History"]

READS_AT_ONCE: Final = 4
PAGE_EVENTS: Final = 500
PAGES_MAX: Final = 32
ALIGN_EVENTS: Final = 256

Page = tuple[list[RingEvent], Gap | None]


class History:
    """Reads the past from the ring, and from the stream where the ring does not reach.

    Args:
        ring: the newest events.
        reader: reads the stream.
        past: reads what lies behind it; None where there is no archive.
    """

    def __init__(self, ring: Ring, reader: StreamReader, past: Past | None = None) -> None:
        self._ring = ring
        self._reader = reader
        self.past = past
        self._pages: SharedReads[Page] = SharedReads(at_once=READS_AT_ONCE, kept_max=PAGES_MAX)
        self.was_loaded_whole = False
        """Whether the stream held nothing older than the ring when that was loaded."""

    @property
    def is_ring_whole(self) -> bool:
        """Whether the stream holds nothing older than the ring."""
        return self.was_loaded_whole and self._ring.start == 0

    @property
    def is_all_there_is(self) -> bool:
        """Whether there is nothing at all that is older than the ring."""
        return self.is_ring_whole and self.past is None

    async def newest(self, wanted: Wanted, *, count: int, until: Position) -> list[RingEvent]:
        """The newest events wanted up to a position, oldest first.

        Raises:
            UnreachableError: the stream is needed and cannot be read; what the archive has is left out then.
        """
        found = await self.newest_in_stream(wanted.matches, count=count, until=until.id)
        if len(found) < count and self.past is not None:
            found += (await self._archived(self.past, wanted, count, found, until))[: count - len(found)]
        return found[::-1]

    async def newest_in_stream(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        """The newest events of ring and stream up to an id, newest first.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        found = self._in_ring(matches, count=count, until=until)
        if len(found) < count and not self.is_ring_whole and (edge := self._edge()) is not None:
            found = [event for event in found if event.id >= edge.id]
            # A slow cursor may stand before the ring: what lies between comes to it anyway.
            before = Position(edge.id, edge.n) if edge.id <= until else Position(until.after())
            found += await self._older(matches, count - len(found), before)
        return found

    async def _archived(
        self, past: Past, wanted: Wanted, count: int, found: list[RingEvent], until: Position
    ) -> list[RingEvent]:
        oldest = Position(found[-1].id, found[-1].n) if found else Position(until.id.after())
        before = replace(oldest, epoch=until.epoch)
        try:
            return await past.newest(before, wanted, count=count)
        except UnreachableError:  # what there is, is better than nothing
            return []

    def newest_in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        """As `newest`, without what the stream alone has."""
        return self._in_ring(matches, count=count, until=until)[::-1]

    def _in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        return list(islice(self._ring.newest_first(matches, until=until), count)) if count else []

    def _edge(self) -> RingEvent | None:
        """Where the ring is left for the stream; the same event for a while."""
        aligned = -(-self._ring.start // ALIGN_EVENTS) * ALIGN_EVENTS
        items = self._ring.read(aligned, ALIGN_EVENTS) if aligned < self._ring.end else []
        return next((item for item in items if isinstance(item, RingEvent)), None) or self._ring.first_event()

    async def _older(self, matches: Callable[[str], bool], count: int, before: Position) -> list[RingEvent]:
        found: list[RingEvent] = []
        while len(found) < count:
            page = await self._page_before(before)
            found += [event for event in reversed(page) if matches(event.type)]
            if len(page) < PAGE_EVENTS:
                break
            before = Position(page[0].id, page[0].n)
        return found[:count]

    async def _page_before(self, before: Position) -> list[RingEvent]:
        async def read() -> Page:
            entries = await self._reader.older(before.id, count=PAGE_EVENTS)
            return _events(numbered(entries, None if before.n is None else before.n - len(entries))), None

        return (await self._pages.get(("before", before.id, before.n), read))[0]

    async def forward(self, position: Position, *, until: EntryId) -> AsyncGenerator[Gap | list[RingEvent]]:
        """Everything behind a position up to an id, in pages, with a gap where the stream lacks something.

        Raises:
            UnreachableError: the stream cannot be read.
        """
        at = position
        while at.id < until:
            page, gap = await self._page_behind(at)
            wanted = [event for event in page if event.id <= until]
            if not wanted:
                return
            if gap is not None:
                yield gap
            at = wanted[-1].position(at.epoch)
            yield wanted

    async def _page_behind(self, at: Position) -> Page:
        async def read() -> Page:
            entries, gap = await self._reader.range(Position(at.id, at.n), count=PAGE_EVENTS)
            return _events(entries), gap

        key = ("behind", at.id, at.n, at.epoch)
        page = await self._pages.get(key, read)
        if len(page[0]) < PAGE_EVENTS:  # the end of the log, which moves
            self._pages.drop(key)
        return page

    def forget(self) -> None:
        """The log has changed: what was read of it may be so no more."""
        self._pages.clear()
        if self.past is not None:
            self.past.forget()


def _events(entries: list[Entry]) -> list[RingEvent]:
    return [RingEvent(entry) for entry in entries]
