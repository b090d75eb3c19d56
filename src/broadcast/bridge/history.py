"""What lies behind the ring: a few shared readers page through the stream for all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import Final

from broadcast.bridge.ring import Ring, RingEvent, ring_event
from broadcast.log.entry import Entry, numbered
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
        self.ring_is_whole = False
        """Whether the stream held nothing older than the ring when that was loaded."""

    async def newest(self, matches: Callable[[str], bool], *, count: int, until: int) -> list[RingEvent]:
        """The newest events before a ring index whose type matches, oldest first.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        found = list(islice(self._ring.newest_first(matches, until=until), count))
        if len(found) < count and not (self.ring_is_whole and self._ring.start == 0):
            found += await self._older(matches, count - len(found))
        return found[::-1]

    async def _older(self, matches: Callable[[str], bool], count: int) -> list[RingEvent]:
        found: list[RingEvent] = []
        first = self._ring.first_event()
        before = first.id if first is not None else None
        while before is not None and len(found) < count:
            async with self._turn:
                page = await self._reader.older(before, count=PAGE_EVENTS)
            found += [ring_event(entry) for entry in reversed(page) if matches(entry.event["type"])]
            before = page[0].id if len(page) == PAGE_EVENTS else None
        return found[:count]

    async def forward(self, position: Position, *, until: EntryId) -> AsyncGenerator[Gap | list[RingEvent]]:
        """Everything behind a position up to an id, in pages, with a gap where the stream lacks something.

        Raises:
            UnreachableError: the stream cannot be read.
        """
        at, n = position.id, position.n
        while at < until:
            async with self._turn:
                page = await self._reader.range(at, until=until, count=PAGE_EVENTS)
            if not page:
                return
            if n is not None and page[0].n is not None and page[0].n > n + 1:
                yield Gap(at, page[0].id, page[0].n - n - 1, "trimmed")
            page = _counted(page, n)
            at, n = page[-1].id, page[-1].n
            yield [ring_event(entry) for entry in page]


def _counted(page: list[Entry], n_before: int | None) -> list[Entry]:
    return page if page[0].n is not None or n_before is None else numbered(page, n_before + 1)
