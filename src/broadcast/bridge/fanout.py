"""From the stream to the viewers: one reader fills the ring, every viewer is woken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

from broadcast.bridge.history import History
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.errors import UnreachableError
from broadcast.log.entry import Entry, numbered
from broadcast.log.position import START, Bounds, EntryId, Gap, Position, Seen
from broadcast.log.stream import LinkUp, StreamReader, TailItem

__all__ = ["Fanout", "Woken"]

LOAD_PAGE_EVENTS: Final = 500
RETRY_S: Final = 0.5


class Woken(Protocol):
    """Whoever wants to know that something is new."""

    def wake(self) -> None:
        """There is something new to look at."""
        ...

    def dismiss(self, code: str) -> None:
        """The bridge wants it to go."""
        ...


class Fanout:
    """The log as this bridge has it.

    Args:
        reader: reads the stream; only `follow` uses its tail.
        ring: the newest events.
    """

    def __init__(self, reader: StreamReader, ring: Ring) -> None:
        self.reader = reader
        self.ring = ring
        self.history = History(ring, reader)
        self.head = Position(START)
        """The newest event in the ring."""
        self.is_up = False
        """Whether the log can be read at the moment."""
        self.down_reason = "no contact with Redis yet"
        self.loaded = asyncio.Event()
        """Set once the ring holds what the stream holds."""
        self.viewers: set[Woken] = set()
        self.malformed = 0
        self.repeated = 0
        self._bounds = Bounds(None, START, None, 0, None)
        self._seen = Seen()

    @property
    def is_loaded(self) -> bool:
        """Whether the ring holds what the stream holds."""
        return self.loaded.is_set()

    @staticmethod
    def now_ns() -> int:
        """The wall clock."""
        return time.time_ns()

    async def follow(self) -> None:
        """Load the ring and follow the stream, for ever."""
        while not self.loaded.is_set():
            try:
                await self._load()
            except UnreachableError as error:
                self.lost(str(error))
                await asyncio.sleep(RETRY_S)
        async with aclosing(self.reader.tail(self.head)) as items:
            async for item in items:
                self._take_in(item)
                self.wake_all()

    async def _load(self) -> None:
        page, bounds = await self.reader.newest(LOAD_PAGE_EVENTS)
        pages = [page]
        loaded, size = len(page), _size(page)
        while len(page) == LOAD_PAGE_EVENTS and loaded < self.ring.events_max and size < self.ring.bytes_max:
            first = page[0]
            page = await self.reader.older(first.id, count=LOAD_PAGE_EVENTS)
            page = numbered(page, None if first.n is None else first.n - len(page))
            pages.append(page)
            loaded, size = loaded + len(page), size + _size(page)
        self.history.was_loaded_whole = len(page) < LOAD_PAGE_EVENTS
        for page in reversed(pages):
            self._append(page)
        # Not what the pages end with: entries that were trimmed before we came count, too.
        self.head = bounds.end
        self._bounds = bounds
        self.is_up = True
        self.loaded.set()
        self.wake_all()

    def _take_in(self, item: TailItem) -> None:
        if isinstance(item, list):
            self._append(item)
        elif isinstance(item, Gap):
            if item.reason == "reset":
                self.ring.clear()
                self._seen = Seen()
                self.head = Position(START, self._bounds.trimmed, self._bounds.epoch)
            self.ring.append_gap(item)
        elif isinstance(item, LinkUp):
            self.is_up = True
            self._bounds = item.bounds
            self.head = replace(self.head, epoch=item.bounds.epoch)
        else:
            self.lost(item.error)

    def lost(self, reason: str) -> None:
        """The log cannot be read at the moment."""
        self.is_up = False
        self.down_reason = reason
        self.wake_all()

    def _append(self, entries: list[Entry]) -> None:
        fresh = [entry for entry in entries if self._seen.is_new(entry.by)]
        self.repeated += len(entries) - len(fresh)
        self.malformed += sum(entry.is_malformed for entry in fresh)
        self.ring.append(fresh)
        if entries:
            last = entries[-1]
            self.head = Position(last.id, last.n, self.head.epoch or self._bounds.epoch)

    def wake_all(self) -> None:
        """Let every viewer look."""
        for viewer in self.viewers:
            viewer.wake()

    def ring_bounds(self) -> Bounds:
        """The ring as if it were the whole stream: decides whether it can serve a position."""
        first, head = self.ring.first_event(), self.head
        if first is None:
            return replace(self._bounds, first=None, last=head.id, added=head.n, length=0, epoch=head.epoch)
        length = head.n - first.n + 1 if head.n is not None and first.n is not None else len(self.ring)
        return replace(self._bounds, first=first.id, last=head.id, added=head.n, length=length, epoch=head.epoch)

    def is_longer(self, bounds: Bounds) -> bool:
        """Whether the stream reaches further back than the ring; a foreign trimmer may have cut it shorter."""
        first = self.ring.first_event()
        return first is None or (bounds.first is not None and bounds.first < first.id)

    def ring_reaches(self, position: Position) -> bool:
        """Whether everything behind this position is in the ring."""
        first = self.ring.first_event()
        if first is None or self.history.is_ring_whole:
            return True
        return position.id >= first.id.before() or (position.n is not None and position.n + 1 == first.n)

    async def past(self, begin: Position, *, until: EntryId) -> AsyncGenerator[Gap | list[RingEvent]]:
        """Events behind a position up to an id: from the ring if it reaches so far back, else from the stream."""
        if self.ring_reaches(begin):
            at = self.ring.index_after(begin.id)
            items = self.ring.read(max(at, self.ring.start), len(self.ring))
            yield [item for item in items if isinstance(item, RingEvent) and item.id <= until]
            return
        async for page in self.history.forward(begin, until=until):
            yield page


def _size(page: list[Entry]) -> int:
    # What an event takes in the ring, near enough to stop loading in time.
    return sum(len(str(entry.event)) for entry in page)
