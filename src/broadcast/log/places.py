"""Places in the archive, which orders the events of all the logs that it has met. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from broadcast.errors import PositionError
from broadcast.log.position import START, EntryId, Position

__all__ = ["EARLY_MS", "EVERYTHING", "LATE_MS", "Archived", "Epoch", "Extent", "Place", "Range", "milliseconds"]

EARLY_MS: Final = 5_000
"""An id is given after `ts` is taken, but by another machine's clock: it may be so much smaller."""
LATE_MS: Final = 60_000
"""Whatever comes into the log later than this is in the index of the late."""


class Place(NamedTuple):
    """A place in the archive, ordered as it is."""

    epoch: int
    """The number that the archive gave to the log."""
    id: EntryId

    def __str__(self) -> str:
        return f"{self.epoch}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str` wrote.

        Raises:
            PositionError: it is none.
        """
        epoch, _, entry_id = text.partition(".")
        ms, _, seq = entry_id.partition("-")
        parts = (epoch, ms, seq)
        if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in parts) or int(epoch) >= 2**31:
            raise PositionError(f"cursor: expected what `next` said, such as '1.1771095683456-0', got {text[:60]!r}")
        return cls(int(epoch), EntryId(int(ms), int(seq)))


@dataclass(frozen=True, slots=True)
class Epoch:
    """One log, as the archive knows it."""

    number: int
    name: str
    parent: str | None
    forked_at: EntryId | None
    first: EntryId
    """Where the archive's part of it begins."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the archive reaches."""

    epochs: tuple[Epoch, ...]
    """In their order; the last one is the checkpoint's."""
    end: Place
    """The checkpoint: everything up to here is archived."""
    n: int | None
    """Its ordinal in its log."""

    def position(self) -> Position:
        """The checkpoint as a position in the log."""
        return Position(self.end.id, self.n, self.epochs[-1].name)

    def place_of(self, position: Position) -> Place | None:
        """Where a position lies; None if it is in a log that the archive has not met.

        A bare id is looked for in the newest log that had begun by then: ids begin with a time. What a log has in
        common with the one that it continues is archived under that one, as far as it was archived by then; and so is
        what was appended again in it.
        """
        if position.epoch is None:
            begun = [epoch for epoch in self.epochs if epoch.first <= position.id]
            return Place((begun[-1] if begun else self.epochs[0]).number, position.id)
        known, at = self._named(position.epoch), position.id
        while known is not None and known.forked_at is not None and at < known.first:
            parent = self._named(known.parent)
            if parent is None:
                break
            known, at = parent, min(at, known.forked_at)
        return None if known is None else Place(self._heir(known, at).number, at)

    def _heir(self, log: Epoch, entry_id: EntryId) -> Epoch:
        """The log under which an event is archived that was still in the stream when this log ended."""
        for epoch in self.epochs:
            is_kept = epoch.forked_at is not None and epoch.first <= entry_id <= epoch.forked_at
            if epoch.parent == log.name and is_kept:
                return self._heir(epoch, entry_id)
        return log

    def number_of(self, name: str | None) -> int | None:
        """The number of the log of this name; None if the archive has not met it."""
        known = self._named(name)
        return None if known is None else known.number

    def _named(self, name: str | None) -> Epoch | None:
        return next((epoch for epoch in self.epochs if epoch.name == name), None)

    def name_of(self, number: int) -> str | None:
        """What the log of this number calls itself."""
        return next((epoch.name for epoch in self.epochs if epoch.number == number), None)


@dataclass(frozen=True, slots=True)
class Archived:
    """One event of the archive."""

    place: Place
    n: int | None
    type: str
    ts: str
    by: str | None
    json: bytes
    """Its delivered form."""


@dataclass(frozen=True, slots=True)
class Range:
    """Events between two places, two times, and not too old."""

    after: Place
    """Exclusive."""
    until: Place
    """Inclusive."""
    ts_from: str | None = None
    """Inclusive, as is `ts_to`; None for no such bound."""
    ts_to: str | None = None
    earliest: EntryId = START
    """The smallest id that may be given, in whichever log."""

    def covers(self, entry_id: EntryId, ts: str) -> bool:
        """Whether an event that lies between the two places belongs to it."""
        return entry_id >= self.earliest and (self.ts_from or "") <= ts and (self.ts_to is None or ts <= self.ts_to)


EVERYTHING: Final = Range(Place(0, START), Place(2**31 - 1, EntryId(2**64 - 1, 2**64 - 1)))
"""The whole log."""


def milliseconds(ts: str) -> int:
    """A `ts` as milliseconds since 1970."""
    moment = datetime.fromisoformat(ts)
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
