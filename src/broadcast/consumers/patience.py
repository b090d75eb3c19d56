"""How long something that is away is waited for by whoever has to come to an end. Pure."""

from __future__ import annotations

from broadcast.errors import UnreachableError

__all__ = ["Patience"]


class Patience:
    """Counts for how long something is away.

    Args:
        limit_s: so long it is waited for, seconds; None for ever.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._reason = ""

    def away(self, reason: str, *, now_s: float) -> None:
        """It is away, or still is.

        Args:
            reason: how that shows; the last one is told.
            now_s: the present time, seconds.
        """
        self._reason = reason
        if self._since_s is None:
            self._since_s = now_s

    def back(self) -> None:
        """It is there."""
        self._since_s = None

    def check(self, *, now_s: float) -> None:
        """Look whether it may be waited for still.

        Raises:
            UnreachableError: it has been away for too long.
        """
        if self._limit_s is not None and self._since_s is not None and now_s - self._since_s >= self._limit_s:
            raise UnreachableError(f"{self._reason}; given up after {self._limit_s:g} s")
