"""A viewer's way through the archive: from a place that only the archive reaches to where the stream goes on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from broadcast.bridge.cursor import Cursor, DismissedError
from broadcast.bridge.handover import Handover
from broadcast.bridge.past import Past, PastPage, Wanted
from broadcast.bridge.ring import RingEvent
from broadcast.errors import UnreachableError
from broadcast.log.position import Gap, Position, Seen

__all__ = ["Passage"]


@dataclass(slots=True)
class Passage:
    """What a viewer that comes back has been given from the archive.

    Args:
        cursor: the viewer's.
        handover: gives it what is read.
        past: reads the archive.
        epoch: the log that it was last told to stand in.
    """

    cursor: Cursor
    handover: Handover
    past: Past
    epoch: str | None
    asked: Position | None = None
    """The last place whose continuation was looked for."""
    seen: Seen | None = None
    """What the archive has, once its end was reached."""

    async def pass_from(self, place: Position) -> bool:
        """Give what the archive has behind a place, up to where its grant leaves something out.

        Returns:
            False if it has nothing, or cannot be read; then it stands where it stood.

        Raises:
            TooSlowError: the viewer takes too little of it.
            DismissedError: it is told to go meanwhile.
        """
        self.asked = place
        moved = False
        wanted = Wanted(self.cursor.wanted, self.cursor.grant.filter)
        try:
            async with aclosing(self.past.forward(place, wanted)) as pages:
                async for page in pages:
                    moved = True
                    if not await self._give(page):
                        break
                    await asyncio.sleep(0)  # pages that are at hand already are no reason to keep the others waiting
        except UnreachableError:  # what the stream holds is given, with the gap before it
            pass
        return moved

    async def _give(self, page: PastPage) -> bool:
        cursor = self.cursor
        for piece in page.pieces:
            if isinstance(piece, Gap):
                cursor.send_gap(piece)
                if piece.reason != "trimmed":
                    self.epoch = None  # which of the logs it stands in is told next
            elif not await self._give_events(*piece):
                return False
        cursor.place = page.end
        self._enter(page.end)
        if page.is_last:
            self.seen = Seen()
            for name, seq in page.producers:
                self.seen.is_new(f"{name}:{seq}")
        return True

    async def _give_events(self, epoch: str | None, events: list[RingEvent]) -> bool:
        if self.cursor.is_dismissed:
            raise DismissedError("it is told to go")
        first = events[0]
        # Told before them: their ids are of another log than those that it had.
        self._enter(Position(first.id.before(), None if first.n is None else first.n - 1, epoch))
        return await self.handover.give(events, epoch)

    def _enter(self, place: Position) -> None:
        if place.epoch != self.epoch:
            self.epoch, self.cursor.place = place.epoch, place
            self.cursor.tell_position()
