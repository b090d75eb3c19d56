"""When each viewer of a bridge that stops is told to go: pure.

Whoever is told to go comes back, to another bridge or to the next one in this place, and costs it a connection and a
history. So a crowd is told in waves, at the pace at which a bridge takes in a crowd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final

__all__ = ["Wave", "waves"]

AT_ONCE_MAX: Final = 100
"""So few are told in the same instant."""
RATE: Final = 1_000
"""Viewers told per second, beyond that: half of what one bridge takes in, so that it has time for the others."""
GRACE_PART: Final = 0.25
"""The longest it takes, as a part of the grace time; the rest is for taking leave, and for uvicorn."""
WAVE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Wave:
    """Those who are told together: indexes from `first` up to `end`."""

    due_s: float
    """When, seconds after the first."""
    first: int
    end: int


def waves(viewers: int, *, grace_s: float) -> Iterator[Wave]:
    """Spread so many viewers.

    Args:
        viewers: how many there are.
        grace_s: how long the whole end may take.
    """
    if viewers == 0:
        return
    spread_s = min(viewers / RATE, grace_s * GRACE_PART) if viewers > AT_ONCE_MAX else 0.0
    count = max(1, ceil(spread_s / WAVE_S))
    for turn in range(count):
        due_s = spread_s * turn / count
        yield Wave(due_s, viewers * turn // count, viewers * (turn + 1) // count)
