"""All cursors that receive the same bytes: the same filter, the same grant, the same form. Pure.

A *stretch* is what a cursor at one index of the ring gets next. It is made once, and the very same bytes object is
written to every member that stands there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import orjson

from broadcast.bridge.ring import Ring, RingEvent, RingGap
from broadcast.bridge.wire import Form
from broadcast.filters import Filter
from broadcast.log.position import Position

__all__ = ["Audience", "Member", "Stretch"]

STRETCH_BYTES_MAX: Final = 128 * 1024
STRETCH_ITEMS_MAX: Final = 1024
VERDICTS_MAX: Final = 4096
STRETCHES_MAX: Final = 256


class Stretch(NamedTuple):
    """What lies behind one index of the ring, for one audience."""

    end: int
    """The index behind it."""
    data: bytes
    """What is written; empty if nothing of it is wanted."""
    sent: int
    """How many events are in it."""
    gaps: int
    """How many gaps of the log are in it."""
    place: Position
    """Where a cursor stands that has passed it."""
    told: Position | None
    """The place that the viewer itself knows from it; None if it is told none."""


class Member(Protocol):
    """A cursor that has had everything and waits for more."""

    at: int
    place: Position
    told: Position | None
    told_up: bool | None
    sent: int
    gaps: int
    write: Callable[[bytes], None]
    live_in: Audience | None

    def rouse(self) -> None:
        """There is something that a round cannot do for it."""
        ...

    def failed(self, error: Exception) -> None:
        """Writing to it went wrong."""
        ...


class Audience:
    """One set of bytes, and who gets it.

    Args:
        ring: the newest events.
        wanted: what its members subscribed to.
        granted: what they may see.
        form: how it is written.
        since: the ring's `epoch_start` when its members came: who was here before Redis lost something has had that,
            and does not get it again; who came later gets it when it is appended again.
    """

    __slots__ = (
        "__weakref__",
        "_made",
        "_made_for",
        "_ring",
        "_verdicts",
        "form",
        "granted",
        "members",
        "since",
        "wanted",
    )

    def __init__(self, ring: Ring, wanted: Filter, granted: Filter, form: Form, since: int = 0) -> None:
        self.wanted = wanted
        self.granted = granted
        self.form = form
        self.since = since
        self.members: dict[Member, None] = {}
        """Those that are live, in the order in which they came."""
        self._ring = ring
        self._verdicts: dict[str, bool] = {}
        self._made: dict[int, Stretch] = {}
        self._made_for: tuple[int, str | None] = (-1, None)

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is for it."""
        verdict = self._verdicts.get(event_type)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS_MAX:  # types are anybody's to invent
                self._verdicts.clear()
            verdict = self.wanted.matches(event_type) and self.granted.matches(event_type)
            self._verdicts[event_type] = verdict
        return verdict

    def stretch(self, at: int, epoch: str | None) -> Stretch:
        """What comes next behind an index, up to the ring's end or as much as may be written at once.

        Args:
            at: an index of the ring that has an item.
            epoch: the log's epoch.
        """
        made_for = (self._ring.end, epoch)
        if self._made_for != made_for or len(self._made) > STRETCHES_MAX:
            self._made_for = made_for
            self._made.clear()
        stretch = self._made.get(at)
        if stretch is None:
            stretch = self._made[at] = self.stretch_since(at, epoch, None)
        return stretch

    def stretch_since(self, at: int, epoch: str | None, since_ts: str | None) -> Stretch:
        """The same, made anew, for who does not want events that are older by `ts`; None for no such bound."""
        parts: list[bytes] = []
        size = sent = gaps = 0
        place: Position | None = None
        last: RingEvent | None = None
        told: Position | RingEvent | None = None
        end = at
        for item in self._ring.read(at, STRETCH_ITEMS_MAX):
            end += 1
            if isinstance(item, RingGap):
                place, last = item.place, None
                data, gaps = self.control("gap", item.gap.as_data()), gaps + 1
                if item.gap.reason != "trimmed":
                    data, told = data + self.position(place), place  # it names the epoch that holds from here on
            else:
                last = item
                has_had = item.again_since > self.since
                if has_had or not self.wants(item.type) or (since_ts is not None and item.ts < since_ts):
                    continue
                data, told = item.encoded(self.form), item
                sent += 1
            parts.append(data)
            size += len(data)
            if size >= STRETCH_BYTES_MAX:
                break
        if last is not None:
            place = last.position(epoch)
        assert place is not None, "there is an item"
        if isinstance(told, RingEvent):
            told = place if told is last else told.position(epoch)
        return Stretch(end, b"".join(parts), sent, gaps, place, told)

    def control(self, name: str, payload: dict[str, Any], place: str | None = None) -> bytes:
        """What tells a viewer something besides the mind's events."""
        return self.form.write(name, orjson.dumps(payload), place)

    def position(self, place: Position) -> bytes:
        """What tells a viewer where it stands."""
        told = {"id": str(place.id), "n": place.n, "epoch": place.epoch}
        return self.control("position", told, str(place.id))
