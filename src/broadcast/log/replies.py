"""What Redis answers about a stream, read into values. Pure."""

from __future__ import annotations

from typing import Any, cast

from broadcast.log.entry import Entry, decode_entry
from broadcast.log.position import START, Bounds, EntryId, Gap, parse_id

__all__ = ["bounds_of", "entry_of", "placed", "read_rows", "rows_of"]


def placed(rows: list[Any], bounds: Bounds | None, at: EntryId, n: int | None) -> tuple[list[Entry], Gap | None]:
    """Decode and number the entries that were read behind `at`, and tell what was trimmed before them.

    Args:
        rows: what was read.
        bounds: the stream at that same moment; None where the entries follow on `at` without a doubt.
        at: the position before them.
        n: its ordinal, None where it is not known.
    """
    expected = None if n is None else n + 1
    if bounds is None or not rows:
        return _entries(rows, expected), None
    first, last = (parse_id(row[0].decode()) for row in (rows[0], rows[-1]))
    first_n = _first_ordinal(first, last, len(rows), bounds)
    entries = _entries(rows, expected if first_n is None else first_n)
    return entries, _gap_before(first, bounds, at, expected)


def _first_ordinal(first: EntryId, last: EntryId, count: int, bounds: Bounds) -> int | None:
    """The ordinal of the first of some entries, which were read together with the bounds; None if out of reach."""
    if bounds.trimmed is None or bounds.added is None:
        return None
    if first == bounds.first:
        return bounds.trimmed + 1
    return bounds.added - count + 1 if last == bounds.last else None


def _gap_before(first: EntryId, bounds: Bounds, at: EntryId, expected: int | None) -> Gap | None:
    """What was trimmed between `at` and the entry that was read next."""
    if bounds.first is None or bounds.first <= at:
        return None
    if expected is None or bounds.trimmed is None:
        return Gap(at, first, None, "trimmed")
    lost = bounds.trimmed + 1 - expected
    return Gap(at, first, lost, "trimmed") if lost > 0 else None


def _entries(rows: list[Any], first_n: int | None) -> list[Entry]:
    """Numbered as they are decoded: `numbered` would copy each event."""
    if first_n is None:
        return [entry_of(row) for row in rows]
    return [entry_of(row, n) for n, row in enumerate(rows, first_n)]


def rows_of(reply: Any) -> list[Any]:
    """The entries in an answer to XRANGE or XREVRANGE; none where there is no such stream."""
    return [] if isinstance(reply, Exception) else cast("list[Any]", reply or [])


def read_rows(reply: Any) -> list[Any]:
    """The entries in an answer to XREAD of one stream."""
    return reply[0][1] if reply else []


def entry_of(row: Any, n: int | None = None) -> Entry:
    """One entry, decoded; `n` is its ordinal."""
    raw_id, flat = row
    if flat and len(flat) == 4:
        return decode_entry(raw_id, {flat[0]: flat[1], flat[2]: flat[3]}, n)
    return decode_entry(raw_id, dict(zip(flat[::2], flat[1::2], strict=False)) if flat else {}, n)


def bounds_of(info: Any, log: Any) -> Bounds:
    """The stream at one moment, from the answers to XINFO STREAM and HGETALL of the log's hash."""
    facts: dict[str, str | None] = {"epoch": None, "parent": None, "forked_at": None}
    for key, value in dict(log or {}).items():
        name = key.decode() if isinstance(key, bytes) else key
        facts[name] = value.decode() if isinstance(value, bytes) else value
    forked_at = parse_id(facts["forked_at"]) if facts["forked_at"] else None
    if isinstance(info, Exception):
        return Bounds(None, START, 0, 0, facts["epoch"], facts["parent"], forked_at)
    stream = dict(zip(info[::2], info[1::2], strict=True))
    first = stream[b"first-entry"]
    return Bounds(
        first=parse_id(first[0].decode()) if first else None,
        last=parse_id(stream[b"last-generated-id"].decode()),
        added=stream.get(b"entries-added"),
        length=stream[b"length"],
        epoch=facts["epoch"],
        parent=facts["parent"],
        forked_at=forked_at,
    )
