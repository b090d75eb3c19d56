"""Reads that are shared: a few at once, and each of them for all who want the same.

A queue that moves is no sign that a tier is away, however long it is; one that does not is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

__all__ = ["SharedReads", "Turns"]

Page = TypeVar("Page")


class Turns:
    """Who reads a tier just now.

    Args:
        at_once: so many read at the same time; others wait for their turn.
    """

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self.moved_s = 0.0
        """When a read began or ended last, by the loop's clock."""

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """A turn, once there is one."""
        clock = asyncio.get_running_loop().time
        async with self._places:
            self.moved_s = clock()
            try:
                yield
            finally:
                self.moved_s = clock()


class SharedReads(Generic[Page]):
    """Answers by what was asked for.

    Args:
        turns: each is read in its turn.
        kept_max: so many answers are kept for who asks a moment later.
    """

    def __init__(self, *, turns: Turns, kept_max: int) -> None:
        self._turns = turns
        self._kept_max = kept_max
        self._reads: OrderedDict[Hashable, asyncio.Task[Page]] = OrderedDict()
        """What is being read, or was lately."""
        self._begun_s: dict[asyncio.Task[Page], float] = {}
        """When those that have their turn got it."""

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Page]], *, patience_s: float | None = None) -> Page:
        """Read once for all who ask for it now, or have asked lately.

        Args:
            key: what is asked.
            read: reads it.
            patience_s: how long the read may take once it has its turn, and how long the queue for a turn may stand
                still, seconds; None for no end.

        Raises:
            TimeoutError: it took longer; for others the read goes on.
        """
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.create_task(self._in_turn(read))
            reading.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._reads) > self._kept_max:
                self._reads.popitem(last=False)
        # One who leaves takes nothing away from the others.
        return await asyncio.shield(reading) if patience_s is None else await self._patiently(reading, patience_s)

    async def _patiently(self, reading: asyncio.Task[Page], patience_s: float) -> Page:
        clock = asyncio.get_running_loop().time
        asked_s = clock()
        while not reading.done():
            left_s = max(asked_s, self._begun_s.get(reading, self._turns.moved_s)) + patience_s - clock()
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait({reading}, timeout=left_s)
        return reading.result()

    def drop(self, key: Hashable) -> None:
        """The answer is of this moment only."""
        self._reads.pop(key, None)

    def clear(self) -> None:
        """What was read may be so no more."""
        self._reads.clear()

    async def _in_turn(self, read: Callable[[], Awaitable[Page]]) -> Page:
        reading = asyncio.current_task()
        assert reading is not None
        async with self._turns.one():
            self._begun_s[reading] = self._turns.moved_s
            try:
                return await read()
            finally:
                del self._begun_s[reading]

    def _forget_failed(self, key: Hashable, done: asyncio.Task[Page]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._reads.get(key) is done:
            del self._reads[key]
