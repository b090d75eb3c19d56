"""From the stream to the viewers: one reader fills the ring, and rounds write what is new to all who are live.

Rules:
1. A viewer is *live* once it has had everything: then it is a member of its audience, without a task of its own. What
   waits for it is only that its index in the ring is behind the ring's end.
2. A round visits every live member once, in slices of at most `SLICE_S`, and yields between them. Each slice writes up
   to what is newest when it begins.
3. Whoever cannot be served like that (it is full, it asks something, the ring has moved past it) leaves its audience
   and is served by its own task until it has had everything again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from broadcast.bridge.allowed import earliest_of
from broadcast.bridge.audience import Audience, Member
from broadcast.bridge.beat import Beat
from broadcast.bridge.grant import Grant
from broadcast.bridge.history import History
from broadcast.bridge.outage import Outage
from broadcast.bridge.past import Past
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.bridge.wire import Form
from broadcast.errors import UnreachableError
from broadcast.filters import Filter
from broadcast.log.entry import Entry, numbered
from broadcast.log.erasure import ERASED, Erasure
from broadcast.log.position import START, Bounds, EntryId, Gap, Position, Seen
from broadcast.log.stream import LinkUp, StreamReader, TailItem

if TYPE_CHECKING:
    from broadcast.bridge.timed import TimedReplay
    from broadcast.bridge.viewer import Viewer
    from broadcast.log.archive import Archive

__all__ = ["Fanout"]

LOAD_PAGE_EVENTS: Final = 500
RETRY_S: Final = 0.5
SLICE_S: Final = 0.005
CHUNK_MEMBERS: Final = 32
"""So many are written to between two looks at the clock."""
LOOK_INTERVAL_S: Final = 1.0
TELL_PLACE_LOOKS: Final = 5
"""With every so many looks, who sees nothing of what passes is told where it stands."""


class Fanout:
    """The log as this bridge has it, and everybody who gets it.

    Args:
        reader: reads the stream; only `follow` uses its tail.
        ring: the newest events.
        waiting_bytes_max: above this, all viewers together, nobody gets more while anything waits for it.
        archive: what lies behind the stream; None where there is none.
    """

    def __init__(
        self,
        reader: StreamReader,
        ring: Ring,
        *,
        waiting_bytes_max: int = 256 * 1024 * 1024,
        archive: Archive | None = None,
    ) -> None:
        self.reader = reader
        self.ring = ring
        self.archive = archive
        self.history = History(ring, reader, None if archive is None else _past(archive, reader.stream))
        self.head = Position(START)
        """The newest event in the ring."""
        self.is_up = False
        """Whether the log can be read at the moment."""
        self.down_reason = "no contact with Redis yet"
        self.outage = Outage("the log cannot be read just now")
        """For viewers who ask for what cannot be read."""
        self.loaded = asyncio.Event()
        """Set once the ring holds what the stream holds."""
        self.viewers: set[Viewer] = set()
        self.timed_replays: set[TimedReplay] = set()
        """Those of all viewers."""
        self.waiting_bytes_max = waiting_bytes_max
        self.is_crowded = False
        """Whether more than that waits: then nobody gets more while anything waits for it."""
        self.beat = Beat()
        self.rounds = 0
        self.sent_bytes = 0
        """Bytes written to viewers, but for answers and heartbeats."""
        self.malformed = 0
        self.repeated = 0
        self.gaps: Counter[str] = Counter()
        """Gaps of the log, by reason."""
        self.on_taken: Callable[[list[Entry]], None] = lambda _: None
        """Told of events that have just come from the stream; not of those that it has had."""
        self.erased = 0
        self.on_fault: Callable[[Exception], None] = lambda _: None
        """Told of what should never happen."""
        self._bounds = Bounds(None, START, None, 0, None)
        self._seen = Seen()
        """What this bridge has had."""
        self._seen_here = Seen()
        """What it has had of the log as it is, since Redis last lost something of it."""
        self._news = asyncio.Event()
        self._audiences: WeakValueDictionary[tuple[Filter, Filter, Form, int], Audience] = WeakValueDictionary()

    @property
    def is_loaded(self) -> bool:
        """Whether the ring holds what the stream holds."""
        return self.loaded.is_set()

    @property
    def has_news(self) -> bool:
        """Whether a round is due."""
        return self._news.is_set()

    @staticmethod
    def now_ns() -> int:
        """The wall clock."""
        return time.time_ns()

    # --- from the stream

    async def follow(self) -> None:
        """Load the ring and follow the stream, for ever."""
        while not self.loaded.is_set():
            try:
                await self._load()
            except UnreachableError as error:
                self.lost(str(error))
                await asyncio.sleep(RETRY_S)
        async with aclosing(self.reader.tail(self.head)) as items:
            async for item in items:
                self.take_in(item)

    async def _load(self) -> None:
        page, bounds = await self.reader.newest(LOAD_PAGE_EVENTS)
        pages = [page]
        loaded, size = len(page), _size(page)
        while len(page) == LOAD_PAGE_EVENTS and loaded < self.ring.events_max and size < self.ring.bytes_max:
            first = page[0]
            page = await self.reader.older(first.id, count=LOAD_PAGE_EVENTS)
            page = numbered(page, None if first.n is None else first.n - len(page))
            pages.append(page)
            loaded, size = loaded + len(page), size + _size(page)
        self.history.was_loaded_whole = len(page) < LOAD_PAGE_EVENTS
        for page in reversed(pages):
            self._append(page)
        # Not what the pages end with: entries that were trimmed before we came count, too.
        self.head = bounds.end
        self._bounds = bounds
        self.is_up = True
        self.loaded.set()
        self._news.set()

    def take_in(self, item: TailItem) -> None:
        """Take in what the stream's reader has found."""
        self._news.set()
        if isinstance(item, list):
            if new := self._append(item):
                self.on_taken(new)
        elif isinstance(item, Gap):
            self.gaps[item.reason] += 1
            self.history.forget()
            if item.reason != "trimmed":
                self._seen_here = Seen()
            if item.reason == "reset":
                self.ring.clear()
                self._seen = Seen()
            elif item.reason == "trimmed":
                n = None if self.head.n is None or item.lost is None else self.head.n + item.lost
                self.head = replace(self.head, n=n)
            self.ring.append_gap(item, self.head)
        elif isinstance(item, LinkUp):
            self.is_up = True
            self._bounds = item.bounds
            self.head = item.position
        else:
            self.lost(item.error)

    def lost(self, reason: str) -> None:
        """The log cannot be read at the moment."""
        self.is_up = False
        self.down_reason = reason
        self._news.set()

    def _append(self, entries: list[Entry]) -> list[Entry]:
        """Put them into the ring; what of them is new."""
        kept: list[Entry] = []
        again: set[EntryId] = set()
        for entry in entries:
            is_new, is_new_here = self._seen.is_new(entry.by), self._seen_here.is_new(entry.by)
            if not is_new:
                self.repeated += 1
                if not (is_new_here and self.ring.epoch_start):
                    continue
                again.add(entry.id)
            kept.append(entry)
            self.malformed += entry.is_malformed
        self.ring.append(kept, again)
        for entry in kept:
            if entry.event["type"] == ERASED:
                self._erase(entry)
        if entries:
            last = entries[-1]
            self.head = Position(last.id, last.n, self.head.epoch or self._bounds.epoch)
        return [entry for entry in kept if entry.id not in again] if again else kept

    def _erase(self, entry: Entry) -> None:
        """Forget what the log says was erased; not what came after the question."""
        erasure = Erasure.from_data(entry.event["data"])
        if erasure is None:
            return
        covers = replace(erasure, until=erasure.until or entry.id).covers
        self.erased += self.ring.erase(covers)
        self.history.erase(covers)

    # --- to the viewers

    def audience(self, wanted: Filter, granted: Filter, form: Form, since: int) -> Audience:
        """The audience of everybody with the same filter, grant and form, who came since the same beginning."""
        key = (wanted, granted, form, since)
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(self.ring, wanted, granted, form, since)
        return audience

    async def deliver(self) -> None:
        """Write to the live whatever is new, round after round, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            if (wait_s := self.beat.wait_s(loop.time())) > 0:
                await asyncio.sleep(wait_s)
            self._news.clear()
            self.beat.start(loop.time())
            await self._in_slices(self._round())
            self.beat.end(loop.time())
            self.rounds += 1

    async def look_after(self) -> None:
        """Once a second, look after what no event brings about: ends of grants, untold places, what waits for all."""
        for turn in count(1):
            await asyncio.sleep(LOOK_INTERVAL_S)
            await self._in_slices(self._look(tells_place=turn % TELL_PLACE_LOOKS == 0))

    def _look(self, *, tells_place: bool) -> Iterator[None]:
        waiting = 0
        for viewer in tuple(self.viewers):
            waiting += viewer.connection.waiting_bytes
            viewer.look(tells_place=tells_place)
            yield
        self.is_crowded = waiting > self.waiting_bytes_max

    async def _in_slices(self, steps: Iterator[None]) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SLICE_S
        for _ in steps:
            if loop.time() >= until_s:
                await asyncio.sleep(0)
                until_s = loop.time() + SLICE_S

    def _round(self) -> Iterator[None]:
        for audience in tuple(self._audiences.values()):
            members = tuple(audience.members)
            for first in range(0, len(members), CHUNK_MEMBERS):
                self._write_to(audience, members[first : first + CHUNK_MEMBERS])
                yield

    def _write_to(self, audience: Audience, members: tuple[Member, ...]) -> None:
        ring, is_up, epoch = self.ring, self.is_up, self.head.epoch
        start, end, sent_bytes = ring.start, ring.end, 0
        for member in members:
            at = member.at
            if member.live_in is not audience:
                continue
            if at < start or self.is_crowded or member.told_up is not is_up:
                member.rouse()
                continue
            if at >= end:
                continue
            stretch = audience.stretch(at, epoch)
            member.at = stretch.end
            member.place = stretch.place
            if stretch.data:
                member.told = stretch.told or member.told
                member.sent += stretch.sent
                member.gaps += stretch.gaps
                sent_bytes += len(stretch.data)
                try:
                    member.write(stretch.data)
                except Exception as error:  # noqa: BLE001 - whatever it was, it ends this viewer alone
                    member.failed(error)
            if stretch.end < end:
                self._news.set()  # there was more than is written at once
        self.sent_bytes += sent_bytes

    # --- the past

    def ring_bounds(self) -> Bounds:
        """The ring as if it were the whole stream, as far as it is whole: decides whether it can serve a position."""
        return self._bounds_from(self.ring.first_event())

    def held_bounds(self) -> Bounds:
        """The same of all that it holds: for who was here before something was missing, and is told of it there."""
        return self._bounds_from(self.ring.first_held())

    def _bounds_from(self, first: RingEvent | None) -> Bounds:
        head = self.head
        if first is None:
            return replace(self._bounds, first=None, last=head.id, added=head.n, length=0, epoch=head.epoch)
        length = head.n - first.n + 1 if head.n is not None and first.n is not None else len(self.ring)
        return replace(self._bounds, first=first.id, last=head.id, added=head.n, length=length, epoch=head.epoch)

    def earliest(self, grant: Grant) -> EntryId:
        """The smallest id of the past that a grant lets be given now; whoever reads the past asks here."""
        is_whole = self.history.is_all_there_is
        return earliest_of(grant, self.ring, now_ns=self.now_ns(), is_ring_whole=is_whole)

    def is_longer(self, bounds: Bounds) -> bool:
        """Whether the stream reaches further back than the ring; a foreign trimmer may have cut it shorter."""
        first = self.ring.first_event()
        return first is None or (bounds.first is not None and bounds.first < first.id)

    def ring_reaches(self, position: Position) -> bool:
        """Whether everything behind this position is in the ring."""
        first = self.ring.first_kept()
        if self.history.is_ring_whole or self.ring.first_event() is None:
            return True
        if first is None:  # all that it holds the log has lost: the stream has what was before that
            return position.id >= self.head.id
        return position.id >= first.id.before() or (position.n is not None and position.n + 1 == first.n)

    def may_be_archived(self, position: Position, oldest: EntryId | None) -> bool:
        """Whether there is an archive, and it may have something behind a position that the other tiers do not have.

        Args:
            position: where a reader stands; one that does not count by `n` may stand in a log that was before this one.
            oldest: what the other tiers begin with; None for nothing.
        """
        if self.history.past is None:
            return False
        return position.n is None and (oldest is None or position.id < oldest)


def _past(archive: Archive, stream: str) -> Past:
    # Here, since it imports psycopg, which only those have who read an archive.
    from broadcast.log.seam import Seam

    return Past(Seam(archive, stream))


def _size(page: list[Entry]) -> int:
    # What an event takes in the ring, near enough to stop loading in time.
    return sum(len(str(entry.event)) for entry in page)
