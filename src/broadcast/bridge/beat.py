"""The beat: how often viewers are written to. Pure, fed with a clock.

A system call for each viewer is the floor of what a round costs, however many events it carries. So the beat decides
between delay and cost:

1. After a pause, an event goes out at once.
2. From start to start of two rounds passes one beat: `REST_S` while rounds are cheap.
3. A round may take `SHARE` of the beat; one that takes more lets the beat grow, up to `EASY_S`. Beyond that, delay is
   worth more than cost: a round may then fill `SHARE_MAX` of the beat, and only then it grows further.
4. It grows by half with each round that overruns, so that one late round (a busy machine) changes little, and shrinks
   back by a tenth with each that does not.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Beat"]

REST_S: Final = 0.005
EASY_S: Final = 0.035
"""A beat that nobody sees."""
SHARE: Final = 0.3
SHARE_MAX: Final = 0.8
"""The rest is for reading, connecting, requests and heartbeats."""
GROW: Final = 1.5
SHRINK: Final = 0.9


class Beat:
    """When the next round may start."""

    def __init__(self) -> None:
        self.interval_s = REST_S
        self._started_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """How long the next round has to wait; 0 after a pause.

        Args:
            now_s: a monotonic clock, seconds.
        """
        return max(0.0, self._started_s + self.interval_s - now_s)

    def start(self, now_s: float) -> None:
        """A round starts."""
        self._started_s = now_s

    def end(self, now_s: float) -> None:
        """It has ended."""
        took_s = max(0.0, now_s - self._started_s)
        wanted_s = max(REST_S, min(took_s / SHARE, EASY_S), took_s / SHARE_MAX)
        self.interval_s = min(max(wanted_s, self.interval_s * SHRINK), self.interval_s * GROW)
