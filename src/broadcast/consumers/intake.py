"""What was read from the stream and is not archived yet, cut into batches. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from broadcast.consumers.batch import Batch, EpochName
from broadcast.log.position import EntryId, Gap, Position
from broadcast.log.stream import LinkDown, LinkUp, TailItem

__all__ = ["Intake"]

BATCH_EVENTS_MAX: Final = 5_000
BATCH_CHARS_MAX: Final = 8 * 1024 * 1024
BATCH_AGE_S: Final = 0.25
"""So long a batch waits for more, at the most."""


class Intake:
    """Batches in their order; the last one may still grow.

    Args:
        position: the checkpoint; behind it, the stream is read.
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        """Everything up to here was read."""
        self.target: EntryId | None = None
        """The newest entry at the last contact with the stream; None before the first."""
        self._epoch = EpochName(position.epoch or "")
        self._batches: deque[Batch] = deque()
        self._open_since_s: float | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read until a batch is taken."""
        waiting = [batch for batch in self._batches if self._is_complete(batch)]
        return len(waiting) >= 2

    @property
    def is_done(self) -> bool:
        """Whether everything that was in the stream at the last contact was read, and taken."""
        is_read = self.target is not None and self.position.id >= self.target
        return is_read and all(_lacks_a_place(batch) for batch in self._batches)

    def take_in(self, item: TailItem, *, now_s: float) -> None:
        """Take in what the tail gave."""
        match item:
            case LinkUp(bounds, position):
                self._epoch = EpochName(bounds.epoch or "", bounds.parent, bounds.forked_at)
                self.position, self.target = position, bounds.last
            case Gap():
                begun = self._begin(now_s)
                # Two logs one after the other, of the first of which nothing was ever read: one gap.
                begun.gap = (
                    item if begun.gap is None else replace(item, after=begun.gap.after, lost=None, reason="reset")
                )
                begun.first = _first_behind(item, self.position.id)
            case LinkDown():
                pass
            case entries:
                open_one = self._batches[-1] if self._batches else None
                if open_one is None or open_one.epoch != self._epoch or self._is_complete(open_one):
                    open_one = self._begin(now_s)
                open_one.add(entries)
                self.position = open_one.end

    def _begin(self, now_s: float) -> Batch:
        self._open_since_s = now_s
        gap = self._batches.pop().gap if self._batches and _lacks_a_place(self._batches[-1]) else None
        self._batches.append(Batch(self._epoch, self.position, gap))
        return self._batches[-1]

    def _is_complete(self, batch: Batch) -> bool:
        is_last = batch is self._batches[-1]
        return not is_last or len(batch.rows) >= BATCH_EVENTS_MAX or batch.chars >= BATCH_CHARS_MAX

    def due_in_s(self, now_s: float) -> float | None:
        """How long until a batch can be taken; None if there is none to wait for."""
        if not self._batches or _lacks_a_place(self._batches[0]):
            return None
        if self._is_complete(self._batches[0]) or self._open_since_s is None:
            return 0.0
        return max(0.0, self._open_since_s + BATCH_AGE_S - now_s)

    def take(self) -> Batch:
        """Take out the oldest batch."""
        return self._batches.popleft()


def _first_behind(gap: Gap, at: EntryId) -> EntryId | None:
    """Where the archive's part of the log behind a gap begins, if that can be told yet."""
    return at.after() if gap.reason == "rewound" else gap.before


def _lacks_a_place(batch: Batch) -> bool:
    # Another log, of which nothing is there yet: it begins in the archive with its first event.
    return batch.gap is not None and batch.gap.reason == "reset" and batch.first is None
