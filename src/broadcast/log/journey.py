"""How far a reading of the log has come, what it wants of it, and where it ends. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from broadcast.log.delivered import Delivered
from broadcast.log.entry import Entry
from broadcast.log.places import LATE_MS, milliseconds
from broadcast.log.position import START, Bounds, EntryId, Position, Seen

__all__ = ["End", "Journey"]


@dataclass(frozen=True, slots=True)
class End:
    """Where a reading ends."""

    position: Position | None
    """The last place, inclusive; None where a time bounds it."""
    ts: str | None
    """The last `ts`, inclusive."""

    @property
    def _ms(self) -> int:
        if self.ts is not None:
            return milliseconds(self.ts)
        return 0 if self.position is None else self.position.id.ms

    def archived_until(self) -> Position:
        """Up to where the archive is read in its order."""
        return self.position or Position(EntryId(self._ms + LATE_MS, 0))

    def left_s(self, now_ms: int) -> float:
        """How long it is until then; 0 or less if it is past."""
        return (self._ms - now_ms) / 1000

    def is_reached(self, at: EntryId) -> bool:
        """Whether nothing behind this place belongs to it."""
        return self.position is not None and at >= self.position.id


@dataclass(slots=True)
class Journey:
    """How far a reading has come, and what it wants."""

    position: Position | None
    ts: str | None
    end: End | None
    matches: Callable[[str], bool] | None
    seen: Seen
    """What was had."""
    is_over: bool = False
    is_archived: bool = False
    """Whether the archive is known to have what comes next."""
    resumed: Position | None = None
    """Where the stream goes on, as of the last contact; behind a gap, if there is one."""
    is_late: bool = False
    """Whether its end is past, so that it ends with what there is."""
    goal: EntryId | None = None
    """What there is."""

    @property
    def epoch(self) -> str | None:
        """The log that is being read."""
        return None if self.resumed is None else self.resumed.epoch

    def look_at_the_clock(self, now_ms: int) -> None:
        """See whether its end is past."""
        self.is_late = self.end is not None and self.end.left_s(now_ms) <= 0

    def timeout_s(self, now_ms: int) -> float | None:
        """How long to wait for more; None for ever."""
        return None if self.end is None or self.is_late else max(0.0, self.end.left_s(now_ms))

    def resume(self, position: Position, bounds: Bounds, *, is_gap_next: bool) -> None:
        """The stream can be read.

        Args:
            position: from where it goes on; another place than was reached where that was only a moment.
            bounds: the stream as it is now.
            is_gap_next: whether it has to be told first that something is missing in front of that.
        """
        self.resumed = position
        # What was emptied gives nothing more, wherever its newest entry was.
        there_is = START if bounds.first is None else bounds.last
        self.goal = there_is if self.is_late else None
        if not is_gap_next:
            self._come_to(position)

    def pass_gap(self) -> None:
        """It was told what is missing."""
        if self.resumed is not None:
            self._come_to(self.resumed)

    def pass_over(self, entry: Entry) -> None:
        """Everything up to this entry was read."""
        self._come_to(Position(entry.id, entry.n, self.epoch))
        self.resumed = self.position

    def _come_to(self, position: Position) -> None:
        self.position = position
        is_there = self.end is not None and self.end.is_reached(position.id)
        self.is_over = self.is_over or is_there or (self.goal is not None and position.id >= self.goal)

    def wanted(self, entries: list[Entry]) -> list[Delivered]:
        """What of these entries is to be given."""
        new = [entry for entry in entries if self.seen.is_new(entry.by)]
        return [Delivered.of_entry(entry, self.epoch) for entry in new if self._wants(entry)]

    def _wants(self, entry: Entry) -> bool:
        ts, end = cast("str", entry.event["ts"]), self.end
        if (self.ts is not None and ts < self.ts) or (end is not None and end.ts is not None and ts > end.ts):
            return False
        if end is not None and end.position is not None and entry.id > end.position.id:
            return False
        return self.matches is None or self.matches(entry.event["type"])
