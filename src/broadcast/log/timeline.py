"""The tiers as one: archive, then stream, then what comes, joined by id without gap or duplicate.

Rules:
1. What the stream holds is read from the stream; the archive is asked only for what lies behind that.
2. The last page of the archive is read together with the checkpoint; reading goes on in the stream from there, and
   leaves out each `by` that the archive has.
3. A gap of the stream is believed only once the archive has been asked whether it has what is missing there: it may
   have come so far since it was left.
4. Memory is bounded by a page, whatever the range; and nothing is read ahead of whoever takes it.
5. An archive that does not answer is waited for, since what it holds would be lost to the reader: `LinkDown` says so.
   Where the stream still has all of its log, only another log before that may be missing: that is told as a gap of
   unknown size, and reading goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from broadcast.errors import PositionError, UnreachableError
from broadcast.event import Event, timestamp
from broadcast.filters import parse_filter
from broadcast.log.delivered import Delivered
from broadcast.log.journey import End, Journey
from broadcast.log.position import START, EntryId, Gap, Position, Seen, Since, judge, parse_since
from broadcast.log.stream import LinkDown, LinkUp, StreamReader

if TYPE_CHECKING:
    from broadcast.log.archive import Archive, Place
    from broadcast.log.seam import ArchivePage, Seam

__all__ = ["Timeline", "TimelineItem", "gap_event"]

PAGE_EVENTS: Final = 500
ARCHIVING_S: Final = 1.0
"""So long what the stream has just trimmed may be on its way into the archive."""
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0

TimelineItem = list[Delivered] | Gap | LinkUp | LinkDown


class Timeline:
    """Reads the log, however far back.

    Args:
        reader: reads the stream.
        archive: what lies behind it; None where there is none.
        seen: which events were had before; None for none. With it, it is for one reading, else for any number.
    """

    def __init__(self, reader: StreamReader, archive: Archive | None = None, *, seen: Seen | None = None) -> None:
        self._reader = reader
        self._seam: Seam | None = None
        self._seen = seen
        if archive is not None:
            # Here, since it imports psycopg, which only those have who read an archive.
            from broadcast.log.seam import Seam

            self._seam = Seam(archive, reader.stream)

    async def read(
        self, since: object = None, until: object = None, types: str | Iterable[str] | None = None
    ) -> AsyncGenerator[Event]:
        """Events in delivered form, in the log's order; what is missing is told by an event `broadcast.gap`.

        Args:
            since: exclusive: an id, a time, a duration ago, `{id, n, epoch}`, a `Position`, or a cycle (`cycle:42`,
                the newest of that number, which is included); None for from now on.
            until: inclusive, one of the same; a cycle includes all of it. In the past, it ends the iteration there;
                None for never.
            types: which types; None for all.

        Raises:
            FilterError: `types` holds what is no pattern.
            PositionError: `since` or `until` is no position, or there is no such cycle.
            UnreachableError: a cycle is to be looked for, and cannot be.
        """
        wanted = parse_filter(types)
        begin, end = _asked(since), _asked(until)
        async with aclosing(self.follow(begin, end, matches=None if types is None else wanted.matches)) as items:
            async for item in items:
                if isinstance(item, Gap):
                    yield gap_event(item)
                elif isinstance(item, list):
                    for each in item:
                        yield each.event

    async def follow(
        self, since: Since, until: Since | None = None, *, matches: Callable[[str], bool] | None = None
    ) -> AsyncGenerator[TimelineItem]:
        """The same in lists, each of one epoch, with a `Gap` before what it precedes.

        Args:
            since: where to begin.
            until: where to end; None or without a position for never.
            matches: whether an event of a type is wanted; None for all.

        Yields:
            Lists of events; gaps; `LinkDown` once when a tier is lost, `LinkUp` on every contact with the stream.

        Raises:
            PositionError: there is no such cycle.
            UnreachableError: a cycle is to be looked for, and cannot be.
        """
        begin = since.position if since.cycle is None else (await self._cycle(since.cycle))[0]
        journey = Journey(begin, since.ts, await self._end(until), matches, self._seen or Seen())
        while not journey.is_over:
            if self._seam is not None and await self._lies_behind_the_stream(journey):
                async with aclosing(self._through_the_archive(self._seam, journey)) as items:
                    async for item in items:
                        yield item
            if not journey.is_over:
                async with aclosing(self._through_the_stream(journey)) as items:
                    async for item in items:
                        yield item

    # --- where it begins and ends

    async def end(self) -> Since:
        """Where the log ends as it is now, whatever the clocks say.

        Raises:
            UnreachableError: the stream cannot be read; or it never held anything, and the archive cannot.
        """
        end = (await self._reader.bounds()).end
        extent = await self._seam.extent() if self._seam is not None and end.id == START else None
        return Since(end if extent is None else extent.position())

    async def _end(self, until: Since | None) -> End | None:
        if until is None:
            return None
        if until.cycle is not None:
            following = (await self._cycle(until.cycle))[1]
            return End(following or (await self._reader.bounds()).end, None)
        if until.position is None:
            return None
        return End(None if until.ts is not None else until.position, until.ts)

    async def _cycle(self, number: int) -> tuple[Position, Position | None]:
        """Where the newest cycle of this number begins, and where the next one does; None if there is none yet."""
        following: Position | None = None
        before = EntryId(2**64 - 1, 2**64 - 1)
        while entries := await self._reader.older(before, count=PAGE_EVENTS):
            for entry in reversed(entries):
                if entry.event["type"] == "cycle.start":
                    place = Position(entry.id.before(), is_moment=True)
                    if entry.event.get("cycle") == number:
                        return place, following
                    following = place
            before = entries[0].id
        found = None if self._seam is None else await self._seam.cycle(number)
        if found is None:
            raise PositionError(f"cycle: there is none of the number {number} in what is kept of the log")
        return found[0], found[1] or following

    async def _lies_behind_the_stream(self, journey: Journey) -> bool:
        position, is_known = journey.position, journey.is_archived
        journey.is_archived = False
        if is_known or position is None:
            return is_known
        try:
            bounds = await self._reader.bounds()
        except UnreachableError:
            return True  # the archive may be there
        if _is_no_place(position):
            return bounds.first is None or position.id < bounds.first
        return judge(position, bounds)[1] is not None

    # --- the archive

    async def _through_the_archive(self, seam: Seam, journey: Journey) -> AsyncGenerator[TimelineItem]:
        """Up to the checkpoint, or until it is over."""
        at: Position | Place | None = journey.position
        backoff_s, late_only = 0.0, False
        while at is not None:
            try:
                page = await self._page(seam, at, journey, late_only=late_only)
            except UnreachableError as error:
                if not backoff_s:
                    yield LinkDown(str(error), "the archive")
                if (gap := await self._in_front_of_a_whole_stream(journey.position)) is not None:
                    yield gap
                    return
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2 or BACKOFF_FIRST_S)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
                continue
            backoff_s = 0.0
            if page is None:
                return
            for item in _unrepeated(page, journey.seen):
                yield item
            journey.position = page.position
            # Behind the time that it ends with, there are only those that came late.
            late_only = late_only or page.is_last
            at = _goes_on_at(page, journey)

    async def _in_front_of_a_whole_stream(self, position: Position | None) -> Gap | None:
        """What may be missing of another log, if the stream has all of its own, and a place stands in front of it."""
        if position is None or not _is_no_place(position):
            return None
        try:
            bounds = await self._reader.bounds()
        except UnreachableError:
            return None
        return Gap(position.id, bounds.first, None, "trimmed") if bounds.trimmed == 0 else None

    async def _page(self, seam: Seam, at: Position | Place, journey: Journey, *, late_only: bool) -> ArchivePage | None:
        end = journey.end
        until = None if end is None or late_only else end.archived_until()
        times = (journey.ts, None if end is None else end.ts)
        return await seam.page(
            at, count=PAGE_EVENTS, until=until, matches=journey.matches, times=times, late_only=late_only
        )

    # --- the stream

    async def _through_the_stream(self, journey: Journey) -> AsyncGenerator[TimelineItem]:
        """Until it is over, or until the archive has what the stream lacks."""
        journey.look_at_the_clock(_now_ms())
        async with aclosing(self._reader.tail(journey.position)) as items:
            while not journey.is_over:
                try:
                    async with asyncio.timeout(journey.timeout_s(_now_ms())):
                        item = await anext(items)
                except TimeoutError:
                    return  # its end has come: what there is until then is still read, and no more is waited for
                if isinstance(item, list):
                    wanted = journey.wanted(item)
                    journey.pass_over(item[-1])
                    if wanted:
                        yield wanted
                elif isinstance(item, Gap):
                    journey.is_archived = await self._is_archived(journey.position)
                    if journey.is_archived:
                        return
                    yield item
                    journey.pass_gap()
                else:
                    yield item
                    if isinstance(item, LinkUp):
                        journey.resume(item.position, item.bounds, is_gap_next=item.is_gap_next)

    async def _is_archived(self, position: Position | None) -> bool:
        """Whether the archive has what the stream lacks behind a position, or will have it in a moment."""
        if self._seam is None or position is None:
            return False
        loop = asyncio.get_running_loop()
        until_s = loop.time() + ARCHIVING_S
        while True:
            try:
                if await self._seam.reaches_beyond(position):
                    return True
            except UnreachableError:
                return False
            if loop.time() >= until_s:
                return False
            await asyncio.sleep(BACKOFF_FIRST_S)


def _is_no_place(position: Position) -> bool:
    """Whether it names no event that was had, but a time, or the oldest that there is."""
    return position.is_moment or (position.id == START and position.n is None)


def _unrepeated(page: ArchivePage, seen: Seen) -> Iterator[list[Delivered] | Gap]:
    for piece in page.pieces:
        if isinstance(piece, Gap):
            yield piece
            continue
        name = page.extent.name_of(piece[0].place.epoch)
        if events := [Delivered.of_row(row, name) for row in piece if seen.is_new(row.by)]:
            yield events


def _goes_on_at(page: ArchivePage, journey: Journey) -> Place | None:
    """Where the next page begins; None if there is none."""
    if not page.is_last:
        return page.end
    if page.end < page.extent.end and journey.end is not None:
        journey.is_over = journey.end.ts is None
        return None if journey.is_over else page.end
    for name, seq in page.producers:
        journey.seen.is_new(f"{name}:{seq}")
    return None


def gap_event(gap: Gap) -> Event:
    """What a reader in Python gets in the place of events it cannot be given; it has no id of its own."""
    ts = timestamp(int(datetime.now(UTC).timestamp() * 1_000_000_000))
    return {"type": "broadcast.gap", "ts": ts, "cycle": 0, "day": 0, "data": gap.as_data()}


def _asked(value: object) -> Since:
    if isinstance(value, Since):
        return value
    return Since(value) if isinstance(value, Position) else parse_since(value, now=datetime.now(UTC))


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
