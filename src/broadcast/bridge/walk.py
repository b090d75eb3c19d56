"""Past events for who asks for them again: from the archive, the stream and the ring, up to where the log is now."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from broadcast.bridge.past import Past, Wanted
from broadcast.bridge.ring import RingEvent
from broadcast.errors import UnreachableError
from broadcast.event import timestamp
from broadcast.log.journey import End
from broadcast.log.position import START, Gap, Position, Seen, Since, judge

if TYPE_CHECKING:
    from broadcast.bridge.fanout import Fanout

__all__ = ["Walk", "end_of"]

RING_EVENTS: Final = 500


class Walk:
    """One walk over the log, oldest first; it reads no further than it is asked to.

    Args:
        fanout: the log as this bridge has it.
        begin: exclusive.
        wanted: which events.
        until: inclusive.
    """

    def __init__(self, fanout: Fanout, begin: Position, wanted: Wanted, *, until: Position) -> None:
        self._fanout = fanout
        self._wanted = wanted
        self._until = until
        self._begin = self._at = begin
        self._asked: Position | None = None
        """The last place whose continuation the archive was asked for."""
        self._is_over = False
        self._seen: Seen | None = None
        """What the archive has; None if it was not asked."""
        self.lacks_archive = False
        """Whether the archive was needed and could not be read: then it began with what the stream holds."""

    async def pages(self) -> AsyncGenerator[list[RingEvent] | Gap]:
        """The events in lists, and between them what is missing there in all tiers.

        Raises:
            UnreachableError: the stream is needed and cannot be read.
        """
        past = self._fanout.history.past
        while not self._is_over:
            if past is not None and self._asked != self._at and await self._lies_behind_the_stream():
                self._asked = self._at
                async for piece in self._archived(past):
                    yield piece
                continue
            if self._at.epoch not in (None, self._fanout.head.epoch):
                self._at, gap = judge(self._at, await self._fanout.reader.bounds())
                if gap is not None:
                    yield gap
            if self._fanout.ring_reaches(self._at):
                if (gap := self._before_a_whole_ring()) is not None:
                    yield gap
                yield self._from_ring()
                continue
            async for piece in self._from_stream():
                yield piece

    def _before_a_whole_ring(self) -> Gap | None:
        """What was trimmed in front of a ring that has all that is left."""
        if self._at is not self._begin or not self._fanout.history.is_ring_whole:
            return None
        gap = judge(self._at, self._fanout.ring_bounds())[1]
        return gap if gap is not None and gap.reason in ("trimmed", "reset") else None

    def _from_ring(self) -> list[RingEvent]:
        ring = self._fanout.ring
        at = max(ring.index_after(self._at.id), ring.whole_start)
        while items := ring.read(at, RING_EVENTS):
            at += len(items)
            events = [item for item in items if isinstance(item, RingEvent) and not item.is_forgotten]
            if events:  # else the log has lost them all; it goes on behind them
                self._pass(events)
                self._fanout.history.held.take(events)  # they may pass out of the ring before they are given
                return self._chosen(events)
        self._is_over = True
        return []

    async def _from_stream(self) -> AsyncGenerator[list[RingEvent] | Gap]:
        async with aclosing(self._fanout.history.forward(self._at, until=self._until.id)) as pages:
            async for page in pages:
                if not isinstance(page, Gap):
                    self._pass(page)
                    yield self._chosen(page)
                elif self._fanout.history.past is not None and self._asked != self._at:
                    return  # the archive may have come so far since
                elif self._at.id != START or self._at.n is not None:  # who asks for the oldest, asks for what there is
                    yield page
                if self._fanout.ring_reaches(self._at):
                    return
        self._is_over = True

    def _pass(self, events: list[RingEvent]) -> None:
        if events:
            self._at = events[-1].position(self._fanout.head.epoch)
        self._is_over = not events or self._at.id >= self._until.id

    async def _lies_behind_the_stream(self) -> bool:
        fanout, begin = self._fanout, self._at
        first = fanout.ring.first_event()
        if first is not None and begin.id >= first.id.before():
            return False
        try:
            bounds = await fanout.reader.bounds()
        except UnreachableError:
            return True
        return fanout.may_be_archived(begin, bounds.first) or judge(begin, bounds)[1] is not None

    async def _archived(self, past: Past) -> AsyncGenerator[list[RingEvent] | Gap]:
        seen = Seen()
        until = self._until
        if self._wanted.ts_to is not None:
            until = End(None, self._wanted.ts_to).archived_until()
        try:
            async for page in past.forward(self._at, self._wanted, until=until):
                for piece in page.pieces:
                    if not isinstance(piece, Gap):
                        yield self._up_to_the_end(*piece)
                    elif self._begins_in_time(piece):
                        yield piece
                self._at, self._seen = page.end, seen
                for name, seq in page.producers:
                    seen.is_new(f"{name}:{seq}")
                self._is_over = page.is_last and not page.is_at_checkpoint and self._wanted.ts_to is None
        except UnreachableError:
            self.lacks_archive = True

    def _begins_in_time(self, gap: Gap) -> bool:
        return self._wanted.ts_to is None or timestamp(gap.after.ms * 1_000_000) <= self._wanted.ts_to

    def _up_to_the_end(self, epoch: str | None, events: list[RingEvent]) -> list[RingEvent]:
        # Where the end is a time, the archive is read further: its `ts` says little about where an event stands.
        # And it knows nothing of an end in a log that never was.
        is_of_the_end = epoch in (self._until.epoch, self._fanout.head.epoch)
        return [event for event in events if event.id <= self._until.id] if is_of_the_end else events

    def _chosen(self, events: list[RingEvent]) -> list[RingEvent]:
        seen, until = self._seen, self._until.id
        new = events if seen is None else [event for event in events if seen.is_new(event.by)]
        return [event for event in new if event.id <= until and self._wanted.covers(event)]


def end_of(until: Since, stands: Position) -> Position:
    """Where a walk ends: at the place that is asked for, but never beyond where its viewer stands.

    Args:
        until: what was asked for; of a time, `Wanted` heeds the `ts`.
        stands: where the viewer stands.
    """
    if until.position is None or until.ts is not None:
        return stands
    asked = until.position
    if asked.epoch in (None, stands.epoch) and asked.id >= stands.id:
        return stands
    return Position(min(asked.id, stands.id), epoch=asked.epoch)
