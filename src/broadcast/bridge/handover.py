"""What a viewer that comes is given of the past: whichever tier it is read from, it passes here on its way.

So one place holds how far back its grant reaches. An id is not enough to enter the archive by: a place in a log that
was, or that never was, may be as new as one likes, and what lies behind it in the next log as old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadcast.log.position import Gap, Position, Seen

if TYPE_CHECKING:
    from broadcast.bridge.cursor import Cursor
    from broadcast.bridge.ring import RingEvent

__all__ = ["Handover"]


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

    async def give_newest(self, events: list[RingEvent]) -> None:
        """Give the newest events of the past, to who comes without a place.

        Raises:
            TooSlowError: it takes too little of it.
            DismissedError: it is told to go meanwhile.
        """
        cursor = self._cursor
        form = cursor.audience().form
        await cursor.send_events(event.encoded(form) for event in events if event.id >= self.earliest)

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
        await cursor.send_events(event.encoded(audience.form) for event in wanted)
        cursor.place = allowed[-1].position(epoch)
        if wanted:
            cursor.told = wanted[-1].position(epoch)
        return True
