"""How much of something a client may have: a token bucket. Pure, fed with a clock."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """A bucket that fills by itself.

    Args:
        rate: what flows in, per second; 0 for no limit at all.
        burst: how much it holds; it begins full.
    """

    __slots__ = ("_burst", "_looked_s", "_rate", "left")

    def __init__(self, *, rate: float, burst: float) -> None:
        self.left = burst
        """What is left; negative where more was taken than there was."""
        self._rate = rate
        self._burst = burst
        self._looked_s: float | None = None

    def take(self, cost: float, now_s: float) -> float:
        """Take some; it is gone, even if there was not so much.

        Args:
            cost: how much.
            now_s: a monotonic clock, seconds.

        Returns:
            How many seconds it takes until what is missing has flowed in; 0 if nothing is.
        """
        if not self._rate:
            return 0.0
        if self._looked_s is not None:
            self.left = min(self._burst, self.left + max(0.0, now_s - self._looked_s) * self._rate)
        self._looked_s = now_s
        self.left -= cost
        return max(0.0, -self.left / self._rate)

    def has(self, cost: float, now_s: float) -> bool:
        """Take some if there is so much; False leaves it as it was."""
        if self.take(cost, now_s) > 0:
            self.left += cost
            return False
        return True
