"""When each event of a timed replay is due: as lived, faster or slower, without the idle hours. Pure.

    pacing = Pacing(4.0, now())
    for event in events:
        pacing.take(event["ts"], now())
        while (wait_s := pacing.wait_s(now())) > 0: …wait so long, or until it is told otherwise…
        …give the event…
        pacing.gave(now())

Rules:
1. Time goes by `ts`, and never backwards: an event that is older than the one before it waits for nothing.
2. Where nothing happened for long, the wait is cut to `idle_s`, and it is told how much was left out.
3. However fast it is to go, there are at most so many events per second. Who cannot keep up, for that reason or because
   its reader is slow, goes on from where it is: it does not run after what it has missed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

__all__ = ["IDLE_S", "SPEED_MAX", "SPEED_MIN", "Pacing"]

SPEED_MIN: Final = 0.5
SPEED_MAX: Final = 64.0
IDLE_S: Final = 2.0
BEHIND_S: Final = 1.0
"""Whoever is later than this is slow, and is told so."""
BURST_EVENTS: Final = 50
"""So many may come at once, where they were lived at once."""


class Pacing:
    """The clock of one replay.

    Args:
        speed: how many seconds of the mind's time pass in one second.
        now_s: the present time, by whichever clock; the same one in all that follows.
        idle_s: no wait is longer than this, by that clock; None for as long as it was.
        events_per_s: no more than this; None for no bound.
    """

    def __init__(
        self, speed: float, now_s: float, *, idle_s: float | None = IDLE_S, events_per_s: float | None = None
    ) -> None:
        self.speed = speed
        self.idle_s = idle_s
        self.events_per_s = events_per_s
        self.cut_s = 0.0
        """How much of the mind's time was left out, since nothing happened in it."""
        self.paused_s: float | None = None
        """Since when it stands still, by that clock; None while it does not."""
        self.is_behind = False
        """Whether it goes more slowly than it should."""
        self._reached_s: float | None = None
        """The newest `ts` that was taken; None at the beginning."""
        self._due_s = now_s
        self._left_s = 0.0
        """While it is paused: how long the event taken still had to wait."""
        self._free_s = now_s
        """Before this, the bound on events per second lets nothing pass."""

    @property
    def is_paused(self) -> bool:
        """Whether it stands still."""
        return self.paused_s is not None

    def take(self, ts: str, now_s: float) -> None:
        """The next event has this `ts`."""
        at_s = datetime.fromisoformat(ts).timestamp()
        if self._reached_s is not None and at_s > self._reached_s:
            self._due_s += self._without_idleness((at_s - self._reached_s) / self.speed)
        if self._reached_s is None or at_s > self._reached_s:
            self._reached_s = at_s
        late_s = max(now_s, self._free_s) - self._due_s
        self.is_behind = late_s > (BEHIND_S / 2 if self.is_behind else BEHIND_S)
        self._due_s += max(0.0, late_s - BEHIND_S)

    def wait_s(self, now_s: float) -> float:
        """How long it is until the event that was taken is due; 0 or less if it is; infinite while it is paused."""
        return float("inf") if self.is_paused else max(self._due_s, self._free_s) - now_s

    def gave(self, now_s: float) -> None:
        """The event was given."""
        if self.events_per_s is not None:
            at_once_s = BURST_EVENTS / self.events_per_s
            self._free_s = max(self._free_s, now_s - at_once_s) + 1 / self.events_per_s

    def pause(self, now_s: float) -> None:
        """Stand still."""
        if not self.is_paused:
            self.paused_s = now_s
            self._left_s = max(0.0, self._due_s - now_s)

    def resume(self, now_s: float) -> None:
        """Go on as if no time had passed."""
        if self.is_paused:
            self.paused_s = None
            self._due_s = now_s + self._left_s

    def change(self, speed: float, now_s: float) -> None:
        """Go on with another speed; what is left of the present wait changes with it."""
        left_s = self._left_s if self.is_paused else max(0.0, self._due_s - now_s)
        left_s *= self.speed / speed
        self._left_s = left_s if self.idle_s is None else min(left_s, self.idle_s)
        self._due_s = now_s + self._left_s
        self.speed = speed

    def jump(self, now_s: float) -> None:
        """Go on at another place, whose first event is due at once."""
        self._reached_s, self._due_s, self._left_s = None, now_s, 0.0

    def _without_idleness(self, wait_s: float) -> float:
        if self.idle_s is None or wait_s <= self.idle_s:
            return wait_s
        self.cut_s += (wait_s - self.idle_s) * self.speed
        return self.idle_s
