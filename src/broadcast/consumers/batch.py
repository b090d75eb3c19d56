"""Entries that are stored together: in one transaction, of one epoch, with the checkpoint behind them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from broadcast.consumers.rows import SEQ_MAX, Parked, Row, replacement_of, row_of
from broadcast.log.entry import Entry
from broadcast.log.position import EntryId, Gap, Position

__all__ = ["Batch", "EpochName", "identity"]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class EpochName:
    """What the log says of itself."""

    name: str
    """Empty for a log that has no name and cannot be given one."""
    parent: str | None = None
    forked_at: EntryId | None = None


@dataclass(slots=True)
class Batch:
    """What is stored in one transaction."""

    epoch: EpochName
    """The log that its rows are of."""
    end: Position
    """The checkpoint behind it."""
    gap: Gap | None = None
    """What was missing before its first row."""
    first: EntryId | None = None
    """The place from which on the archive has this log, should it meet it now; None where there is none yet."""
    rows: list[Row] = field(default_factory=list[Row])
    chars: int = 0
    """Of its lines together."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries in at the end."""
        for entry in entries:
            row = row_of(entry)
            self.rows.append(row)
            self.chars += len(row.line or "")
        if self.rows:
            self.first = self.first or self.rows[0].entry.id
            self.end = _behind(self.rows[-1].entry, self.epoch.name)

    def lines(self, epoch: int) -> bytes:
        """Its rows for COPY; the epoch's number stands in front of each."""
        front = f"{epoch}\t"
        lines = [row.line for row in self.rows if row.line is not None]
        return f"{front}{f'{chr(10)}{front}'.join(lines)}\n".encode() if lines else b""

    @property
    def parked(self) -> list[Parked]:
        """The entries that are no rows as they came."""
        return [row.parked for row in self.rows if row.parked is not None]

    def producers(self) -> dict[str, tuple[int, int]]:
        """Of each producer, the last seq and the time in the id of that event."""
        last: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            known = identity(row.entry.by)
            if known is not None:
                last[known[0]] = (known[1], row.entry.id.ms)
        return last

    def without_repeats(self, last_seq: Mapping[str, int]) -> Batch:
        """The same batch without events that were archived before, under another id.

        Args:
            last_seq: of each of its producers, the last seq that is archived.
        """
        now = dict(last_seq)
        kept: list[Row] = []
        for row in self.rows:
            known = identity(row.entry.by)
            if known is not None:
                name, seq = known
                if seq <= now.get(name, -1):
                    continue
                now[name] = seq
            kept.append(row)
        return self if len(kept) == len(self.rows) else replace(self, rows=kept)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches that are the same as this one, each with a checkpoint of its own."""
        middle = len(self.rows) // 2
        front, back = self.rows[:middle], self.rows[middle:]
        end = _behind(front[-1].entry, self.epoch.name)
        return replace(self, rows=front, end=end), replace(self, rows=back, gap=None)

    def parked_for(self, error: str, *, with_row: bool) -> Batch:
        """The batch of a single entry that PostgreSQL has refused.

        Args:
            error: what it said.
            with_row: whether a `broadcast.malformed` takes its place; else it is only parked.
        """
        row = replacement_of(self.rows[0].entry, error)
        if not with_row:
            row.line = None
        return replace(self, rows=[row])

    def types(self) -> Counter[str]:
        """How many rows of each type."""
        return Counter(row.type for row in self.rows if row.line is not None)

    def counts(self) -> dict[tuple[int, int, str], int]:
        """How many rows of a type in each minute and each hour of `ts`: `(span_ms, begin_ms, type)`."""
        minutes = Counter((row.ts[:16], row.type) for row in self.rows if row.line is not None)
        found: Counter[tuple[int, int, str]] = Counter()
        for (minute, event_type), events in minutes.items():
            begin_ms = _ms_of(minute)
            found[MINUTE_MS, begin_ms, event_type] += events
            found[HOUR_MS, begin_ms - begin_ms % HOUR_MS, event_type] += events
        return dict(sorted(found.items()))


def identity(by: str | None) -> tuple[str, int] | None:
    """Producer and seq; None for an event that cannot be recognised when it comes again."""
    if by is None:
        return None
    producer, _, digits = by.rpartition(":")
    # A foreign producer may write anything; as `position.Seen`, and no seq that its column cannot hold.
    if not producer or len(digits) > 19 or not (digits.isascii() and digits.isdigit()) or "\0" in producer:
        return None
    seq = int(digits)
    return (producer, seq) if seq <= SEQ_MAX else None


def _behind(entry: Entry, epoch: str) -> Position:
    # An id that no bigint holds: the ordinal would be another entry's.
    fits = max(entry.id) <= SEQ_MAX
    place = EntryId(min(entry.id.ms, SEQ_MAX), min(entry.id.seq, SEQ_MAX))
    return Position(place, entry.n if fits else None, epoch)


def _ms_of(minute: str) -> int:
    return int(datetime.fromisoformat(f"{minute}+00:00").timestamp()) * 1000
