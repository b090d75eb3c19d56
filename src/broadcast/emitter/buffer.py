"""The bounded buffer between `emit()` and the sender: ready bytes, no lock.

Any thread, signal handler or destructor appends; one sender takes. When a bound is passed the oldest event goes, and
is counted.

Why no lock is needed: `deque.append` and `deque.popleft` are atomic, and `self.x += y` with a local `y` has no point
at which CPython (3.10 and later, with the GIL) switches threads, runs a signal handler or collects. A function call
between the load and the store would be such a point, so none stands there.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

__all__ = ["Buffer", "Loss"]


class Loss(NamedTuple):
    """Events that were dropped and have to be announced.

    Args:
        events: how many.
        reason: `buffer_full`, `redis_rewound` or `rejected`.
        first: the JSON of the first of them, None where it is not known.
        last: the JSON of the last of them, None where it is not known.
    """

    events: int
    reason: str
    first: bytes | None = None
    last: bytes | None = None


class Buffer:
    """A queue of encoded events, bounded by count and by bytes.

    Args:
        events_max: at most so many events.
        bytes_max: at most so many bytes of events.
    """

    __slots__ = (
        "_announced",
        "_entries",
        "_first_dropped",
        "_last_dropped",
        "accepted",
        "bytes",
        "bytes_max",
        "dropped",
        "events_max",
    )

    def __init__(self, *, events_max: int, bytes_max: int) -> None:
        self.events_max = max(1, events_max)
        self.bytes_max = bytes_max
        self.accepted = 0
        """Events ever appended."""
        self.dropped = 0
        """Events ever dropped because the buffer was full."""
        self.bytes = 0
        """Bytes of the events that are in it."""
        self._entries: deque[bytes] = deque()
        self._announced = 0
        self._first_dropped: bytes | None = None
        self._last_dropped: bytes | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, payload: bytes) -> None:
        """Add an event; over a bound, the oldest goes. Safe wherever Python code can run."""
        size = len(payload)
        self._entries.append(payload)
        self.accepted += 1
        self.bytes += size
        if self.bytes > self.bytes_max or len(self._entries) > self.events_max:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self.bytes > self.bytes_max or len(self._entries) > self.events_max:
            try:
                payload = self._entries.popleft()
            except IndexError:  # somebody else took it meanwhile
                return
            size = len(payload)
            self.bytes -= size
            if self._first_dropped is None:
                self._first_dropped = payload
            self._last_dropped = payload
            self.dropped += 1

    def take(self, *, events_max: int, bytes_max: int) -> list[bytes]:
        """Remove the oldest events, at least one if there is any. Only the sender calls this.

        Args:
            events_max: at most so many.
            bytes_max: stop after passing so many bytes.
        """
        taken: list[bytes] = []
        taken_bytes = 0
        while len(taken) < events_max and taken_bytes < bytes_max:
            try:
                payload = self._entries.popleft()
            except IndexError:
                break
            size = len(payload)
            self.bytes -= size
            taken_bytes += size
            taken.append(payload)
        return taken

    @property
    def has_loss(self) -> bool:
        """Whether something was dropped since the last `take_loss`."""
        return self.dropped != self._announced

    def take_loss(self) -> Loss | None:
        """What was dropped since the last call, or None. Only the sender calls this."""
        count = self.dropped - self._announced
        if not count:
            return None
        self._announced += count
        first, self._first_dropped = self._first_dropped, None
        return Loss(count, "buffer_full", first or self._last_dropped, self._last_dropped)
