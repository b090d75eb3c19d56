"""A log in memory, with the operations of a real one, and an event loop whose time is the test's.

The twins of `StreamReader` and of `Seam` for tests of what stands on them: they answer the same questions from lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from broadcast.errors import UnreachableError
from broadcast.event import timestamp
from broadcast.log.archive import Archived, Epoch, Extent, Place
from broadcast.log.entry import Entry
from broadcast.log.erasure import BLANK, blank
from broadcast.log.position import START, Bounds, EntryId, Gap, Position, judge
from broadcast.log.seam import ArchiveFront, ArchivePage, _pieces


class VirtualLoop(asyncio.SelectorEventLoop):
    """Nothing is waited for: where every task sleeps, the clock jumps to the first that wakes."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    def pass_time(self, seconds: float) -> None:
        """Let everything happen that happens in so long."""
        self.run_until_complete(asyncio.sleep(seconds))


@dataclass
class MemoryLog:
    """The stream: `entries` is what is left of it."""

    entries: list[Entry] = field(default_factory=list)
    added: int = 0
    last: EntryId = START
    epoch: str = "epoch-0"
    parent: str | None = None
    forked_at: EntryId | None = None
    is_up: bool = True
    reads: int = 0
    """How often it was asked."""
    _ms: int = 1_000
    _ids: list[EntryId] = field(default_factory=list)
    """Of all that was ever added and is not lost, also what was trimmed."""

    def append(self, event_type: str, i: int, by: str, cycle: int = 0) -> Entry:
        """Add one event, in its place."""
        self._ms += 1
        self.added += 1
        self.last = EntryId(self._ms, 0)
        self._ids.append(self.last)
        event: dict[str, Any] = {"type": event_type, "ts": self.ts_of(i), "cycle": cycle, "day": 0, "data": {"i": i}}
        event |= {"id": str(self.last), "by": by, "n": self.added}
        entry = Entry(self.last, event, by, self.added)
        self.entries.append(entry)
        return entry

    @staticmethod
    def ts_of(i: int) -> str:
        """Ten events are a second."""
        return timestamp(1_771_000_000 * 10**9 + i * 10**8)

    def trim(self, keep: int) -> None:
        """Forget all but the newest."""
        if len(self.entries) > keep:
            del self.entries[: len(self.entries) - keep]

    def rewind(self, lost: int) -> list[Entry]:
        """Lose the newest, as a Redis does that comes back without its last second; they are returned."""
        gone = self.entries[len(self.entries) - lost :] if lost else []
        del self.entries[len(self.entries) - len(gone) :]
        self.added -= len(gone)
        del self._ids[self.added :]
        self.last = self._ids[-1] if self._ids else START
        self.parent, self.forked_at = self.epoch, self.last
        self.epoch = f"epoch-{self._ms}"
        self._ms += 1_000
        return gone

    def erase(self, covers: Callable[[EntryId, str, str], bool]) -> None:
        """Put blanks in the place of what is covered."""
        for at, entry in enumerate(self.entries):
            if covers(entry.id, entry.event["type"], entry.event["ts"]):
                self.entries[at] = replace(entry, event={**entry.event, **blank(entry.event["ts"])})

    def reset(self) -> None:
        """Begin another log."""
        self._ms += 1_000
        self.entries.clear()
        self._ids.clear()
        self.added, self.last, self.parent, self.forked_at = 0, START, None, None
        self.epoch = f"epoch-{self._ms}"

    @property
    def now_ms(self) -> int:
        """The clock by which ids are given."""
        return self._ms

    # --- what a StreamReader answers

    def now(self) -> Bounds:
        """The stream as it is."""
        first = self.entries[0].id if self.entries else None
        return Bounds(first, self.last, self.added, len(self.entries), self.epoch, self.parent, self.forked_at)

    async def bounds(self) -> Bounds:
        """As `StreamReader.bounds`."""
        await self._answer()
        return self.now()

    async def newest(self, count: int) -> tuple[list[Entry], Bounds]:
        """As `StreamReader.newest`."""
        await self._answer()
        return self.entries[-count:], self.now()

    async def older(self, before: EntryId, *, count: int) -> list[Entry]:
        """As `StreamReader.older`."""
        await self._answer()
        return [entry for entry in self.entries if entry.id < before][-count:]

    async def range(
        self, after: Position, *, until: EntryId | None = None, count: int
    ) -> tuple[list[Entry], Gap | None]:
        """As `StreamReader.range`."""
        await self._answer()
        found = [e for e in self.entries if e.id > after.id and (until is None or e.id <= until)][:count]
        trimmed = self.added - len(self.entries)
        if not found or found[0] is not self.entries[0]:
            return found, None
        if after.n is None:
            return found, Gap(after.id, found[0].id, None, "trimmed") if trimmed else None
        lost = trimmed - after.n
        return found, Gap(after.id, found[0].id, lost, "trimmed") if lost > 0 else None

    async def _answer(self) -> None:
        self.reads += 1
        await asyncio.sleep(0.001)
        if not self.is_up:
            raise UnreachableError("it is away")


