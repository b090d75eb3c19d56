"""A log in memory, with the operations of a real one, and an event loop whose time is the test's.

The twin of `StreamReader` for tests of what stands on it: it answers the same questions from a list.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from broadcast.errors import UnreachableError
from broadcast.log.entry import Entry
from broadcast.log.position import START, Bounds, EntryId, Gap, Position


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

    def append(self, event_type: str, i: int, by: str) -> Entry:
        """Add one event, in its place."""
        self._ms += 1
        self.added += 1
        self.last = EntryId(self._ms, 0)
        event: dict[str, Any] = {"type": event_type, "ts": f"{i:09}", "cycle": 0, "day": 0, "data": {"i": i}}
        event |= {"id": str(self.last), "by": by, "n": self.added}
        entry = Entry(self.last, event, by, self.added)
        self.entries.append(entry)
        return entry

    def trim(self, keep: int) -> None:
        """Forget all but the newest."""
        if len(self.entries) > keep:
            del self.entries[: len(self.entries) - keep]

    def rewind(self, lost: int) -> list[Entry]:
        """Lose the newest, as a Redis does that comes back without its last second; they are returned."""
        gone = self.entries[len(self.entries) - lost :] if lost else []
        del self.entries[len(self.entries) - len(gone) :]
        self.added -= len(gone)
        self.last = self.entries[-1].id if self.entries else START
        self.parent, self.forked_at = self.epoch, self.last
        self.epoch = f"epoch-{self._ms}"
        self._ms += 1_000
        return gone

    def reset(self) -> None:
        """Begin another log."""
        self._ms += 1_000
        self.entries.clear()
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
