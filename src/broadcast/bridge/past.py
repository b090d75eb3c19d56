"""What lies behind the stream: pages of the archive, as events of the ring, shared among viewers.

Rules:
1. Viewers who left a moment apart come back to places a few events apart. So a page ends, where it can, at a milestone,
   which is a property of the event alone: from the first one on, they want the same pages.
2. The archive is no part of what a viewer needs to live: whoever waits for it while it does not answer waits seconds
   at the most, and after a failure nobody asks it for `REST_S`. A queue in front of it is no failure.
3. Only its whole pages are kept; its end moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from broadcast.bridge.held import Held
from broadcast.bridge.ring import RingEvent
from broadcast.bridge.shared import SharedReads, Turns
from broadcast.errors import UnreachableError
from broadcast.filters import ALL, Filter
from broadcast.log.position import Gap, Position

if TYPE_CHECKING:
    from broadcast.log.archive import Archived, Place
    from broadcast.log.seam import ArchivePage, Seam

__all__ = ["READS_AT_ONCE", "Newest", "Past", "PastCycle", "PastPage", "Wanted"]

Answer = TypeVar("Answer")

READS_AT_ONCE: Final = 3
"""Its `Archive` has as many connections, and nobody else uses them: who has a turn has one."""
PAGE_EVENTS: Final = 500
PAGE_EVENTS_MIN: Final = 200
MILESTONE_ONE_IN: Final = 64
PAGES_MAX: Final = 32
PATIENCE_S: Final = 10.0
CATCHUP_PATIENCE_S: Final = 2.0
"""Who only comes to see what is new does not wait longer for what is old."""
REST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader wants; equal for all who get the same."""

    wanted: Filter = ALL
    granted: Filter = ALL
    ts_from: str | None = None
    ts_to: str | None = None

    def matches(self, event_type: str) -> bool:
        """Whether an event of this type is for it."""
        return self.wanted.matches(event_type) and self.granted.matches(event_type)

    def covers(self, event: RingEvent) -> bool:
        """Whether this event is."""
        is_in_time = (self.ts_from or "") <= event.ts and (self.ts_to is None or event.ts <= self.ts_to)
        return is_in_time and self.matches(event.type)

    @property
    def types(self) -> Callable[[str], bool] | None:
        """What the archive is to look for; None for all."""
        return None if self.wanted == self.granted == ALL else self.matches


@dataclass(frozen=True, slots=True)
class PastPage:
    """A page of the archive, as a viewer is given it."""

    pieces: list[tuple[str | None, list[RingEvent]] | Gap]
    """Events with the epoch that they are of, and the gaps before them."""
    end: Position
    """Where a cursor stands behind it."""
    place: Place
    """The same in the archive."""
    is_last: bool
    """Whether there is nothing more up to where it was read."""
    is_at_checkpoint: bool
    """Whether there is nothing more in the archive."""
    producers: list[tuple[str, int]]
    """With the last page: the last seq of each producer that is archived."""

    @property
    def bytes(self) -> int:
        """Of its events' JSON."""
        return sum(_bytes(piece[1]) for piece in self.pieces if not isinstance(piece, Gap))


@dataclass(frozen=True, slots=True)
class Newest:
    """What the archive has in front of a position."""

    pieces: list[RingEvent | Gap]
    """The newest first, with the gaps between them."""
    reach: Position | None
    """Up to here, in front of the position, all is in the archive or a gap in it; None if it does not know its log."""

    @property
    def events(self) -> list[RingEvent]:
        """Without the gaps."""
        return [piece for piece in self.pieces if isinstance(piece, RingEvent)]


@dataclass(frozen=True, slots=True)
class PastCycle:
    """A cycle as the archive knows it."""

    start: Position | None
    """In front of the newest `cycle.start` of its number; None if it has none."""
    following: Position | None
    """In front of the next one, whatever its number; None if it has none."""
    checkpoint: Position | None
    """What lies behind this may not have been looked at; None if nothing is archived."""