class MemoryArchive:
    """The archive of a `MemoryLog`, and its archiver: the twin of `Seam`."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.rows: list[Archived] = []
        self.gaps: list[tuple[Place, Gap]] = []
        self.epochs: list[Epoch] = []
        self.at: Position | None = None
        self.is_up = True
        self.reads = 0
        self._had: dict[str, int] = {}

    def catch_up(self, count: int = 10**9) -> None:
        """Archive what is in the log now, at most so many events: one transaction of the archiver."""
        bounds = self.log.now()
        start, gap = judge(self.at or Position(START), bounds)
        entries = [entry for entry in self.log.entries if entry.id > start.id][:count]
        if not entries:
            return
        if gap is None and start.n is not None and entries[0].n is not None and entries[0].n > start.n + 1:
            gap = Gap(start.id, entries[0].id, entries[0].n - start.n - 1, "trimmed")
        if not self.epochs or self.epochs[-1].name != bounds.epoch:
            first = start.id.after() if gap is not None and gap.reason == "rewound" else entries[0].id
            number = len(self.epochs) + 1
            self.epochs.append(Epoch(number, bounds.epoch or "", bounds.parent, bounds.forked_at, first))
        number = self.epochs[-1].number
        if gap is not None and gap.reason != "rewound" and self.at is not None:
            self.gaps.append((Place(number, START if gap.reason == "reset" else gap.after), gap))
        for entry in entries:
            name, _, seq = (entry.by or "").rpartition(":")
            if int(seq) > self._had.get(name, 0):
                self._had[name] = int(seq)
                event = entry.event
                place, json = Place(number, entry.id), orjson.dumps(event)
                self.rows.append(Archived(place, entry.n, event["type"], event["ts"], entry.by, json))
        self.at = Position(entries[-1].id, entries[-1].n, bounds.epoch)

    def erase(self, covers: Callable[[EntryId, str, str], bool]) -> None:
        """Put blanks in the place of what is covered."""
        for at, row in enumerate(self.rows):
            if covers(row.place.id, row.type, row.ts):
                json = orjson.dumps({**orjson.loads(row.json), **blank(row.ts)})
                self.rows[at] = replace(row, type=BLANK, json=json)

    # --- what a Seam answers

    async def page(
        self,
        at: Position | Place,
        *,
        count: int,
        until: Position | None = None,
        matches: Callable[[str], bool] | None = None,
        times: tuple[str | None, str | None] = (None, None),
        late_only: bool = False,
    ) -> ArchivePage | None:
        """As `Seam.page`."""
        extent = await self._answer()
        if extent is None:
            return None
        place = at if isinstance(at, Place) else extent.place_of(at)
        if place is None or place >= extent.end:
            return None
        gaps: list[tuple[Place, Gap]] = []
        if isinstance(at, Position):
            while not any(row.place.epoch == place.epoch and row.place <= place for row in self.rows):
                parting = extent.parting(place)
                if parting is None:
                    gaps = self._gap_before(at, place)
                    break
                place = parting
        wanted = None if until is None else extent.place_of(until)
        last = extent.end if wanted is None else min(wanted, extent.end)
        found = [
            row
            for row in self.rows
            if place < row.place <= last
            and (matches is None or matches(row.type))
            and (times[0] or "") <= row.ts <= (times[1] or "9")
        ][:count]
        is_last = len(found) < count
        end = max(place, last) if is_last else found[-1].place
        for where, gap in self.gaps:
            is_behind = where > place if gap.reason == "reset" else where >= place
            if is_behind and where < end:
                gaps.append((where, gap))
            elif (
                gap.reason == "trimmed"
                and where < place
                and place.epoch == where.epoch
                and place.id.after() < (gap.before or START)
            ):
                gaps.append((place, Gap(place.id, gap.before, None, "trimmed")))
        producers = list(self._had.items()) if is_last and last == extent.end else []
        return ArchivePage(extent, _pieces(found, gaps), end, is_last, producers)

    def _gap_before(self, at: Position, place: Place) -> list[tuple[Place, Gap]]:
        first = next((row for row in self.rows if row.place.epoch == place.epoch), None)
        if at.is_moment or (at.id == START and at.n is None):
            return []
        lost = None if first is None or first.n is None or at.n is None else first.n - at.n - 1
        if lost is not None and lost <= 0:
            return []
        return [(place, Gap(place.id, None if first is None else first.place.id, lost, "trimmed"))]

    async def cycle(self, number: int) -> tuple[Position, Position | None] | None:
        """As `Seam.cycle`."""
        await self._answer()
        following: Position | None = None
        for row in reversed(self.rows):
            if row.type == "cycle.start":
                name = self.epochs[row.place.epoch - 1].name
                start = Position(row.place.id.before(), None, name, is_moment=True)
                if orjson.loads(row.json)["cycle"] == number:
                    return start, following
                following = start
        return None

    async def before(self, at: Position, *, count: int, matches: Callable[[str], bool] | None = None) -> ArchiveFront:
        """As `Seam.before`."""
        extent = await self._answer()
        place = None if extent is None else extent.place_of(at)
        if extent is None or place is None:
            return ArchiveFront([], None)
        found = [row for row in self.rows if row.place < place and (matches is None or matches(row.type))]
        rows = found[max(0, len(found) - count) :]
        gaps = [(where, gap) for where, gap in self.gaps if rows and gap.reason == "trimmed"]
        gaps = [(where, gap) for where, gap in gaps if rows[0].place <= where < min(place, extent.end)]
        return ArchiveFront(_pieces(rows, gaps), at if place <= extent.end else extent.position())

    async def extent(self) -> Extent | None:
        """As `Seam.extent`."""
        return await self._answer()

    async def _answer(self) -> Extent | None:
        self.reads += 1
        await asyncio.sleep(0.002)
        if not self.is_up:
            raise UnreachableError("it is away")
        if self.at is None:
            return None
        return Extent(tuple(self.epochs), Place(self.epochs[-1].number, self.at.id), self.at.n)
