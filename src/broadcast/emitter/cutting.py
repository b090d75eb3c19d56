"""An event of any data, as JSON that is not larger than it may be."""

from __future__ import annotations

from typing import Final

from broadcast.event import Event, encode
from broadcast.sanitize import CUT_KEY, Redactor, sanitize_data

__all__ = ["TYPE_CHARS_MAX", "bounded_size", "cut_to_size"]

TYPE_CHARS_MAX: Final = 256
EVENT_BYTES_MIN: Final = 4096
"""The smallest bound of an event: the longest envelope fits, with the note that its data was cut."""
EVENT_BYTES_MAX: Final = 1_000_000
"""The largest. No server can be set to refuse it (`proto-max-bulk-len` is 1 MiB at the least): none blocks the log."""
ENVELOPE_BYTES: Final = 1024
"""What is set aside of an event's bytes for the fields around its data."""


def bounded_size(event_bytes_max: int) -> int:
    """The bound that holds where a setting asks for this one."""
    return min(max(EVENT_BYTES_MIN, event_bytes_max), EVENT_BYTES_MAX)


def cut_to_size(clean: Event, data: object, *, bytes_max: int, redactor: Redactor | None) -> bytes:
    """Encode an event whose data may be anything.

    Args:
        clean: the event, whose other fields are JSON; its `data` becomes what is told.
        data: what happened.
        bytes_max: how large it may be; see `bounded_size`.
        redactor: what must not be told; None tells all.
    """
    room = bytes_max - ENVELOPE_BYTES
    # First without a bound for a single text. If that is too much, no text may crowd the others out.
    for data_bytes_max, text_chars_max in ((room, room), (room * 3 // 4, room // 4), (room // 8, room // 16)):
        clean["data"] = sanitize_data(data, bytes_max=data_bytes_max, text_chars_max=text_chars_max, redactor=redactor)
        payload = encode(clean)
        cut = clean["data"].get(CUT_KEY)  # a list of ours; or the mind's own, of whatever kind
        crowded = text_chars_max == room and type(cut) is list and ("text" in cut or "items" in cut)
        if len(payload) <= bytes_max and not crowded:
            return payload
    clean["data"] = {CUT_KEY: ["size"]}
    return encode(clean)
