"""What does not work just now: whoever asks is told that, and the log why, since reasons name servers and accounts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from broadcast.errors import RequestError

__all__ = ["Outage"]

SAID_AGAIN_S: Final = 60.0
"""So often the same reason stands in the log, however many ask."""
SAID_S: Final = 1.0
"""So often any reason does."""

_log: Any = structlog.get_logger("broadcast.bridge")


class Outage:
    """One thing that may not work.

    Args:
        told: what whoever asks is told.
        clock: a monotonic one, seconds.
    """

    def __init__(self, told: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._told = told
        self._clock = clock
        self._reason: str | None = None
        self._said_at_s = float("-inf")

    def refusal(self, reason: object) -> RequestError:
        """What whoever asks is told; why, stands in the log.

        Args:
            reason: an error, or a text.
        """
        now_s, text = self._clock(), str(reason)[:300]
        if now_s - self._said_at_s > (SAID_AGAIN_S if text == self._reason else SAID_S):
            self._reason, self._said_at_s = text, now_s
            _log.warning(self._told, reason=text)
        return RequestError("unavailable", self._told)
