"""What limits withheld of posted events, told in the log as `emit()` tells it: by this bridge, as one more producer."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from broadcast.emitter.announcements import announcement
from broadcast.emitter.broadcaster import Broadcaster
from broadcast.emitter.limits import Limiter
from broadcast.settings import Settings

__all__ = ["Withholding"]

FLUSH_S: Final = 1.0
"""For so long the bridge's end waits for the log; whatever waits longer has the exit's time besides."""


class Withholding:
    """Has a `broadcast.limited` appended, at most once a second while something is withheld.

    A broadcaster appends it, in a thread of its own: it waits while Redis is away, and nobody waits for it.

    Args:
        settings: where the log is.
        limiter: what withholds.
    """

    def __init__(self, settings: Settings, limiter: Limiter) -> None:
        # Nothing may change or withhold an announcement.
        self._settings = settings.with_changes(limits=(), redact=(), event_bytes_max=Settings().event_bytes_max)
        self._limiter = limiter
        self._broadcaster: Broadcaster | None = None
        """None while nothing had to be told: then there is no thread, and no producer."""
        self._telling: asyncio.TimerHandle | None = None
        self._is_ending = False

    def note(self) -> None:
        """Something may have been withheld: it is told when that is due."""
        due_ns = self._limiter.due_in_ns(time.monotonic_ns())
        if due_ns is not None and self._is_ending:
            self._tell_now()
        elif due_ns is not None and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(max(0, due_ns) / 1e9, self._tell)

    async def aclose(self) -> None:
        """Tell what is left to tell, and wait a moment until it is in the log; what comes later is told at once."""
        self._is_ending = True
        if self._telling is not None:
            self._telling.cancel()
            self._tell_now()
        if self._broadcaster is not None:
            await asyncio.to_thread(self._broadcaster.flush, FLUSH_S)

    def _tell_now(self) -> None:
        self._limiter.want_report()
        self._tell()

    def _tell(self) -> None:
        self._telling = None
        report = self._limiter.take_report(time.monotonic_ns())
        if report is None:  # the loop's clock is a little ahead
            self.note()
            return
        broadcaster = self._broadcaster = self._broadcaster or Broadcaster(settings=self._settings)
        broadcaster.emit(*announcement(report, broadcaster.stats().producer))
