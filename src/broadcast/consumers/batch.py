"""Entries that are stored together: in one transaction, of one epoch, with the checkpoint behind them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from broadcast.consumers.rows import Parked, Row, parts_of, row_of
from broadcast.log.entry import Entry
from broadcast.log.places import SEQ_MAX
from broadcast.log.position import EntryId, Gap, Position

__all__ = ["Batch", "EpochName"]

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
    producers: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Of each producer, the last seq and the time in the id of that event."""
    _first_seq: dict[str, int] = field(default_factory=dict[str, int])
    _rises: bool = True
    """Whether the seqs of each producer do."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries in at the end."""
        self.take(map(row_of, entries))
        if self.rows:
            self.first = self.first or self.rows[0].entry.id
            self.end = _behind(self.rows[-1].entry, self.epoch.name)

    def take(self, rows: Iterable[Row]) -> None:
        """Take rows in at the end."""
        producers = self.producers
        for row in rows:
            self.rows.append(row)
            self.chars += len(row.line or "")
            if row.identity is not None:
                name, seq = row.identity
                if name not in producers:
                    self._first_seq[name] = seq
                elif seq <= producers[name][0]:
                    self._rises = False
                    continue
                producers[name] = (seq, min(row.entry.id.ms, SEQ_MAX))

    def lines(self, epoch: int) -> bytes:
        """Its rows for COPY; the epoch's number stands in front of each."""
        front = f"{epoch}\t"
        lines = [row.line for row in self.rows if row.line is not None]
        return f"{front}{f'{chr(10)}{front}'.join(lines)}\n".encode() if lines else b""

    @property
    def parked(self) -> list[Parked]:
        """The entries that are no rows as they came."""
        return [row.parked for row in self.rows if row.parked is not None]

    def without_repeats(self, last_seq: Mapping[str, int]) -> Batch:
        """The same batch without events that were archived before, under another id.

        Args:
            last_seq: of each of its producers, the last seq that is archived.
        """
        if self._rises and all(seq > last_seq.get(name, -1) for name, seq in self._first_seq.items()):
            return self  # as nearly always
        now = dict(last_seq)
        kept: list[Row] = []
        for row in self.rows:
            if row.identity is not None:
                name, seq = row.identity
                if seq <= now.get(name, -1):
                    continue
                now[name] = seq
            kept.append(row)
        return self._of(kept, self.end, self.gap)

    def _of(self, rows: Iterable[Row], end: Position, gap: Gap | None) -> Batch:
        batch = Batch(self.epoch, end, gap, self.first)
        batch.take(rows)
        return batch

    def parts(self, error: str) -> list[Batch]:
        """What to store instead of this one, which PostgreSQL has refused, each with a checkpoint of its own.

        Args:
            error: what it said.

        Returns:
            See `parts_of`.
        """
        parts = parts_of(self.rows, error)
        ends = [_behind(part[-1].entry, self.epoch.name) for part in parts[:-1]]
        # The gap lies in front of the first of them.
        given = zip(parts, [*ends, self.end], [self.gap, None], strict=False)
        return [self._of(part, end, gap) for part, end, gap in given]

    def counts(self) -> tuple[dict[str, int], dict[tuple[int, int, str], int]]:
        """How many rows of each type, and of each type in a minute and an hour of `ts`: `(span_ms, begin_ms, type)`."""
        minutes = Counter([(row.type, row.ts[:16]) for row in self.rows if row.line is not None])
        types: Counter[str] = Counter()
        spans: Counter[tuple[int, int, str]] = Counter()
        for (event_type, minute), events in minutes.items():
            begin_ms = _ms_of(minute)
            types[event_type] += events
            spans[MINUTE_MS, begin_ms, event_type] += events
            spans[HOUR_MS, begin_ms - begin_ms % HOUR_MS, event_type] += events
        # In the same order whoever writes: two that write the same rows must not wait for each other.
        return dict(sorted(types.items())), dict(sorted(spans.items()))


def _behind(entry: Entry, epoch: str) -> Position:
    return Position(entry.id, entry.n, epoch)


def _ms_of(minute: str) -> int:
    return int(datetime.fromisoformat(f"{minute}+00:00").timestamp()) * 1000
