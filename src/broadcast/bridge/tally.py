"""Events counted by time and type. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from broadcast.event import timestamp

__all__ = ["Tally"]

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
SECONDS_MAX: Final = 50_000
"""So many seconds and types are told apart; where there are more, only minutes."""


class Tally:
    """Events by second and type, by minute where that would be too much to hold."""

    def __init__(self) -> None:
        self.unit_ms = SECOND_MS
        """How finely times are told apart."""
        self.span: tuple[int, int] | None = None
        """The earliest and the latest time, milliseconds since 1970; None while there is nothing."""
        self._events: Counter[tuple[int, str]] = Counter()

    def add(self, ts_ms: int, event_type: str, events: int = 1) -> None:
        """Count some more."""
        self._events[ts_ms - ts_ms % self.unit_ms, event_type] += events
        first_ms, last_ms = self.span or (ts_ms, ts_ms)
        self.span = min(first_ms, ts_ms), max(last_ms, ts_ms)
        if len(self._events) > SECONDS_MAX and self.unit_ms < MINUTE_MS:
            self._widen(MINUTE_MS)

    def cut(self, first_ms: int, last_ms: int, *, width_ms: int) -> None:
        """Keep what lies between two times, the second exclusive, in buckets of a width.

        Args:
            first_ms: a multiple of the width, as is `last_ms`.
            last_ms: milliseconds since 1970.
            width_ms: a multiple of `unit_ms`.
        """
        kept = {key: events for key, events in self._events.items() if first_ms <= key[0] < last_ms}
        self._events = Counter(kept)
        self._widen(width_ms)

    def _widen(self, width_ms: int) -> None:
        wide: Counter[tuple[int, str]] = Counter()
        for (begin_ms, event_type), events in self._events.items():
            wide[begin_ms - begin_ms % width_ms, event_type] += events
        self._events, self.unit_ms = wide, width_ms

    def of_types(self) -> Counter[str]:
        """How many there are of each type."""
        counted: Counter[str] = Counter()
        for (_, event_type), events in self._events.items():
            counted[event_type] += events
        return counted

    def buckets(self) -> list[dict[str, Any]]:
        """As they are told, in the order of time; empty ones are left out."""
        types: dict[int, dict[str, int]] = {}
        for (begin_ms, event_type), events in sorted(self._events.items()):
            types.setdefault(begin_ms, {})[event_type] = events
        return [
            {"ts": timestamp(begin_ms * 1_000_000), "count": sum(found.values()), "types": found}
            for begin_ms, found in types.items()
        ]
