"""What lies behind the ring: in the stream, and in the archive behind that; each read is for all who want the same.

Pages are shared by where they begin. So that viewers who come a moment apart want the same page, the ring is left at
an index that is a multiple of `ALIGN_EVENTS`, and not at its very start, which moves with every event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import islice
from typing import Final

from broadcast.bridge.held import Covers, Held
from broadcast.bridge.past import Past, Wanted
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.bridge.shared import SharedReads, Turns
from broadcast.errors import UnreachableError
from broadcast.log.entry import Entry, numbered
from broadcast.log.position import START, EntryId, Gap, Position
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
        self._pages: SharedReads[Page] = SharedReads(turns=Turns(READS_AT_ONCE), kept_max=PAGES_MAX, size=_bytes)
        self.held = Held()
        """What was read here, and in the ring for who gives it little by little."""
        self.was_loaded_whole = False
        """Whether the stream held nothing older than the ring when that was loaded."""

    @property
    def is_ring_whole(self) -> bool:
        """Whether the stream holds nothing older than the ring."""
        return self.was_loaded_whole and self._ring.whole_start == 0

    @property
    def is_all_there_is(self) -> bool:
        """Whether there is nothing at all that is older than the ring."""
        return self.is_ring_whole and self.past is None

    async def newest(self, wanted: Wanted, *, count: int, until: Position) -> Sequence[RingEvent | Gap]:
        """The newest events wanted up to a position, oldest first, with the gaps between them.

        What is rare lies far back: behind the ring, the archive is asked for it, and of the stream only that is read
        which is not archived yet. Where the archive cannot be read, all of the stream is.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        found = self._in_ring(wanted.matches, count=count, until=until.id)
        if len(found) >= count or self.is_all_there_is:
            return found[::-1]
        joined = None if self.past is None else await self._joined(self.past, wanted, count, found, until)
        if joined is not None:
            return joined[::-1]
        return (await self.newest_in_stream(wanted.matches, count=count, until=until.id))[::-1]

    async def _joined(
        self, past: Past, wanted: Wanted, count: int, in_ring: list[RingEvent], until: Position
    ) -> list[RingEvent | Gap] | None:
        """The newest of all tiers, newest first; None if the archive cannot be read, or does not know this log."""
        edge = self._edge()
        before = Position(until.id.after(), None, until.epoch)
        if edge is not None and edge.id <= until.id:
            before = Position(edge.id, edge.n, until.epoch)
        found = [event for event in in_ring if event.id >= before.id]
        try:
            archived = await past.newest(before, wanted, count=count)
        except UnreachableError:
            return None
        if archived.reach is None:
            return None
        older, begin = await self._older(wanted.matches, count - len(found), before, down_to=archived.reach.id)
        found += older
        # What was appended again after a rewind is archived once, where it was first: here, it has come already.
        had = {event.by for event in found if event.by}
        rest = [piece for piece in archived.pieces if isinstance(piece, Gap) or piece.by not in had]
        hole = _hole(archived.reach, begin, until)
        return _cut([*found, *([] if hole is None else [hole]), *rest], count)

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
            found += (await self._older(matches, count - len(found), before))[0]
        return found

    def newest_in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        """As `newest`, without what the stream alone has."""
        return self._in_ring(matches, count=count, until=until)[::-1]

    def _in_ring(self, matches: Callable[[str], bool], *, count: int, until: EntryId) -> list[RingEvent]:
        found = list(islice(self._ring.newest_first(matches, until=until), count)) if count else []
        self.held.take(found)
        return found

    def _edge(self) -> RingEvent | None:
        """Where the ring is left for the stream; the same event for a while."""
        aligned = -(-self._ring.whole_start // ALIGN_EVENTS) * ALIGN_EVENTS
        items = self._ring.read(aligned, ALIGN_EVENTS) if aligned < self._ring.end else []
        return next((item for item in items if isinstance(item, RingEvent)), None) or self._ring.first_event()

    async def _older(
        self, matches: Callable[[str], bool], count: int, before: Position, *, down_to: EntryId = START
    ) -> tuple[list[RingEvent], Position]:
        """What the stream has between two places, both exclusive, newest first; and from where on it has all of it."""
        found: list[RingEvent] = []
        while len(found) < count and before.id > down_to.after():
            page = await self._page_before(before)
            between = [event for event in page if event.id > down_to]
            found += [event for event in reversed(between) if matches(event.type)]
            if len(between) < len(page):  # it has what is in front of that, too: nothing is missing
                before = Position(down_to.after())
            elif page:
                before = page[0].position(None)
            if len(page) < PAGE_EVENTS:
                break
        return found[:count], before

    async def _page_before(self, before: Position) -> list[RingEvent]:
        async def read() -> Page:
            entries = await self._reader.older(before.id, count=PAGE_EVENTS)
            return self._events(numbered(entries, None if before.n is None else before.n - len(entries))), None

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
            return self._events(entries), gap

        key = ("behind", at.id, at.n, at.epoch)
        page = await self._pages.get(key, read)
        if len(page[0]) < PAGE_EVENTS:  # the end of the log, which moves
            self._pages.drop(key)
        return page

    def _events(self, entries: list[Entry]) -> list[RingEvent]:
        events = [RingEvent(entry) for entry in entries]
        self.held.take(events)
        return events

    def erase(self, covers: Covers) -> None:
        """Something was taken out of the log: whoever holds it here forgets it."""
        self.forget()
        self.held.erase(covers)
        if self.past is not None:
            self.past.held.erase(covers)

    def forget(self) -> None:
        """The log has changed: what was read of it may be so no more."""
        self._pages.clear()
        if self.past is not None:
            self.past.forget()


def _hole(reach: Position, begin: Position, until: Position) -> Gap | None:
    """What is gone between the archive, which has all up to `reach`, and what else there is, from `begin` on."""
    if begin.id <= reach.id.after():
        return None
    is_nothing_left = begin.id > until.id
    first, n_before = (None, until.n) if is_nothing_left else (begin.id, None if begin.n is None else begin.n - 1)
    lost = None if n_before is None or reach.n is None else n_before - reach.n
    return None if lost is not None and lost <= 0 else Gap(reach.id, first, lost, "trimmed")


def _cut(newest_first: list[RingEvent | Gap], count: int) -> list[RingEvent | Gap]:
    """The newest `count` events, with the gaps between them."""
    events = [index for index, piece in enumerate(newest_first) if isinstance(piece, RingEvent)][:count]
    return newest_first[: events[-1] + 1] if events else []


def _bytes(page: Page) -> int:
    return sum(len(event.json) for event in page[0])
