"""Places in the archive, which orders the events of all the logs that it has met. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from broadcast.log.position import EARLY_MS, START, EntryId, Position, identity

__all__ = [
    "EARLY_MS",
    "EVERYTHING",
    "LATE_MS",
    "SEQ_MAX",
    "Archived",
    "Epoch",
    "Extent",
    "Place",
    "Range",
    "archived_identity",
    "looked_for_from",
    "milliseconds",
]

SEQ_MAX: Final = 2**63 - 1
"""What PostgreSQL's bigint holds at the most."""
LATE_MS: Final = 60_000
"""Whatever comes into the log later than this is in the index of the late."""


class Place(NamedTuple):
    """A place in the archive, ordered as it is."""

    epoch: int
    """The number that the archive gave to the log."""
    id: EntryId


@dataclass(frozen=True, slots=True)
class Epoch:
    """One log, as the archive knows it."""

    number: int
    name: str
    parent: str | None
    forked_at: EntryId | None
    first: EntryId
    """Where the archive's part of it begins."""

    def has_taken(self, at: EntryId) -> bool:
        """Whether a place that it has in common with the log before it is archived under this one."""
        return self.forked_at is not None and self.first <= at <= self.forked_at


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
        common with the one that it continues is archived once, under either of them.
        """
        if position.epoch is None:
            return self._begun_by(position.id, self.epochs)
        known = self._named(position.epoch)
        if known is None:
            return None
        if known.forked_at is None and position.n is None and position.id < known.first.before():
            # Who counts by `n` stands in that log; a bare id under its name may have come from one before.
            return self._begun_by(position.id, [epoch for epoch in self.epochs if epoch.number <= known.number])
        place = Place(known.number, position.id)
        while (before := self.parting(place)) is not None and place.id < known.first.before():
            place = before
            known = self._numbered(place.epoch)
        return Place(self._heir(known, place.id).number, place.id)

    def _heir(self, log: Epoch, at: EntryId) -> Epoch:
        """The log under which a place is archived that was still in the stream when this log ended."""
        child = next((epoch for epoch in self.epochs if epoch.parent == log.name and epoch.has_taken(at)), None)
        return log if child is None else self._heir(child, at)

    def number_of(self, name: str | None) -> int | None:
        """The number of the log of this name; None if the archive has not met it."""
        known = self._named(name)
        return None if known is None else known.number

    def parting(self, place: Place) -> Place | None:
        """The same place, or the last one in common, in the log that this one continues; None if it continues none."""
        known = self._numbered(place.epoch)
        parent = self._named(known.parent)
        if parent is None or known.forked_at is None:
            return None
        return Place(parent.number, min(place.id, known.forked_at))

    @staticmethod
    def _begun_by(at: EntryId, epochs: Sequence[Epoch]) -> Place:
        begun = [epoch for epoch in epochs if epoch.first <= at]
        return Place((begun[-1] if begun else epochs[0]).number, at)

    def _numbered(self, number: int) -> Epoch:
        return next(epoch for epoch in self.epochs if epoch.number == number)

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


def archived_identity(by: str | None) -> tuple[str, int] | None:
    """Producer and seq by which the archive recognises an event; None for what its columns cannot hold."""
    found = identity(by, digits_max=19)
    return None if found is None or "\0" in found[0] or found[1] > SEQ_MAX else found


def looked_for_from(ts: str) -> EntryId:
    """The smallest id at which an event of this time, or a later one, is looked for."""
    return EntryId(max(0, milliseconds(ts) - EARLY_MS), 0)


def milliseconds(ts: str) -> int:
    """A `ts` as milliseconds since 1970."""
    moment = datetime.fromisoformat(ts)
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
