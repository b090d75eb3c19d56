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
        kept_bytes_max: so much of them, whichever is reached first.
        size: how large an answer is, bytes; None where they are small.
    """

    def __init__(
        self,
        *,
        turns: Turns,
        kept_max: int,
        kept_bytes_max: int = 32 * 1024 * 1024,
        size: Callable[[Page], int] | None = None,
    ) -> None:
        self._turns = turns
        self._kept_max = kept_max
        self._kept_bytes_max = kept_bytes_max
        self._size = size
        self._sizes: dict[Hashable, int] = {}
        self._reads: OrderedDict[Hashable, asyncio.Task[Page]] = OrderedDict()
        """What is being read, or was lately."""
        self._cleared = 0
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
        while True:
            cleared = self._cleared
            reading = self._reads.get(key)
            if reading is None:
                reading = self._reads[key] = asyncio.create_task(self._in_turn(read))
                reading.add_done_callback(lambda done: self._keep(key, done))
                self._make_room()
            # One who leaves takes nothing away from the others.
            waiting = asyncio.shield(reading) if patience_s is None else self._patiently(reading, patience_s)
            answer = await waiting
            if self._cleared == cleared:
                return answer

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
        self._sizes.pop(key, None)

    def clear(self) -> None:
        """What was read may be so no more, and what is being read is read once more."""
        self._cleared += 1
        self._reads.clear()
        self._sizes.clear()

    async def _in_turn(self, read: Callable[[], Awaitable[Page]]) -> Page:
        reading = asyncio.current_task()
        assert reading is not None
        async with self._turns.one():
            self._begun_s[reading] = self._turns.moved_s
            try:
                return await read()
            finally:
                del self._begun_s[reading]

    def _keep(self, key: Hashable, done: asyncio.Task[Page]) -> None:
        has_failed = done.cancelled() or done.exception() is not None
        if self._reads.get(key) is not done:
            return
        if has_failed:
            del self._reads[key]
        elif self._size is not None:
            self._sizes[key] = self._size(done.result())
            self._make_room()

    def _make_room(self) -> None:
        while len(self._reads) > self._kept_max or (len(self._reads) > 1 and self._bytes > self._kept_bytes_max):
            self.drop(next(iter(self._reads)))

    @property
    def _bytes(self) -> int:
        return sum(self._sizes.values())
