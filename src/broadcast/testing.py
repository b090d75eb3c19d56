"""What tests of a mind use: `capture()` collects its events instead of sending them.

from broadcast.testing import capture

def test_a_cycle_senses_before_it_decides():
    with capture() as events:
        run_cycle()
    assert events.types == ["cycle.start", "sense.all", "decision", "cycle.end"]
    assert events.of("decision")[0]["data"]["intention"] == "rest"
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import overload

from broadcast.emitter.broadcaster import Broadcaster
from broadcast.event import Event, decode
from broadcast.filters import parse_filter

__all__ = ["Captured", "capture"]

_changing = Lock()


class Captured(Sequence[Event]):
    """The events of one `capture()`, in the order in which they were emitted; it grows while that lasts."""

    def __init__(self) -> None:
        self._payloads: list[bytes] = []

    @property
    def types(self) -> list[str]:
        """The type of each event."""
        return [event["type"] for event in self]

    def of(self, types: str | Iterable[str]) -> list[Event]:
        """The events of some types.

        Args:
            types: a filter, as `"sense.*"` or `["decision", "critic.*"]`.

        Raises:
            FilterError: it is none.
        """
        matches = parse_filter(types).matches
        return [event for event in self if matches(event["type"])]

    def take(self, payload: bytes) -> None:
        """Add an encoded event; any thread may call this."""
        self._payloads.append(payload)

    def __len__(self) -> int:
        return len(self._payloads)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        # Decoded from what would have been sent: a test sees what a viewer would see, not what was handed in.
        if isinstance(index, slice):
            return [decode(payload) for payload in self._payloads[index]]
        return decode(self._payloads[index])

    def __repr__(self) -> str:
        return f"Captured({self.types!r})"


@contextmanager
def capture() -> Generator[Captured]:
    """Collect what any thread of this process emits, through any broadcaster, and send none of it.

    Captures nest: an outer one has what an inner one has, too. They need no Redis and start no thread.

    Yields:
        The events, as a sequence that grows; it can be read during and after the block.
    """
    captured = Captured()
    divert = captured.take
    with _changing:
        Broadcaster.diversions = (*Broadcaster.diversions, divert)
    try:
        yield captured
    finally:
        with _changing:
            Broadcaster.diversions = _without(Broadcaster.diversions, captured)


def _without(
    diversions: tuple[Callable[[bytes], None], ...], captured: Captured
) -> tuple[Callable[[bytes], None], ...]:
    return tuple(each for each in diversions if getattr(each, "__self__", None) is not captured)
