"""What lies behind the ring: a few reads at once, and each of them for all viewers who want the same.

Pages are shared by where they begin. So that viewers who come a moment apart want the same page, the ring is left at
an index that is a multiple of `ALIGN_EVENTS`, and not at its very start, which moves with every event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import islice
from typing import Any, Final

from broadcast.bridge.ring import Ring, RingEvent
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
    """

    def __init__(self, ring: Ring, reader: StreamReader) -> None:
        self._ring = ring
        self._reader = reader
        self._turn = asyncio.Semaphore(READS_AT_ONCE)
        self._pages: OrderedDict[tuple[Any, ...], asyncio.Task[Page]] = OrderedDict()
        """Pages that are being read, or were lately, by what was asked for."""
        self.was_loaded_whole = False
        """Whether the stream held nothing older than the ring when that was loaded."""

    @property
    def is_ring_whole(self) -> bool:
        """Whether the stream holds nothing older than the ring."""
        return self.was_loaded_whole and self._ring.start == 0

    async def newest(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        """The newest events up to an id whose type matches, oldest first.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        found = self._in_ring(matches, count=count, until=until)
        if len(found) < count and not self.is_ring_whole and (edge := self._edge()) is not None:
            found = [event for event in found if event.id >= edge.id]
            # A slow cursor may stand before the ring: what lies between comes to it anyway.
            before = Position(edge.id, edge.n) if edge.id <= until else Position(until.after())
            found += await self._older(matches, count - len(found), before)
        return found[::-1]

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

        return (await self._shared(("before", before.id, before.n), read))[0]

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
        page = await self._shared(key, read)
        if len(page[0]) < PAGE_EVENTS:  # the end of the log, which moves
            self._pages.pop(key, None)
        return page

    async def _shared(self, key: tuple[Any, ...], read: Callable[[], Awaitable[Page]]) -> Page:
        """Read once for all who ask for it now, or have asked lately."""
        reading = self._pages.get(key)
        if reading is None:
            reading = self._pages[key] = asyncio.create_task(self._in_turn(read))
            reading.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._pages) > PAGES_MAX:
                self._pages.popitem(last=False)
        # One who leaves takes nothing away from the others.
        return await asyncio.shield(reading)

    def forget(self) -> None:
        """The log has changed: what was read of it may be so no more."""
        self._pages.clear()

    async def _in_turn(self, read: Callable[[], Awaitable[Page]]) -> Page:
        async with self._turn:
            return await read()

    def _forget_failed(self, key: tuple[Any, ...], done: asyncio.Task[Page]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._pages.get(key) is done:
            del self._pages[key]


def _events(entries: list[Entry]) -> list[RingEvent]:
    return [RingEvent(entry) for entry in entries]