class Past:
    """Reads the archive for viewers.

    Args:
        seam: the archive of this log.
    """

    def __init__(self, seam: Seam) -> None:
        self.seam = seam
        self.held = Held()
        """What was read here."""
        turns = Turns(READS_AT_ONCE)
        self._pages: SharedReads[PastPage | None] = SharedReads(
            turns=turns, kept_max=PAGES_MAX, size=lambda page: 0 if page is None else page.bytes
        )
        self._newest: SharedReads[Newest] = SharedReads(
            turns=turns, kept_max=PAGES_MAX, size=lambda found: _bytes(found.events)
        )
        self._cycles: SharedReads[PastCycle] = SharedReads(turns=turns, kept_max=PAGES_MAX)
        self._rests_until_s = 0.0
        self._failure = ""

    async def forward(
        self, begin: Position, wanted: Wanted, *, until: Position | None = None
    ) -> AsyncGenerator[PastPage]:
        """Everything wanted behind a position, up to the checkpoint or to another position; nothing if it has nothing.

        Where `wanted` ends with a time, what came into the log late comes last.

        Raises:
            UnreachableError: it cannot be read.
        """
        at: Position | Place = begin
        late_only = False
        while True:
            page = await self._page(at, wanted, None if late_only else until, late_only=late_only)
            if page is None:
                return
            yield page
            if page.is_last and (page.is_at_checkpoint or wanted.ts_to is None):
                return
            late_only = late_only or page.is_last
            at = page.place

    async def newest(self, before: Position, wanted: Wanted, *, count: int) -> Newest:
        """The newest events in front of a position.

        Raises:
            UnreachableError: it cannot be read.
        """

        async def read() -> Newest:
            front = await self.seam.before(before, count=count, matches=wanted.types)
            pieces: list[RingEvent | Gap] = []
            for piece in front.pieces:
                pieces += [piece] if isinstance(piece, Gap) else [RingEvent.archived(row) for row in piece]
            found = Newest(pieces[::-1], front.reach)
            self.held.take(found.events)
            return found

        key = (before, wanted, count)
        found = await self._patiently(self._newest, key, read, CATCHUP_PATIENCE_S)
        if found.reach != before:
            self._newest.drop(key)
        return found

    async def cycle(self, number: int) -> PastCycle:
        """Look for the newest cycle of a number.

        Raises:
            UnreachableError: it cannot be read.
        """

        async def read() -> PastCycle:
            extent = await self.seam.extent()
            found = await self.seam.cycle(number)
            return PastCycle(*(found or (None, None)), extent and extent.position())

        try:
            return await self._patiently(self._cycles, number, read, PATIENCE_S)
        finally:
            self._cycles.drop(number)

    def forget(self) -> None:
        """Something was taken out of the archive: what was read of it is so no more."""
        self._pages.clear()
        self._newest.clear()
        self._cycles.clear()

    async def _page(
        self, at: Position | Place, wanted: Wanted, until: Position | None, *, late_only: bool
    ) -> PastPage | None:
        async def read() -> PastPage | None:
            page = await self.seam.page(
                at,
                count=PAGE_EVENTS,
                until=until,
                matches=wanted.types,
                times=(wanted.ts_from, wanted.ts_to),
                late_only=late_only,
            )
            if page is None:
                return None
            made = _as_page(page)
            for piece in made.pieces:
                if not isinstance(piece, Gap):
                    self.held.take(piece[1])
            return made

        key = (at, wanted, until, late_only)
        page = await self._patiently(self._pages, key, read, PATIENCE_S)
        if page is None or page.is_last:
            self._pages.drop(key)
        return page

    async def _patiently(
        self, reads: SharedReads[Answer], key: Hashable, read: Callable[[], Awaitable[Answer]], patience_s: float
    ) -> Answer:
        async def read_in_turn() -> Answer:
            self._refuse_while_it_rests()  # it may have failed while this one waited for its turn
            try:
                return await read()
            except UnreachableError as error:
                self._rest(f"the archive: {error}")
                raise

        self._refuse_while_it_rests()
        try:
            return await reads.get(key, read_in_turn, patience_s=patience_s)
        except TimeoutError:
            self._rest("the archive does not answer")
            raise UnreachableError(self._failure) from None

    def _refuse_while_it_rests(self) -> None:
        if asyncio.get_running_loop().time() < self._rests_until_s:
            raise UnreachableError(self._failure)

    def _rest(self, reason: str) -> None:
        self._failure = reason
        self._rests_until_s = asyncio.get_running_loop().time() + REST_S


def _bytes(events: list[RingEvent]) -> int:
    return sum(len(event.json) for event in events)


def _as_page(page: ArchivePage) -> PastPage:
    pieces: list[tuple[str | None, list[RingEvent]] | Gap] = []
    given = 0
    for piece in page.pieces:
        if isinstance(piece, Gap):
            pieces.append(piece)
            continue
        name = page.extent.name_of(piece[0].place.epoch)
        milestone = None if page.is_last else _milestone(piece, PAGE_EVENTS_MIN - given)
        kept = piece if milestone is None else piece[: milestone + 1]
        given += len(kept)
        pieces.append((name, [RingEvent.archived(row) for row in kept]))
        if milestone is not None:
            last = kept[-1]
            return PastPage(pieces, Position(last.place.id, last.n, name), last.place, False, False, [])
    is_at_checkpoint = page.is_last and page.end == page.extent.end
    return PastPage(pieces, page.position, page.end, page.is_last, is_at_checkpoint, page.producers)


def _milestone(rows: list[Archived], least: int) -> int | None:
    """The first index, at or behind `least`, of an event that says by its id alone that a page ends with it."""
    for index in range(max(0, least), len(rows)):
        if hash(rows[index].place.id) % MILESTONE_ONE_IN == 0:
            return index
    return None
