"""Where a cursor came by lately, to find where the logs of two masters part. Pure.

A master that is replaced while it lives goes on taking events, and so does its successor: two logs grow from one, and
their ids interleave. That an id exists in both, or lies between two of the other, says nothing then; only an entry
with the same id and the same identity stands before the parting, and so does everything in front of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from broadcast.log.entry import Entry
from broadcast.log.position import EntryId

__all__ = ["Trail"]

STEP_MS: Final = 100
STEPS_MAX: Final = 600
"""A minute of a log that never rests: longer than Sentinels take to demote a master."""


class Trail:
    """The newest entry that a cursor had, and at least a tenth of a second between those before it."""

    def __init__(self) -> None:
        self._steps: deque[tuple[EntryId, str]] = deque(maxlen=STEPS_MAX)

    def note(self, entry: Entry) -> None:
        """Remember the newest entry of what was read."""
        steps = self._steps
        if len(steps) > 1 and steps[-1][0].ms - steps[-2][0].ms < STEP_MS:
            steps.pop()
        steps.append((entry.id, _identity(entry)))

    def behind(self, at: EntryId) -> list[EntryId]:
        """The places to look for in another master's log, newest first; none if the cursor did not come by here."""
        return [place for place, _ in reversed(self._steps)] if self._steps and self._steps[-1][0] == at else []

    def parting(self, standing: Sequence[Entry | None]) -> EntryId | None:
        """The last place that both logs have; what is behind it is forgotten.

        Args:
            standing: what stands in the other log at the places of `behind`.

        Returns:
            None if the other log has none of them.
        """
        for entry in standing:
            if entry is not None and (entry.id, _identity(entry)) == self._steps[-1]:
                return entry.id
            self._steps.pop()
        return None


def _identity(entry: Entry) -> str:
    return entry.by or repr(entry.event)
