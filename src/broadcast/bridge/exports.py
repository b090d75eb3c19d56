"""Long ranges as lines of JSON: a slice is on its way to the client while the next one is read.

Rules:
1. A slice is read as fast as the archive gives it, few at a time: nobody holds a connection while a client takes its
   time.
2. An export holds two slices at most. There are so many exports at once; one more waits a while, and is refused.
3. A client that leaves, or takes nothing for too long, ends its export and the query that is under way for it.
4. Nobody has more than its share of them, and an export ends with the token that it was asked for with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from broadcast.bridge.held import Covers
from broadcast.bridge.history_requests import Question
from broadcast.bridge.past_events import Lines, Matches
from broadcast.bridge.quotas import Places
from broadcast.bridge.tiers import Tiers
from broadcast.errors import RequestError

__all__ = ["Export", "Exports"]

SLICE_EVENTS: Final = 16_384
SLICE_BYTES: Final = 6 * 1024 * 1024
"""Of large events, a slice holds fewer."""
READS_AT_ONCE: Final = 2
EXPORTS_MAX: Final = 8
PER_HOLDER_MAX: Final = 2
"""Of one token, or of one address that has none."""
TURN_TIMEOUT_S: Final = 5.0


class Exports:
    """All exports of this bridge.

    Args:
        tiers: where to read.
    """

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self.held = tiers.fanout.history.held
        """What is in its exports' hands, too."""
        self._turn = asyncio.Semaphore(READS_AT_ONCE)
        self._places = asyncio.Semaphore(EXPORTS_MAX)
        self._held = Places(PER_HOLDER_MAX)

    async def begin(
        self, question: Question, matches: Matches, *, holder: str, refuse_ended: Callable[[], None] = lambda: None
    ) -> Export:
        """Begin an export; its first slice has been read, so what can go wrong with the question has.

        Args:
            question: the range.
            matches: whether an event of a type is wanted, and may be seen.
            holder: whose it is: a token or an address.
            refuse_ended: raises a `RequestError` once what allows it has ended.

        Raises:
            RequestError: it cannot be answered, or there are too many exports.
            UnreachableError: a tier that is needed does not answer.
        """
        if not self._held.enter(holder):
            self._held.leave(holder)
            raise RequestError(
                "too_many_requests",
                f"{PER_HOLDER_MAX} long ranges of yours are being read; come back when one has ended",
            )
        try:
            return await self._begin(question, matches, holder, refuse_ended)
        except BaseException:
            self._held.leave(holder)
            raise

    async def _begin(
        self, question: Question, matches: Matches, holder: str, refuse_ended: Callable[[], None]
    ) -> Export:
        try:
            await asyncio.wait_for(self._places.acquire(), TURN_TIMEOUT_S)
        except TimeoutError:
            raise RequestError(
                "too_many_requests", f"{EXPORTS_MAX} long ranges are being read; come back when one has ended"
            ) from None
        export = Export(self, question, matches, holder=holder, refuse_ended=refuse_ended)
        try:
            await export.open()
        except BaseException:
            self._places.release()
            raise
        return export

    def leave(self, holder: str) -> None:
        """An export has ended."""
        self._places.release()
        self._held.leave(holder)

    async def settled(self, question: Question) -> Question:
        """The same question, with where the cycles begin that it names, in its turn."""
        async with self._turn:
            return await self._tiers.settled(question)

    async def read(self, question: Question, matches: Matches, *, count: int) -> Lines:
        """Read one slice, in its turn."""
        async with self._turn:
            while True:
                before = self.held.erasures
                lines = await self._tiers.lines(question, matches, count=count)
                if self.held.erasures == before:  # else it may have been read before it was erased
                    return lines


class Export:
    """One range on its way to one client; `aclose` it, whatever happens.

    Args:
        exports: all of them.
        question: the range.
        matches: whether an event of a type is wanted, and may be seen.
        holder: whose it is.
        refuse_ended: see `Exports.begin`.
    """

    def __init__(
        self,
        exports: Exports,
        question: Question,
        matches: Matches,
        *,
        holder: str,
        refuse_ended: Callable[[], None],
    ) -> None:
        self._exports = exports
        self._holder = holder
        self._refuse_ended = refuse_ended
        self._question = question
        self._matches = matches
        self._left = question.limit
        self._slice_events = SLICE_EVENTS
        self._lines = Lines()
        """What is given now, or next."""
        self._reading: asyncio.Task[Lines] | None = None
        self._is_open = True
        exports.held.take([self])

    async def open(self) -> None:
        """Read the first slice."""
        self._question = await self._exports.settled(self._question)
        self._lines = await self._read()

    def erase(self, covers: Covers) -> None:
        """Blank what is covered in the slices that are on their way; what is being read is read once more."""
        slices = [self._lines]
        if self._reading is not None and _is_read(self._reading):
            slices.append(self._reading.result())
        for lines in slices:
            lines.erase(covers, self._matches)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All of it.

        Raises:
            RequestError: what allows it has ended.
            UnreachableError: a tier that is needed does not answer any more.
        """
        while True:
            lines = self._lines
            is_last = self._goes_on_behind(lines)
            if not is_last:
                self._reading = asyncio.create_task(self._read(), name="read ahead of an export")
            for chunk in lines.chunks:
                self._refuse_ended()
                yield chunk
            if is_last or self._reading is None:
                return
            self._lines = await self._reading

    async def _read(self) -> Lines:
        self._refuse_ended()
        count = self._slice_events if self._left is None else min(self._slice_events, self._left)
        return await self._exports.read(self._question, self._matches, count=count)

    def _goes_on_behind(self, lines: Lines) -> bool:
        """Put the question behind what was read; True if there is no more of it."""
        if self._left is not None:
            self._left -= lines.rows
        if lines.is_last or lines.last is None or self._left == 0:
            return True
        fitting = SLICE_BYTES * lines.rows // max(1, sum(map(len, lines.chunks)))
        self._slice_events = max(1, min(SLICE_EVENTS, fitting))
        self._question = replace(self._question, cursor=lines.last)
        return False

    async def aclose(self) -> None:
        """End it."""
        if not self._is_open:
            return
        self._is_open = False
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._reading
        self._exports.leave(self._holder)


def _is_read(reading: asyncio.Task[Lines]) -> bool:
    return reading.done() and not reading.cancelled() and reading.exception() is None
