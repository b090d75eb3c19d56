"""The past that a grant lets a viewer have: for this viewer the log begins there. Pure.

What it asks for from before that is told as a `gap {trimmed}`, just as what the log itself holds no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broadcast.bridge.grant import Grant
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.log.position import START, EntryId, Gap, Position

__all__ = ["NOTHING", "earliest_of", "not_before", "within"]

NOTHING: Final = EntryId(2**64 - 1, 2**64 - 1)
"""As the smallest id that may be given: nothing at all, of whichever log."""


def earliest_of(grant: Grant, ring: Ring, *, now_ns: int, is_ring_whole: bool) -> EntryId:
    """The smallest id of the past that a grant lets be given.

    How many events there are is counted in the ring: a grant of more than that holds has what it holds, and nothing
    while it holds none.

    Args:
        grant: what is allowed.
        ring: the newest events.
        now_ns: the wall clock.
        is_ring_whole: whether there is nothing older than what the ring holds.
    """
    earliest, count = grant.earliest(now_ns), grant.replay_count_max
    if count is None or (is_ring_whole and count >= max(1, len(ring))):
        return earliest
    newest = ring.read(max(ring.whole_start, ring.end - count), count)
    first = next((item for item in newest if isinstance(item, RingEvent) and not item.is_forgotten), None)
    return NOTHING if first is None else max(earliest, first.id)


def not_before(position: Position, earliest: EntryId) -> Position:
    """The position, or where a grant begins if that is later."""
    return position if position.id >= earliest.before() else Position(earliest.before(), is_moment=True)


def within(
    asked: Position, judged: tuple[Position, Gap | None], earliest: EntryId, ring: Ring, head: Position
) -> tuple[Position, Gap | None]:
    """Decide from where a cursor reads on that may not have everything it asks for.

    Args:
        asked: where it stood, as it says.
        judged: from where it would read on, and what is missing before that, if it had no grant.
        earliest: what it may have; no more than what comes behind the newest event.
        ring: the newest events.
        head: the newest event.

    Returns:
        The position to read on from, and what is missing before that.
    """
    start, gap = judged
    if start.id >= earliest.before():
        return start, gap
    first, n_before = _first_allowed(earliest, ring, head)
    lost = _between(start, earliest, n_before, ring)
    place = Position(earliest.before(), n_before, start.epoch)
    if lost == 0 or (asked.id == START and asked.n is None):
        return place, gap
    if gap is None:
        return place, Gap(start.id, first, lost, "trimmed")
    return place, replace(gap, before=first, lost=None if gap.lost is None or lost is None else gap.lost + lost)


def _first_allowed(earliest: EntryId, ring: Ring, head: Position) -> tuple[EntryId | None, int | None]:
    """The first event that may be given, and the ordinal before it; None for what the ring does not tell."""
    oldest = ring.first_event()
    if oldest is None or earliest > head.id:
        return None, head.n
    if earliest < oldest.id:
        return None, None
    at = ring.index_after(earliest.before())
    first = next((item for item in ring.read(at, ring.end - at) if isinstance(item, RingEvent)), None)
    if first is None:
        return None, head.n
    return first.id, None if first.n is None else first.n - 1


def _between(start: Position, earliest: EntryId, n_before: int | None, ring: Ring) -> int | None:
    """How many events lie between where it would read on and what it may have; None where that cannot be known."""
    oldest = ring.first_event()
    if oldest is not None and start.id >= oldest.id.before():
        at, end = ring.index_after(start.id), ring.index_after(earliest.before())
        items = ring.read(at, max(0, end - at))
        return sum(isinstance(item, RingEvent) and not item.is_forgotten for item in items)
    if start.n is None or n_before is None or n_before < start.n:
        return None
    return n_before - start.n
