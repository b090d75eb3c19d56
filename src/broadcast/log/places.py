"""Places in the archive, which orders the events of all the logs that it has met. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broadcast.errors import PositionError
from broadcast.log.position import EntryId, Position

__all__ = ["Archived", "Epoch", "Extent", "Place"]


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

        A bare id is looked for in the newest log that had begun by then: ids begin with a time.
        """
        if position.epoch is not None:
            known = self.number_of(position.epoch)
            return None if known is None else Place(self._heir(known, position.id), position.id)
        begun = [epoch for epoch in self.epochs if epoch.first <= position.id]
        return Place((begun[-1] if begun else self.epochs[0]).number, position.id)

    def _heir(self, number: int, entry_id: EntryId) -> int:
        """Which log an event is archived in that was still in the stream when Redis lost what came behind it."""
        for epoch in self.epochs:
            is_child = epoch.parent == self.name_of(number)
            if is_child and epoch.forked_at is not None and epoch.first <= entry_id <= epoch.forked_at:
                return self._heir(epoch.number, entry_id)
        return number

    def number_of(self, name: str | None) -> int | None:
        """The number of the log of this name; None if the archive has not met it."""
        return next((epoch.number for epoch in self.epochs if epoch.name == name), None)

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
