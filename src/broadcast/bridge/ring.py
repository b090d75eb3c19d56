"""The newest events in memory, each encoded once, in the log's order. Pure.

A place in the ring is an absolute index that only grows, so a cursor is one integer, and finding out that it has
fallen off the end is one comparison. A gap of the log stands among the events, at its place. Behind the newest one that
tells of trimmed events it is *whole*: who was there before goes on over the gap; who comes, and wants what lies before
it, reads that where it may still be, in the stream and in the archive.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

import orjson

from broadcast.bridge.wire import Form
from broadcast.event import delivered
from broadcast.log.entry import Entry
from broadcast.log.erasure import blank
from broadcast.log.position import START, EntryId, Gap, Position

if TYPE_CHECKING:
    from broadcast.log.archive import Archived

__all__ = ["Ring", "RingEvent", "RingGap", "RingItem"]


class RingEvent:
    """An event as the ring holds it.

    Args:
        entry: the event in its place in the log.
        again_since: see there.
    """

    __slots__ = ("__weakref__", "_encoded", "again_since", "by", "id", "is_forgotten", "json", "n", "ts", "type")

    def __init__(self, entry: Entry, again_since: int = 0) -> None:
        self.id = entry.id
        self.n = entry.n
        self.by = entry.by
        self.type: str = entry.event["type"]
        self.ts: str = entry.event["ts"]
        self.json = orjson.dumps(entry.event)
        """The delivered form, encoded once for all viewers."""
        self.again_since = again_since
        """For an event that was appended again after Redis had lost it: the index from which on the log is without what
        it lost. Who was here before that has had the event; 0 for every other event."""
        self.is_forgotten = False
        """Whether the log has lost it: Redis came back without it. Who was on the way to it gets it still."""
        self._encoded: dict[Form, bytes] = {}

    @classmethod
    def archived(cls, row: Archived) -> RingEvent:
        """A row of the archive, for viewers that are given it together with what is in the ring."""
        event = cls.__new__(cls)
        event.id, event.n, event.by, event.type, event.ts = row.place.id, row.n, row.by, row.type, row.ts
        event.json = row.json
        event.again_since, event.is_forgotten, event._encoded = 0, False, {}
        return event

    def encoded(self, form: Form) -> bytes:
        """What is written to a viewer of this form; made once."""
        data = self._encoded.get(form)
        if data is None:
            data = self._encoded[form] = form.write("event", self.json, str(self.id))
        return data

    def erase(self, covers: Callable[[EntryId, str, str], bool]) -> bool:
        """Become a blank, if it is covered (by id, type and `ts`): whoever holds it has forgotten it, too."""
        if not covers(self.id, self.type, self.ts):
            return False
        by = orjson.loads(self.json).get("by")
        event = delivered(blank(self.ts), entry_id=str(self.id), by=by, n=self.n)
        self.type, self.json, self._encoded = event["type"], orjson.dumps(event), {}
        return True

    def position(self, epoch: str | None) -> Position:
        """Where a cursor stands that has had this event."""
        return Position(self.id, self.n, epoch)


@dataclass(frozen=True, slots=True)
class RingGap:
    """What the log lacks here, as the ring holds it."""

    gap: Gap
    place: Position
    """Where a cursor stands behind it."""


RingItem = RingEvent | RingGap


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
        self.end = 0
        """Index behind the newest item."""
        self.epoch_start = 0
        """Index behind the newest gap that begins another epoch: what stands before it may be in the log no more."""
        self.epoch_place = Position(START)
        """Where a cursor stands there."""
        self._hole_end = 0
        """Index behind the newest gap of what was trimmed."""
        self.bytes = 0
        self.taken = 0
        """Events that were ever added."""
        self.taken_bytes = 0
        """Bytes of their JSON."""
        self._items: list[RingItem] = []
        self._keys: list[tuple[EntryId, bool]] = []
        """The id of each item; a gap has the id of the event before it, and stands behind it (True)."""
        self._of_type: dict[str, deque[int]] = {}
        """The indexes of each type's events, ascending."""

    def __len__(self) -> int:
        return len(self._items)

    def append(self, entries: list[Entry], again: Collection[EntryId] = ()) -> None:
        """Add entries at the end; the oldest items go where a bound is passed.

        Args:
            entries: in the log's order.
            again: those of them that were appended again.
        """
        for entry in entries:
            event = RingEvent(entry, self.epoch_start if entry.id in again else 0)
            self._items.append(event)
            self._keys.append((event.id, False))
            self._of_type.setdefault(event.type, deque()).append(self.end)
            self.end += 1
            self.bytes += len(event.json)
            self.taken_bytes += len(event.json)
        self.taken += len(entries)
        self._trim()

    def append_gap(self, gap: Gap, place: Position) -> None:
        """Mark that the log lacks something here, and where a cursor stands behind it."""
        if gap.reason == "rewound":
            self._forget_behind(place.id)
        self._keys.append((self._keys[-1][0] if self._keys else gap.after, True))
        self._items.append(RingGap(gap, place))
        self.end += 1
        if gap.reason == "trimmed":
            self._hole_end = self.end
        else:
            self.epoch_start, self.epoch_place = self.end, place
        self._trim()

    def _forget_behind(self, entry_id: EntryId) -> None:
        # Their ids may come again, by a clock that is behind: from here on they count as what follows this id.
        for at in range(self.index_after(entry_id) - self.start, len(self._items)):
            item = self._items[at]
            self._keys[at] = (entry_id, True)
            if isinstance(item, RingEvent):
                item.is_forgotten = True

    def clear(self) -> None:
        """Forget all events (the log they belong to is gone); indexes go on."""
        self.start = self.end
        self._items.clear()
        self._keys.clear()
        self._of_type.clear()
        self.bytes = 0

    def _trim(self) -> None:
        drop, spare = 0, len(self._items) - self.events_max
        while drop < spare or (self.bytes > self.bytes_max and drop < len(self._items) - 1):
            self._forget(self._items[drop])
            drop += 1
        if drop:
            del self._items[:drop]
            del self._keys[:drop]
            self.start += drop

    def _forget(self, item: RingItem) -> None:
        if isinstance(item, RingEvent):
            self.bytes -= len(item.json)
            indexes = self._of_type[item.type]
            indexes.popleft()  # the oldest event of all is the oldest of its type
            if not indexes:
                del self._of_type[item.type]

    def erase(self, covers: Callable[[EntryId, str, str], bool]) -> int:
        """Put a blank in the place of each event that is covered (by id, type and `ts`).

        Returns:
            How many there were.
        """
        events = [item for item in self._items if isinstance(item, RingEvent)]
        erased = sum(event.erase(covers) for event in events)
        if erased:
            self.bytes = sum(len(event.json) for event in events)
            self._of_type.clear()
            for index, item in enumerate(self._items, self.start):
                if isinstance(item, RingEvent):
                    self._of_type.setdefault(item.type, deque()).append(index)
        return erased

    def read(self, index: int, count: int) -> list[RingItem]:
        """Up to `count` items from an index on; the index must not be older than `start`."""
        at = index - self.start
        return self._items[at : at + count]

    def index_after(self, entry_id: EntryId) -> int:
        """The index of the first item behind this id; a gap behind it counts."""
        return self.start + bisect_right(self._keys, (entry_id, False))

    def before_this_epoch(self, index: int) -> list[RingEvent]:
        """From an index on, the events that stand before the newest epoch's beginning and are in its log, too."""
        items = self.read(max(index, self.start), max(0, self.epoch_start - max(index, self.start)))
        return [item for item in items if isinstance(item, RingEvent) and not item.is_forgotten]

    @property
    def whole_start(self) -> int:
        """From this index on nothing is missing."""
        return max(self.start, self._hole_end)

    def first_held(self) -> RingEvent | None:
        """The oldest event held; None if there is none."""
        return next((item for item in self._items if isinstance(item, RingEvent)), None)

    def first_event(self) -> RingEvent | None:
        """The oldest event behind which nothing is missing; None if there is none."""
        return next((item for item in self._whole_items() if isinstance(item, RingEvent)), None)

    def first_kept(self) -> RingEvent | None:
        """The same of those that the log has not lost."""
        whole = self._whole_items()
        return next((item for item in whole if isinstance(item, RingEvent) and not item.is_forgotten), None)

    def _whole_items(self) -> Iterator[RingItem]:
        return islice(self._items, self.whole_start - self.start, None)

    def count(self, matches: Callable[[str], bool], begin: int, end: int) -> int:
        """How many events from an index on, and in front of another one, have a type that matches."""
        if begin >= end:
            return 0
        columns = [indexes for event_type, indexes in self._of_type.items() if matches(event_type)]
        return sum(bisect_left(indexes, end) - bisect_left(indexes, begin) for indexes in columns)

    def newest_first(self, matches: Callable[[str], bool], *, until: EntryId) -> Iterator[RingEvent]:
        """The events up to an id whose type matches, the newest first, as far back as nothing is missing.

        Those of other types are not looked at.
        """
        begin, end = self.whole_start, self.index_after(until)
        columns = [reversed(indexes) for event_type, indexes in self._of_type.items() if matches(event_type)]
        for index in merge(*columns, reverse=True):
            if index < begin:
                return
            item = self._items[index - self.start]
            if index < end and isinstance(item, RingEvent) and not item.is_forgotten:
                yield item
