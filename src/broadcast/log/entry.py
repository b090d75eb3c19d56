"""One entry of the log, decoded once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from broadcast.errors import EventError
from broadcast.event import Event, decode, delivered, malformed
from broadcast.log.position import EntryId

__all__ = ["IDENTITY_BYTES_MAX", "Entry", "decode_entry", "numbered"]

IDENTITY_BYTES_MAX: Final = 256
"""What is longer is no identity: nobody of ours writes such a one, and an index has to hold it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place."""

    id: EntryId
    event: Event
    """In delivered form; never changed after this."""
    by: str | None
    """Its identity; None for a producer that gives none."""
    n: int | None
    """Its ordinal in the log; None where it is not known."""
    is_malformed: bool = False
    raw: bytes = field(default=b"", repr=False, compare=False)
    """The JSON as its producer wrote it; of an entry without a field `event`, all its fields."""


def decode_entry(raw_id: bytes, fields: dict[bytes, bytes], n: int | None) -> Entry:
    """Decode what Redis returns for one entry; never raises for what a producer wrote.

    Args:
        raw_id: the entry's id.
        fields: its fields; ours are `event` and `by`.
        n: its ordinal, None where it is not known.
    """
    ms, _, seq = raw_id.partition(b"-")
    entry_id = EntryId(int(ms), int(seq))
    by = _identity(fields.get(b"by"))
    payload = fields.get(b"event")
    try:
        if payload is None:
            raise EventError("the entry has no field 'event'")
        event, is_malformed = decode(payload), False
    except EventError as error:
        ts = datetime.fromtimestamp(min(entry_id.ms, 253402300799999) / 1000, UTC)
        event = malformed(str(entry_id), str(error), ts=f"{ts:%Y-%m-%dT%H:%M:%S}.{entry_id.ms % 1000:03d}Z")
        is_malformed = True
    raw = b" ".join(b"%b=%b" % pair for pair in fields.items()) if payload is None else payload
    return Entry(entry_id, delivered(event, entry_id=raw_id.decode(), by=by, n=n), by, n, is_malformed, raw)


def numbered(entries: list[Entry], first_n: int | None) -> list[Entry]:
    """The same entries with consecutive ordinals; None leaves them without."""
    if first_n is None:
        return entries
    return [replace(entry, n=first_n + i, event={**entry.event, "n": first_n + i}) for i, entry in enumerate(entries)]


def _identity(raw: bytes | None) -> str | None:
    if not raw or len(raw) > IDENTITY_BYTES_MAX:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
