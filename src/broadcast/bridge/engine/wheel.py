"""One timer for all clients: a wheel of time slots, pure.

Hashed timing wheel after G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (1987): to set, to move and
to take out a timer costs the same however many there are.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Wheel"]

T = TypeVar("T")


class Wheel(Generic[T]):
    """Items, each with a moment at which it is due.

    Args:
        resolution_s: an item comes at most so much too late, seconds.
        now_s: a monotonic clock, seconds.
    """

    def __init__(self, *, resolution_s: float, now_s: float) -> None:
        self.resolution_s = resolution_s
        self._slots: dict[int, dict[T, None]] = {}
        self._slot_of: dict[T, int] = {}
        self._turned_to = int(now_s / resolution_s)

    def __len__(self) -> int:
        return len(self._slot_of)

    def set(self, item: T, due_s: float) -> None:
        """Let an item be due at this moment, whatever was said before."""
        self.discard(item)
        # Into the slot behind it: never too early. What is due already comes with the next turn.
        slot = max(int(due_s / self.resolution_s), self._turned_to) + 1
        self._slots.setdefault(slot, {})[item] = None
        self._slot_of[item] = slot

    def discard(self, item: T) -> None:
        """Forget an item."""
        slot = self._slot_of.pop(item, None)
        if slot is not None:
            items = self._slots[slot]
            del items[item]
            if not items:
                del self._slots[slot]

    def turn(self, now_s: float) -> list[T]:
        """The items that are due by now; they are out of the wheel."""
        turned_to = int(now_s / self.resolution_s)
        if turned_to - self._turned_to > len(self._slots):  # after a long sleep: fewer slots than moments
            slots = sorted(slot for slot in self._slots if slot <= turned_to)
        else:
            slots = [slot for slot in range(self._turned_to + 1, turned_to + 1) if slot in self._slots]
        self._turned_to = max(self._turned_to, turned_to)
        due = [item for slot in slots for item in self._slots.pop(slot)]
        for item in due:
            del self._slot_of[item]
        return due
