"""Past events in somebody's hands: a page is given little by little, and some of it may be erased meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet

from broadcast.log.position import EntryId

__all__ = ["Covers", "Erasable", "Held"]

Covers = Callable[[EntryId, str, str], bool]
"""Whether an event is erased, by its id, type and `ts`."""


class Erasable(Protocol):
    """An event, or what holds some."""

    def erase(self, covers: Covers) -> object:
        """Put a blank in the place of what is covered."""
        ...


class Held:
    """What was read of the past, as long as anybody has it."""

    def __init__(self) -> None:
        self.erasures = 0
        """How many there were; what was read across one may hold what it has erased."""
        self._held: WeakSet[Erasable] = WeakSet()

    def take(self, read: Iterable[Erasable]) -> None:
        """Somebody has them now."""
        self._held.update(read)

    def erase(self, covers: Covers) -> None:
        """Blank what is covered, wherever it is."""
        self.erasures += 1
        for each in list(self._held):
            each.erase(covers)
