"""What lies behind the ring: a few shared readers page through the stream for all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import Final

from broadcast.bridge.ring import Ring, RingEvent
from broadcast.log.entry import numbered
from broadcast.log.position import EntryId, Gap, Position
from broadcast.log.stream import StreamReader

__all__ = ["History"]

READS_AT_ONCE: Final = 4
PAGE_EVENTS: Final = 500


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
        first = self._ring.first_event()
        if len(found) < count and first is not None and not self.is_ring_whole:
            # A slow cursor may stand before the ring: what lies between comes to it anyway.
            before, n = (first.id, first.n) if first.id <= until else (until.after(), None)
            found += await self._older(matches, count - len(found), before=before, n=n)
        return found[::-1]

    def newest_in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        """As `newest`, without what the stream alone has."""
        return self._in_ring(matches, count=count, until=until)[::-1]

    def _in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        return list(islice(self._ring.newest_first(matches, until=until), count))

    async def _older(
        self, matches: Callable[[str], bool], count: int, *, before: EntryId, n: int | None
    ) -> list[RingEvent]:
        found: list[RingEvent] = []
        while len(found) < count:
            async with self._turn:
                page = await self._reader.older(before, count=PAGE_EVENTS)
            page = numbered(page, None if n is None else n - len(page))
            found += [RingEvent(entry) for entry in reversed(page) if matches(entry.event["type"])]
            if len(page) < PAGE_EVENTS:
                break
            before, n = page[0].id, page[0].n
        return found[:count]

    async def forward(self, position: Position, *, until: EntryId) -> AsyncGenerator[Gap | list[RingEvent]]:
        """Everything behind a position up to an id, in pages, with a gap where the stream lacks something.

        Raises:
            UnreachableError: the stream cannot be read.
        """
        at, n = position.id, position.n
        while at < until:
            async with self._turn:
                page, gap = await self._reader.range(Position(at, n), until=until, count=PAGE_EVENTS)
            if not page:
                return
            if gap is not None:
                yield gap
            at, n = page[-1].id, page[-1].n
            yield [RingEvent(entry) for entry in page]
