"""Whether the bridge does what it is there for: a look from outside at the reader of the stream, and at the rounds.

A reader may be silent because nothing happens, or because it is stuck. So another connection asks Redis where the
stream ends: if the ring's end stays behind that and does not move, the reader is stuck, whatever it says of itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from broadcast.bridge.archive_watch import ArchiveWatch
from broadcast.bridge.fanout import Fanout
from broadcast.errors import UnreachableError
from broadcast.log.position import START, Bounds, EntryId

__all__ = ["Probe", "Progress"]

LOOK_S: Final = 5.0
HUNG_S: Final = 60.0
"""Each look is bounded by the time-outs of its questions to Redis, which together take less."""
STUCK_S: Final = 15.0
"""Longer than any break that is normal: a failover behind Sentinels, a full garbage collection, a stopped process."""

_log: Any = structlog.get_logger("broadcast.bridge")


class Progress:
    """Whether somebody comes closer to what lies ahead of him. Pure, fed with a clock.

    Args:
        patience_s: how long he may stand still, seconds.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._at: object = None
        self._since_s: float | None = None

    def stuck_s(self, at: object, *, is_behind: bool, now_s: float) -> float:
        """For how long he has stood still though there is more; 0 while that is no reason to worry.

        Args:
            at: where he stands.
            is_behind: whether something lies ahead of him.
            now_s: a monotonic clock.
        """
        if not is_behind or at != self._at or self._since_s is None:
            self._at, self._since_s = at, now_s
        stood_s = now_s - self._since_s
        return stood_s if is_behind and stood_s >= self._patience_s else 0.0


class Probe:
    """Looks now and then, for ever.

    Args:
        fanout: the log as this bridge has it.
        archive: how far its archiver is.
        clock: a monotonic one, seconds.
    """

    def __init__(self, fanout: Fanout, archive: ArchiveWatch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fanout = fanout
        self._clock = clock
        self.archive = archive
        self.archive_state: dict[str, Any] | None = None
        """How far the archiver was at the last look; None where there is none, or Redis does not answer."""
        self._reader = Progress(STUCK_S)
        self._rounds = Progress(STUCK_S)
        self.stream: Bounds | None = None
        """The stream as it was at the last look; None while Redis does not answer."""
        self._found: tuple[str, ...] = ()
        self._looked_at_s = clock()

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong with the bridge itself; empty if nothing is."""
        silent_s = self._clock() - self._looked_at_s
        if silent_s < HUNG_S:
            return self._found
        return (*self._found, f"nobody has looked whether this bridge is stuck for {silent_s:.0f} s")

    async def follow(self) -> None:
        """Look every few seconds."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        try:
            self.stream = await self._fanout.reader.bounds()
            self.archive_state = await self.archive.state()
        except UnreachableError:  # Redis is away: that is no fault of the reader, and told elsewhere
            self.stream = self.archive_state = None
        self.judge(now_s=self._clock())

    def judge(self, *, now_s: float) -> None:
        """Judge by what was seen last.

        Args:
            now_s: a monotonic clock.
        """
        self._looked_at_s = now_s
        fanout, last = self._fanout, START if self.stream is None else self.stream.last
        reader_s = self._reader.stuck_s(fanout.head, is_behind=_is_behind(fanout, last), now_s=now_s)
        rounds_s = self._rounds.stuck_s(fanout.rounds, is_behind=fanout.has_news, now_s=now_s)
        told = [
            f"the reader of the stream has stood still for {reader_s:.0f} s, at {fanout.head.id} of {last}",
            f"no viewer was written to for {rounds_s:.0f} s though there is something to write",
        ]
        reasons = tuple(text for text, stuck_s in zip(told, (reader_s, rounds_s), strict=True) if stuck_s)
        if reasons and not self._found:
            _log.error("this bridge is stuck", reasons=reasons)
        self._found = reasons


def _is_behind(fanout: Fanout, last: EntryId) -> bool:
    return fanout.is_loaded and last > fanout.head.id
