"""The newest events in memory, each encoded once, in the log's order. Pure.

A place in the ring is an absolute index that only grows, so a cursor is one integer, and finding out that it has
fallen off the end is one comparison. A gap of the log stands among the events, at its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from broadcast.log.entry import Entry
from broadcast.log.position import EntryId, Gap

__all__ = ["Ring", "RingEvent", "RingItem", "ring_event"]


@dataclass(frozen=True, slots=True)
class RingEvent:
    """An event as the ring holds it."""

    id: EntryId
    n: int | None
    type: str
    json: str
    """The delivered form, encoded once for all viewers."""
    ts: str


RingItem = RingEvent | Gap


class Ring:
    """A window on the end of the log.

    Args:
        events_max: at most so many events.
        bytes_max: at most so many bytes of their JSON, whichever is reached first.
    """

    def __init__(self, *, events_max: int, bytes_max: int) -> None:
        self.events_max = max(1, events_max)
        self.bytes_max = bytes_max
        self.start = 0
        """Index of the oldest item."""
        self.bytes = 0
        self._items: list[RingItem] = []
        self._keys: list[tuple[EntryId, bool]] = []
        """The id of each item; a gap has the id of the event before it, and stands behind it (True)."""

    @property
    def end(self) -> int:
        """Index behind the newest item."""
        return self.start + len(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def append(self, entries: list[Entry]) -> None:
        """Add entries at the end; the oldest items go where a bound is passed."""
        for entry in entries:
            item = ring_event(entry)
            self._items.append(item)
            self._keys.append((item.id, False))
            self.bytes += len(item.json)
        self._trim()

    def append_gap(self, gap: Gap) -> None:
        """Mark that the log lacks something here."""
        self._items.append(gap)
        self._keys.append((self._keys[-1][0] if self._keys else gap.after, True))

    def clear(self) -> None:
        """Forget all events (the log they belong to is gone); indexes go on."""
        self.start = self.end
        self._items.clear()
        self._keys.clear()
        self.bytes = 0

    def _trim(self) -> None:
        drop = max(0, len(self._items) - self.events_max)
        bytes_left = self.bytes - sum(_size(item) for item in self._items[:drop])
        while bytes_left > self.bytes_max and drop < len(self._items) - 1:
            bytes_left -= _size(self._items[drop])
            drop += 1
        if drop:
            del self._items[:drop]
            del self._keys[:drop]
            self.start += drop
            self.bytes = bytes_left

    def read(self, index: int, count: int) -> list[RingItem]:
        """Up to `count` items from an index on; the index must not be older than `start`."""
        at = index - self.start
        return self._items[at : at + count]

    def index_after(self, entry_id: EntryId) -> int:
        """The index of the first item behind this id; a gap behind it counts."""
        return self.start + bisect_right(self._keys, (entry_id, False))

    def first_event(self) -> RingEvent | None:
        """The oldest event held; None if there is none."""
        return next((item for item in self._items if isinstance(item, RingEvent)), None)

    def newest_first(self, matches: Callable[[str], bool], *, until: EntryId) -> Iterator[RingEvent]:
        """The events up to an id whose type matches, the newest first."""
        for item in islice(reversed(self._items), self.end - self.index_after(until), None):
            if isinstance(item, RingEvent) and matches(item.type):
                yield item


def ring_event(entry: Entry) -> RingEvent:
    """An entry as viewers get it."""
    event = entry.event
    return RingEvent(entry.id, entry.n, event["type"], orjson.dumps(event).decode(), event["ts"])


def _size(item: RingItem) -> int:
    return len(item.json) if isinstance(item, RingEvent) else 0
