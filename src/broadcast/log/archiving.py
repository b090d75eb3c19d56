"""How far the archive is, as its archiver tells it in Redis to those who cannot ask PostgreSQL. Pure.

Hash `{stream}:archive`, written about once a second: what `Archiving` holds. In `{stream}:log`, `archive_maxlen` is the
`maxlen` that an archiver has set (if `maxlen` is another one, a person has set it since), and `archive_trimmed` is how
many entries had been trimmed by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from broadcast.errors import PositionError
from broadcast.log.position import Bounds, EntryId, parse_id

__all__ = [
    "MAXLEN_FIELD",
    "SILENT_S",
    "TRIMMED_FIELD",
    "Archiving",
    "Room",
    "archive_key",
    "count_of",
    "maxlen_of",
    "room",
]

MAXLEN_FIELD: Final = "archive_maxlen"
TRIMMED_FIELD: Final = "archive_trimmed"
SILENT_S: Final = 15.0
"""An archiver that has not written for so long is not at work."""


def archive_key(stream: str) -> str:
    """The key of the hash."""
    return f"{{{stream}}}:archive"


@dataclass(frozen=True, slots=True)
class Archiving:
    """What an archiver last said."""

    holder: str
    """Who said it."""
    at_ms: int
    """When, by its clock."""
    epoch: str
    """The log in which the checkpoint lies."""
    id: EntryId | None
    """The checkpoint; None if nothing was archived yet."""
    n: int | None
    """Its ordinal."""
    rate: float
    """How many events a second came into the log lately."""
    error: str
    """What it waits for; empty while all is well."""

    def as_fields(self) -> dict[str, str]:
        """The fields of the hash."""
        return {
            "holder": self.holder,
            "at_ms": str(self.at_ms),
            "epoch": self.epoch,
            "id": "" if self.id is None else str(self.id),
            "n": "" if self.n is None else str(self.n),
            "rate": f"{self.rate:.3f}",
            "error": self.error,
        }

    @classmethod
    def of_fields(cls, fields: Mapping[Any, Any]) -> Archiving | None:
        """Read the hash; None if there is none, or somebody else's."""
        texts = {_text(name): _text(value) for name, value in fields.items()}
        with suppress(KeyError, ValueError, PositionError):
            return cls(
                holder=texts["holder"],
                at_ms=int(texts["at_ms"]),
                epoch=texts["epoch"],
                id=parse_id(texts["id"]) if texts["id"] else None,
                n=int(texts["n"]) if texts["n"] else None,
                rate=float(texts["rate"]),
                error=texts["error"],
            )
        return None


@dataclass(frozen=True, slots=True)
class Room:
    """What lies between the checkpoint and the stream's two ends."""

    lag_events: int | None
    """How many events are not archived yet; None where it cannot be known."""
    events: int | None
    """How many may still come before the first of those is trimmed; negative if some were; None likewise."""
    s: float | None
    """How long that takes at the present rate; None where nothing comes."""
    is_heard: bool
    """Whether the archiver has been heard of lately."""

    def as_json(self, archiving: Archiving, *, now_ms: int) -> dict[str, Any]:
        """What `/readyz` says of it."""
        return {
            "id": None if archiving.id is None else str(archiving.id),
            "lag_events": self.lag_events,
            "room_events": self.events,
            "room_s": None if self.s is None else round(self.s),
            "heard_s": round(max(0, now_ms - archiving.at_ms) / 1000, 1),
            "error": archiving.error or (None if self.is_heard else "the archiver is not heard of"),
        }


def room(archiving: Archiving, bounds: Bounds, *, maxlen: int, now_ms: int) -> Room:
    """How much room the archiver has.

    Args:
        archiving: what it said.
        bounds: the stream now.
        maxlen: how many entries the stream keeps; it keeps a few more, which are not counted on.
        now_ms: the time, by about the same clock as the archiver's.
    """
    is_heard = now_ms - archiving.at_ms < SILENT_S * 1000
    same_log = archiving.epoch == (bounds.epoch or "")
    if bounds.added is None or archiving.n is None or not same_log:
        return Room(None, None, None, is_heard)
    lag = max(0, bounds.added - archiving.n)
    left = maxlen - lag
    return Room(lag, left, max(0, left) / archiving.rate if archiving.rate > 0 else None, is_heard)


def maxlen_of(log: Mapping[Any, Any], events_max: int) -> int:
    """How many entries the stream keeps, as `append.lua` reads it.

    Args:
        log: the log's hash.
        events_max: what holds where it names none.
    """
    return count_of(log.get("maxlen", log.get(b"maxlen"))) or events_max


def count_of(raw: Any) -> int | None:
    """The whole number that a field holds; None if it holds none."""
    text = "" if raw is None else _text(raw)
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
