"""The log's past over all its tiers: archive, stream and ring, joined where the archive ends.

What the ring alone holds is read there: it needs neither Redis nor PostgreSQL. Everything else is of one `Moment`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.history_requests import Question
from broadcast.bridge.moment import Moment, TrimmedError
from broadcast.bridge.past_events import Lines, Matches, PastEvent, in_ring
from broadcast.errors import UnreachableError
from broadcast.log.places import Place, Range
from broadcast.log.position import EntryId, Position

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["Tiers"]

REWOUND_MS: Final = 600_000
"""So long after Redis has lost a tail, events of it may come again: only the archive knows which it has."""
PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
LOOKS: Final = 3
"""So often one looks again where the stream was trimmed on the way from the archive to it."""
_T = TypeVar("_T")


class Tiers:
    """Reads the past.

    Args:
        fanout: the log as this bridge has it.
        archive: the third tier; None where there is none.
    """

    def __init__(self, fanout: Fanout, archive: Archive | None) -> None:
        self.fanout = fanout
        self.archive = archive

    async def settled(self, question: Question) -> Question:
        """The same question, with where the cycles begin that it names.

        Raises:
            RequestError: there is no such cycle, or it may not be seen.
            UnreachableError: a tier that is needed does not answer.
        """
        if question.since.cycle is None and question.until.cycle is None:
            return question
        return await self.at_one_moment(lambda moment: moment.settled(question))

    async def page(self, question: Question, matches: Matches, *, count: int) -> tuple[list[PastEvent], bool]:
        """The first events of a question's answer, in its order, and whether there are more.

        Args:
            question: which.
            matches: whether an event of a type is wanted, and may be seen.
            count: at most so many, and fewer where these are large.

        Raises:
            RequestError: it cannot be answered.
            UnreachableError: a tier that is needed does not answer.
        """
        found = self._in_ring(question, matches, count + 1)
        if found is not None:
            return _cut(found, count)

        async def read(moment: Moment) -> tuple[list[PastEvent], bool]:
            asked = await moment.range(question)
            return await moment.some(asked, matches, newest_first=question.newest_first, count=count + 1)

        found, is_cut = await self.at_one_moment(read, question)
        events, is_more = _cut(found, count)
        return events, is_more or is_cut

    async def lines(self, question: Question, matches: Matches, *, count: int) -> Lines:
        """The same as lines of JSON; it may be fewer than `count`, and not the last.

        Raises:
            RequestError: it cannot be answered.
            UnreachableError: a tier that is needed does not answer.
        """
        found = self._in_ring(question, matches, count)
        if found is not None:
            lines = Lines(is_last=len(found) < count)
            lines.add(found)
            return lines

        async def read(moment: Moment) -> Lines:
            asked = await moment.range(question)
            return await moment.lines(asked, matches, newest_first=question.newest_first, count=count)

        return await self.at_one_moment(read, question)

    async def at_one_moment(self, read: Callable[[Moment], Awaitable[_T]], question: Question | None = None) -> _T:
        """Read something that is of one moment.

        Args:
            read: reads it.
            question: if the stream holds all of its range, it is read without the archive where that is not to be had.

        Raises:
            UnreachableError: a tier that is needed does not answer.
        """
        try:
            for look in range(LOOKS):
                try:
                    async with self._moment(heeds_trimming=look < LOOKS - 1) as moment:
                        return await read(moment)
                except TrimmedError:
                    continue
        except UnreachableError:
            if question is None or not await self._is_in_stream(question):
                raise
        return await read(Moment(self.fanout))

    @asynccontextmanager
    async def _moment(self, *, heeds_trimming: bool) -> AsyncGenerator[Moment]:
        if self.archive is None:
            yield Moment(self.fanout)
            return
        async with self.archive.snapshot() as connection:
            extent = await self.archive.extent_in(connection, self.fanout.reader.stream)
            yield Moment(self.fanout, connection, extent, heeds_trimming=heeds_trimming)

    def _in_ring(self, question: Question, matches: Matches, count: int) -> list[PastEvent] | None:
        """The answer, if the ring has all of it; else None."""
        fanout, first = self.fanout, self.fanout.ring.first_event()
        if not fanout.is_loaded or first is None or not self._is_of_this_log(question):
            return None
        asked, edge, forked_at = Moment(fanout).plain_range(question), first.id.before(), fanout.ring_bounds().forked_at
        if forked_at is not None and self.archive is not None:
            edge = max(edge, EntryId(forked_at.ms + REWOUND_MS, 0))
        after = _after(asked)
        if after >= edge or (self.archive is None and fanout.ring_reaches(Position(after))):
            return in_ring(fanout, asked, matches, newest_first=question.newest_first, count=count)
        if not question.newest_first:
            return None
        newest = in_ring(fanout, replace(asked, after=Place(1, edge)), matches, newest_first=True, count=count)
        return newest if len(newest) == count else None

    async def _is_in_stream(self, question: Question) -> bool:
        """Whether the stream holds the whole range: nothing of it lies before that, in this log or another one."""
        if self.archive is None or not self.fanout.is_loaded or not self._is_of_this_log(question):
            return False
        bounds = await self.fanout.reader.bounds()
        if bounds.trimmed == 0 and self.archive.logs is not None and self.archive.logs <= {bounds.epoch or ""}:
            return True
        first = bounds.first
        return first is not None and _after(Moment(self.fanout).plain_range(question)) >= first.before()

    def _is_of_this_log(self, question: Question) -> bool:
        """Whether it asks for no cycle, and names no other log than the stream's."""
        places = (question.since.position, question.until.position, question.cursor)
        named = {place.epoch for place in places if place is not None} - {None, self.fanout.head.epoch}
        return not named and question.since.cycle is None and question.until.cycle is None


def _cut(found: list[PastEvent], count: int) -> tuple[list[PastEvent], bool]:
    """The first of them, no more than fit in a page, and whether that leaves some."""
    size = 0
    for at, event in enumerate(found[:count]):
        size += len(event.json)
        if size > PAGE_BYTES_MAX and at:
            return found[:at], True
    return found[:count], len(found) > count


def _after(asked: Range) -> EntryId:
    """The id behind which everything lies that a range may hold."""
    return max(asked.after.id, asked.earliest.before())
