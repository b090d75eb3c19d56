"""Events of the past, from whichever tier: one by one, as lines, and those of the ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.held import Covers
from broadcast.bridge.ring import RingEvent
from broadcast.event import delivered
from broadcast.log.erasure import BLANK, blank
from broadcast.log.places import Place, Range, archived_identity
from broadcast.log.position import Position, parse_id

__all__ = ["Lines", "Matches", "PastEvent", "in_front_of", "in_ring", "is_start", "past_event", "producer_of"]

Matches = Callable[[str], bool]
"""Whether an event of a type is wanted, and may be seen."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the past."""

    position: Position
    type: str
    ts: str
    json: bytes
    """Its delivered form."""


@dataclass(slots=True)
class Lines:
    """Events as lines of JSON."""

    chunks: list[bytes] = field(default_factory=list[bytes])
    """Whole lines, each with its end."""
    rows: int = 0
    last: Position | None = None
    """Of the last line."""
    is_last: bool = True
    """Whether there is nothing behind them, as far as was asked."""

    def add(self, events: list[PastEvent]) -> None:
        """Write some more."""
        if events:
            self.chunks.append(b"".join([event.json + b"\n" for event in events]))
            self.rows += len(events)
            self.last = events[-1].position

    def erase(self, covers: Covers, matches: Matches) -> None:
        """Put blanks in the place of what is covered, or nothing where no blank is wanted."""
        for at, chunk in enumerate(self.chunks):
            lines = [_erased(line, covers, matches) for line in chunk.splitlines(keepends=True)]
            self.chunks[at] = b"".join(lines)


def _erased(line: bytes, covers: Covers, matches: Matches) -> bytes:
    event = orjson.loads(line)
    if not covers(parse_id(event["id"]), event["type"], event["ts"]):
        return line
    if not matches(BLANK):
        return b""
    left = delivered(blank(event["ts"]), entry_id=event["id"], by=event.get("by"), n=event.get("n"))
    return orjson.dumps(left) + b"\n"


def in_ring(
    fanout: Fanout, asked: Range, matches: Matches, *, newest_first: bool, count: int | None = None
) -> list[PastEvent]:
    """What the ring holds between two ids: the places' numbers are not looked at.

    Args:
        fanout: it has the ring.
        asked: the range.
        matches: whether an event of a type is wanted.
        newest_first: in which order.
        count: at most so many; None for all.
    """
    ring, epoch, after, until = fanout.ring, fanout.head.epoch, asked.after.id, asked.until.id
    found: list[PastEvent] = []
    if newest_first:
        for event in ring.newest_first(matches, until=until):
            if event.id <= after or len(found) == count:
                break
            if asked.covers(event.id, event.ts):
                found.append(past_event(event, epoch))
        return found
    for item in ring.read(max(ring.whole_start, ring.index_after(after)), len(ring)):
        if not isinstance(item, RingEvent) or item.is_forgotten:
            continue
        if item.id > until or len(found) == count:
            break
        if matches(item.type) and asked.covers(item.id, item.ts):
            found.append(past_event(item, epoch))
    return found


def is_start(event_type: str) -> bool:
    """Whether it begins a cycle."""
    return event_type == "cycle.start"


def in_front_of(place: Place) -> Place:
    """The place before this one."""
    return Place(place.epoch, place.id.before())


def past_event(event: RingEvent, epoch: str | None) -> PastEvent:
    """An event of the ring, in the log of this epoch."""
    return PastEvent(event.position(epoch), event.type, event.ts, event.json)


def producer_of(event: PastEvent) -> tuple[str, int]:
    """Its producer and seq, as the archiver reads them; no name where its `by` is none of ours."""
    by = orjson.loads(event.json).get("by")
    return archived_identity(by if isinstance(by, str) else None) or ("", 0)
