"""Reads that are shared: a few at once, and each of them for all who want the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["SharedReads"]

Page = TypeVar("Page")


class SharedReads(Generic[Page]):
    """Answers by what was asked for.

    Args:
        at_once: so many are read at the same time; others wait for their turn.
        kept_max: so many answers are kept for who asks a moment later.
    """

    def __init__(self, *, at_once: int, kept_max: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._kept_max = kept_max
        self._reads: OrderedDict[Hashable, asyncio.Task[Page]] = OrderedDict()
        """What is being read, or was lately."""

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Page]]) -> Page:
        """Read once for all who ask for it now, or have asked lately."""
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.create_task(self._in_turn(read))
            reading.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._reads) > self._kept_max:
                self._reads.popitem(last=False)
        # One who leaves takes nothing away from the others.
        return await asyncio.shield(reading)

    def drop(self, key: Hashable) -> None:
        """The answer is of this moment only."""
        self._reads.pop(key, None)

    def clear(self) -> None:
        """What was read may be so no more."""
        self._reads.clear()

    async def _in_turn(self, read: Callable[[], Awaitable[Page]]) -> Page:
        async with self._turn:
            return await read()

    def _forget_failed(self, key: Hashable, done: asyncio.Task[Page]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._reads.get(key) is done:
            del self._reads[key]
