"""An entry of the log as a line of COPY, and what stands in the place of one that PostgreSQL cannot store. Pure.

Rules:
1. Whatever JSON an event holds comes back from the archive as the same JSON: what fits no column goes to `extra`.
2. What PostgreSQL's jsonb and text refuse for certain (U+0000) is found here; what else it may refuse, it says itself.
3. An entry that is no event, or is refused, is parked as it came; a `broadcast.malformed` stands in its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import orjson

from broadcast.event import Event, malformed
from broadcast.log.entry import Entry
from broadcast.log.places import SEQ_MAX, archived_identity
from broadcast.log.position import EntryId

__all__ = ["COLUMNS", "ID_MS_MAX", "Parked", "Row", "parts_of", "replacement_of", "row_of"]

COLUMNS: Final[LiteralString] = "epoch, id_ms, id_seq, by, type, ts, cycle, day, data, extra, n"
"""The columns of a line, in their order; the epoch's number comes in front when it is known."""
ID_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999. An id beyond it names no time that PostgreSQL could put into a partition."""

_PLAIN: Final = frozenset({"type", "ts", "cycle", "day", "data", "id", "by", "n"})
_BIGINT_MIN: Final = -(2**63)
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True, slots=True)
class Parked:
    """An entry as it came, with the reason why it is no row."""

    id: EntryId
    by: str | None
    raw: bytes
    error: str


class Row:
    """What is stored for one entry.

    Args:
        entry: the entry.
        line: its line of COPY, without the epoch's number in front; None for an id that no row can have.
        event_type: the type of the event in that line.
        ts: its `ts`.
        parked: what goes to `parked`; None for an event as it should be.
    """

    __slots__ = ("entry", "identity", "line", "parked", "ts", "type")

    def __init__(self, entry: Entry, line: str | None, event_type: str, ts: str, parked: Parked | None) -> None:
        self.entry = entry
        self.line = line
        self.type = event_type
        self.ts = ts
        self.parked = parked
        self.identity = archived_identity(entry.by)
        """Producer and seq; None for an event that cannot be recognised when it comes again."""


def row_of(entry: Entry) -> Row:
    """The row of an entry, parked where it cannot be one."""
    if entry.is_malformed:
        return replacement_of(entry, str(entry.event["data"]["reason"]))
    event = entry.event
    if entry.id.ms > ID_MS_MAX or entry.id.seq > SEQ_MAX:
        return replacement_of(entry, f"id: {entry.id} lies beyond what a row can be kept under")
    try:
        line = _line(entry.id, entry.by, event, entry.n)
    except (ValueError, TypeError, RecursionError) as error:
        return replacement_of(entry, f"event: cannot be encoded ({error})")
    # Cheaper than to let PostgreSQL find it, which refuses the whole batch.
    if b"\\u0000" in entry.raw and _has_nul(event):
        return replacement_of(entry, "event: holds the character U+0000, which PostgreSQL does not store")
    if entry.by is not None and "\0" in entry.by:
        return replacement_of(entry, "by: holds the character U+0000, which PostgreSQL does not store")
    return Row(entry, line, event["type"], event["ts"], None)


def replacement_of(entry: Entry, reason: str) -> Row:
    """The row that takes an entry's place, and the entry itself for `parked`.

    Args:
        entry: what cannot be stored.
        reason: why.
    """
    reason = reason.replace("\0", "").encode("utf-8", "replace").decode()
    by = None if entry.by is None or "\0" in entry.by else entry.by
    parked = Parked(entry.id, by, entry.raw, reason)
    ts = _ts_of(entry)
    event = malformed(str(entry.id), reason, ts=ts)
    has_place = entry.id.ms <= ID_MS_MAX and entry.id.seq <= SEQ_MAX
    line = _line(entry.id, by, event, entry.n) if has_place else None
    return Row(entry, line, event["type"], ts, parked)


def parts_of(rows: list[Row], error: str) -> list[list[Row]]:
    """What to store in the place of rows that PostgreSQL has refused: halves, down to the one that it refuses.

    Args:
        rows: one at least.
        error: what it said.

    Returns:
        In their order; of a single row what stands in its place, and nothing where nothing is left to be tried.
    """
    if len(rows) > 1:
        middle = len(rows) // 2
        return [rows[:middle], rows[middle:]]
    row = rows[0]
    if row.line is None:
        return []
    instead = replacement_of(row.entry, error)
    if row.parked is not None:  # what stood in its place was refused, too: there is nothing left but to park it
        instead.line = None
    return [[instead]]


def _ts_of(entry: Entry) -> str:
    """The time that the id tells."""
    from broadcast.event import timestamp

    return timestamp(min(entry.id.ms, ID_MS_MAX) * 1_000_000)


def _line(entry_id: EntryId, by: str | None, event: Event, n: int | None) -> str:
    data = _json(event["data"])
    if "\\" in data:
        data = data.replace("\\", "\\\\")
    cycle, day = event["cycle"], event["day"]
    extra = "\\N"
    fits = type(cycle) is type(day) is int and _BIGINT_MIN <= cycle <= SEQ_MAX and _BIGINT_MIN <= day <= SEQ_MAX
    # The five fields and `id`, and those of `by` and `n` that there are: whatever is more is a field of its own.
    if not fits or len(event) != 6 + (by is not None) + (n is not None):
        cycle, day, extra = _apart(event)
    ms, seq = entry_id
    shown_by = "\\N" if by is None else _escaped(by)
    shown_n = "\\N" if n is None else n
    event_type = _escaped(event["type"])
    return f"{ms}\t{seq}\t{shown_by}\t{event_type}\t{event['ts']}\t{cycle}\t{day}\t{data}\t{extra}\t{shown_n}"


def _escaped(text: str) -> str:
    # What COPY reads in its own way is a backslash, or not printable.
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def _apart(event: Event) -> tuple[str, str, str]:
    """The columns `cycle`, `day` and `extra` of an event that is not of the usual shape."""
    extra = {name: value for name, value in event.items() if name not in _PLAIN}
    numbers: list[str] = []
    for name in ("cycle", "day"):
        value: Any = event[name]
        fits = type(value) is int and _BIGINT_MIN <= value <= SEQ_MAX
        numbers.append(str(value) if fits else "\\N")
        if not fits and value is not None:
            extra[name] = value
    return numbers[0], numbers[1], _json(extra).replace("\\", "\\\\") if extra else "\\N"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _has_nul(event: Event) -> bool:
    return _NUL.search(_json(event)) is not None
