"""What a viewer that comes is given of the past: whichever tier it is read from, it passes here on its way.

So one place holds how far back its grant reaches. An id is not enough to enter the archive by: a place in a log that
was, or that never was, may be as new as one likes, and what lies behind it in the next log as old.

And one place counts it: it comes out of the same share as what is asked for by `replay` and over HTTP. But nobody who
comes is refused for that: what goes beyond the share waits for it. What a short cut has cost is free, and so is what
everybody who comes is caught up with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import dropwhile, groupby
from typing import TYPE_CHECKING, Final

from broadcast.bridge.requests import CATCHUP_DEFAULT
from broadcast.log.position import EntryId, Gap, Position, Seen

if TYPE_CHECKING:
    from broadcast.bridge.cursor import Cursor
    from broadcast.bridge.ring import RingEvent

__all__ = ["Handover", "newest_allowed"]

SHORT_CUT_MS: Final = 60_000
"""What is no older than this is not counted."""
LOOK_S: Final = 0.25


def newest_allowed(pieces: Sequence[RingEvent | Gap], earliest: EntryId) -> list[RingEvent | Gap]:
    """Of the newest events, and the gaps between them, those that may be given; it begins with an event."""
    allowed = [piece for piece in pieces if isinstance(piece, Gap) or piece.id >= earliest]
    return list(dropwhile(lambda piece: isinstance(piece, Gap), allowed))


class Handover:
    """What one viewer is given before it is live.

    Args:
        cursor: the viewer's; what its grant allows is what it allows now.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        fanout = cursor.fanout
        earliest = fanout.earliest(cursor.grant)
        self.begin = min(earliest, fanout.head.id.after())
        """Where the log as it is now begins for it; not behind what comes next, which is no past."""
        self.is_of_the_ring = cursor.grant.replay_count_max is not None
        """Whether the ring has all that it may be given: the newest events are counted there."""
        self.earliest = self.begin if self.is_of_the_ring else earliest
        """The smallest id that it is given, in whichever log."""
        self._old = EntryId(max(0, fanout.now_ns() // 1_000_000 - SHORT_CUT_MS), 0)
        self._free = CATCHUP_DEFAULT

    async def give_newest(self, pieces: Sequence[RingEvent | Gap]) -> None:
        """Give the newest events of the past, with the gaps between them, to who comes without a place.

        Raises:
            TooSlowError: it takes too little of it.
            DismissedError: it is told to go meanwhile.
        """
        begun = newest_allowed(pieces, self.earliest)
        for gap, stretch in groupby(begun, lambda piece: piece if isinstance(piece, Gap) else None):
            if gap is None:
                await self._send([piece for piece in stretch if not isinstance(piece, Gap)])
            else:
                self._cursor.send_gap(gap)

    async def give(self, events: list[RingEvent], epoch: str | None, seen: Seen | None = None) -> bool:
        """Give what it wants of a stretch of the past, and put it behind that.

        Args:
            events: all of one log, in order; one at least.
            epoch: that log.
            seen: what it has had already, and is not given again.

        Returns:
            False if all of them are older than it may have: then it stands where what it may have begins.

        Raises:
            TooSlowError: it takes too little of it.
            DismissedError: it is told to go meanwhile.
        """
        cursor = self._cursor
        allowed = [event for event in events if event.id >= self.earliest]
        if len(allowed) < len(events):
            cursor.send_gap(Gap(cursor.place.id, allowed[0].id if allowed else None, None, "trimmed"))
        if not allowed:
            cursor.place = Position(self.earliest.before(), None, epoch, is_moment=True)
            return False
        audience, ts = cursor.audience(), cursor.since_ts or ""
        new = allowed if seen is None else [event for event in allowed if seen.is_new(event.by)]
        wanted = [event for event in new if audience.wants(event.type) and event.ts >= ts]
        await self._send(wanted)
        cursor.place = allowed[-1].position(epoch)
        if wanted:
            cursor.told = wanted[-1].position(epoch)
        return True

    # --- its share

    def old_of(self, events: list[RingEvent]) -> int:
        """How many of these are counted, but for those that are free."""
        return sum(event.id < self._old for event in events)

    def old_in_ring(self, at: int) -> int:
        """The same of what it wants of the ring, from an index on."""
        ring = self._cursor.fanout.ring
        return ring.count(self._cursor.audience().wants, at, ring.index_after(self._old))

    def has_to_wait(self, old: int) -> bool:
        """Whether so many are more than it may have just now."""
        return old > self._free and self._cursor.rights.past_wait_s(self._cursor) > 0

    async def wait(self, old: int) -> None:
        """Wait until it may have more.

        Raises:
            DismissedError: it is told to go meanwhile.
        """
        while self.has_to_wait(old):
            self._cursor.refuse_dismissed()
            await asyncio.sleep(LOOK_S)

    def note(self, old: int) -> None:
        """It is given so many of them."""
        free = min(self._free, old)
        self._free -= free
        if old > free:
            self._cursor.rights.note_replayed(self._cursor, old - free)

    async def _send(self, events: list[RingEvent]) -> None:
        old, audience = self.old_of(events), self._cursor.audience()
        await self.wait(old)
        self.note(old)
        await self._cursor.send_events(events, audience.form, audience.wants)
