"""Where a cursor stands in the log, and what follows when the log has changed under it. Pure.

Rules:
1. An id orders the log within one epoch. `n` counts: the event behind `n` is `n + 1`, so what is missing can be told.
2. The log may lose its head (trimmed), its tail (rewound: Redis came back without its last second), or everything
   (reset: another epoch). Each is a `Gap`, and each says where reading goes on.
3. A position whose entry is gone is no gap if nothing lay between it and what is left.
4. A moment is no position: whoever asks for what came after it has not had anything, so no log can be behind it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, cast

from broadcast.errors import PositionError

__all__ = [
    "EARLY_MS",
    "START",
    "Bounds",
    "EntryId",
    "Gap",
    "Position",
    "Seen",
    "Since",
    "identity",
    "judge",
    "parse_id",
    "parse_since",
    "seconds_of",
]

GapReason = Literal["trimmed", "slow", "rewound", "reset"]


class EntryId(NamedTuple):
    """An event's place: the Redis entry id `ms-seq`, ordered as a pair."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    def before(self) -> EntryId:
        """The greatest id that is smaller."""
        if self.seq:
            return EntryId(self.ms, self.seq - 1)
        return EntryId(self.ms - 1, 2**64 - 1) if self.ms else self

    def after(self) -> EntryId:
        """The smallest id that is greater."""
        return EntryId(self.ms, self.seq + 1) if self.seq < 2**64 - 1 else EntryId(self.ms + 1, 0)


START: Final = EntryId(0, 0)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a cursor stands: everything up to here was given."""

    id: EntryId
    """The id of the last event given; `START` for none, and without `n` for "whatever is the oldest"."""
    n: int | None = None
    """Its ordinal, None where it is not known."""
    epoch: str | None = None
    """The log it is a position in, None where it is not known."""
    is_moment: bool = False
    """Whether it only stands for a time, not for an event that was had."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The stream at one moment."""

    first: EntryId | None
    """The oldest entry that is left; None if there is none."""
    last: EntryId
    """The newest id ever given in this log; `START` if none was."""
    added: int | None
    """How many entries were ever added: the `n` of the newest; None before Redis 7."""
    length: int
    """How many entries are left."""
    epoch: str | None
    """The log's identity; None while no emitter of ours has written to it."""
    parent: str | None = None
    """The epoch this one continues, after Redis lost a tail."""
    forked_at: EntryId | None = None
    """The last id that this log and its parent have in common."""

    @property
    def trimmed(self) -> int | None:
        """How many entries were trimmed: the `n` before the oldest one left."""
        return None if self.added is None else self.added - self.length

    @property
    def end(self) -> Position:
        """The position behind the newest entry."""
        return Position(self.last, self.added, self.epoch)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of the log that a cursor can no longer be given."""

    after: EntryId
    """The last event before the gap that the cursor had."""
    before: EntryId | None
    """The first event behind it; None if there is none yet."""
    lost: int | None
    """How many events of the log, whatever the filter; None where it cannot be known."""
    reason: GapReason

    def as_data(self) -> dict[str, Any]:
        """The wire form."""
        before = None if self.before is None else str(self.before)
        return {"after": str(self.after), "before": before, "lost": self.lost, "reason": self.reason}


def judge(position: Position, bounds: Bounds) -> tuple[Position, Gap | None]:
    """Decide from where a cursor reads on.

    Args:
        position: where it stood.
        bounds: the stream as it is now.

    Returns:
        The position to read on from, in the present epoch, and what is missing before that.
    """
    here = replace(position, epoch=bounds.epoch, is_moment=False)
    if position.epoch and position.epoch != bounds.epoch:
        if position.epoch != bounds.parent or bounds.forked_at is None:
            return _begin_again(position, bounds)
        if position.id > bounds.forked_at:
            return _step_back(position, bounds, bounds.forked_at)
    if _is_of_another_log(position, bounds):
        return _begin_again(position, bounds)
    if position.id > bounds.last:
        return (bounds.end, None) if position.is_moment else _step_back(position, bounds, bounds.last)
    return _after_trimming(here, bounds)


def _is_of_another_log(position: Position, bounds: Bounds) -> bool:
    """Whether a bare id, which is all that an EventSource hands back, is older than a log of which nothing is gone."""
    is_bare = position.epoch is None and position.n is None and not position.is_moment
    return is_bare and bounds.trimmed == 0 and bounds.first is not None and START < position.id < bounds.first


def _begin_again(position: Position, bounds: Bounds) -> tuple[Position, Gap]:
    gap = Gap(position.id, bounds.first, None, "reset")
    return Position(START, bounds.trimmed, bounds.epoch), gap


def _step_back(position: Position, bounds: Bounds, to: EntryId) -> tuple[Position, Gap]:
    n = bounds.added if to == bounds.last else None
    # What the cursor had beyond this point is no longer in the log; how much it had not yet had, nobody knows.
    return Position(to, n, bounds.epoch), Gap(position.id, None, None, "rewound")


def _after_trimming(here: Position, bounds: Bounds) -> tuple[Position, Gap | None]:
    if bounds.first is None:
        nothing_missed = here.id == bounds.last or (here.n is not None and here.n == bounds.added)
        if nothing_missed or _asks_for_the_oldest(here):
            return bounds.end, None
        lost = None if here.n is None or bounds.added is None else bounds.added - here.n
        return bounds.end, Gap(here.id, None, lost, "trimmed")
    if here.id >= bounds.first:
        return here, None
    before_first = Position(here.id, bounds.trimmed, bounds.epoch)
    if _asks_for_the_oldest(here) or bounds.trimmed == 0:
        return before_first, None
    if here.n is None or bounds.trimmed is None:
        return before_first, Gap(here.id, bounds.first, None, "trimmed")
    lost = bounds.trimmed - here.n
    return before_first, Gap(here.id, bounds.first, lost, "trimmed") if lost > 0 else None


def _asks_for_the_oldest(here: Position) -> bool:
    """Whether it wants the oldest that is left, so that nothing it asks for is gone.

    A cursor that began when the log was empty stands at `START`, too, but knows by its `n` what it has not had.
    """
    return here.id == START and here.n is None


def identity(by: str | None, *, digits_max: int = 20) -> tuple[str, int] | None:
    """Producer and seq of an event's `by`; None where it has none, or one by which it cannot be recognised.

    Args:
        by: as its producer wrote it.
        digits_max: a seq of more digits is none.
    """
    producer, _, digits = (by or "").rpartition(":")
    # A foreign producer may write anything: digits that int() does not read, or more than it wants to.
    if not producer or len(digits) > digits_max or not (digits.isascii() and digits.isdigit()):
        return None
    return producer, int(digits)


class Seen:
    """The last seq of each producer that a cursor has had: tells an event that was appended again.

    Args:
        producers_max: so many producers are remembered; then the one silent for longest goes.
    """

    def __init__(self, producers_max: int = 4096) -> None:
        self.producers_max = producers_max
        self._last: OrderedDict[str, int] = OrderedDict()

    def is_new(self, by: str | None) -> bool:
        """Whether this identity was not had before; remembers it. An event without identity is always new."""
        if (found := identity(by)) is None:
            return True
        producer, seq = found
        if seq <= self._last.get(producer, -1):
            return False
        self._last[producer] = seq
        self._last.move_to_end(producer)
        if len(self._last) > self.producers_max:
            self._last.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class Since:
    """What a consumer asks for: a position, and perhaps a time that events must not be older than."""

    position: Position | None
    """None: from now on."""
    ts: str | None = None
    """Events with an older `ts` are left out; None for no such bound."""
    cycle: int | None = None
    """The number of a cycle, which whoever reads the log has to find; there is no position then."""


_ID: Final = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_AGO: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_CYCLE: Final = re.compile(r"cycle:(-?[0-9]{1,18})")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EARLY_MS: Final = 5_000
"""An id is given after `ts` is taken, but by another machine's clock: it may be so much smaller, in every tier."""


def seconds_of(text: object) -> float | None:
    """Read a duration, `90s`, `1h`, `7d`; None if it is none."""
    match = _AGO.fullmatch(text) if isinstance(text, str) else None
    return None if match is None else float(match[1]) * _UNITS_S[match[2]]


def parse_id(text: object) -> EntryId:
    """Read an id, `ms-seq` or `ms`.

    Raises:
        PositionError: it is none.
    """
    if isinstance(text, str) and (match := _ID.fullmatch(text)):
        parsed = EntryId(int(match[1]), int(match[2] or 0))
        if max(parsed) < 2**64:
            return parsed
    shown = repr(text)[:60] if isinstance(text, str) else type(text).__name__
    raise PositionError(f"id: expected an event's id such as '1771095683456-0', got {shown}")


def parse_since(since: object, *, now: datetime) -> Since:
    """Read what a person or a client wrote as `since`.

    Args:
        since: None, an id, `{id, n, epoch}` (the last event, as it was delivered, will do), a duration ago (`5m`), an
            ISO 8601 time, or the beginning of a cycle (`cycle:42` or `{cycle: 42}`). `{id: null}`, which is what a
            `hello` says while the log cannot be read, is the same as None.
        now: the present time.

    Raises:
        PositionError: it is none of these.
    """
    if since is None:
        return Since(None)
    if isinstance(since, dict):
        fields = cast("dict[Any, Any]", since)
        # An event as it was delivered has both: then it is a place, behind that event.
        is_cycle = "cycle" in fields and "id" not in fields
        return _parse_cycle(fields["cycle"]) if is_cycle else Since(_parse_position(fields))
    text = str(since) if type(since) is int else since
    if not isinstance(text, str):
        raise PositionError(f"since: expected an id, a duration or a time, got {type(since).__name__}")
    text = text.strip()
    if _ID.fullmatch(text):
        return Since(Position(parse_id(text)))
    if match := _CYCLE.fullmatch(text):
        return Since(None, cycle=int(match[1]))
    try:
        if (ago_s := seconds_of(text)) is not None:
            return _since_time(now - timedelta(seconds=ago_s))
        moment = datetime.fromisoformat(text)
        return _since_time(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise PositionError(
            f"since: {text[:60]!r} is no position; accepted are an id ('1771095683456-0'), "
            "a duration ago ('5m', '2h'), a time ('2026-02-14T19:00:00Z') and a cycle ('cycle:42')"
        ) from None


def _since_time(moment: datetime) -> Since:
    ms = max(0, int(moment.timestamp() * 1000))
    ts = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    # Look a little further back, sort out by ts.
    return Since(Position(EntryId(max(0, ms - EARLY_MS), 0).before(), is_moment=True), ts)


def _parse_cycle(number: object) -> Since:
    if type(number) is not int or abs(number) >= 2**63:
        raise PositionError(f"since.cycle: expected a whole number, got {type(number).__name__}")
    return Since(None, cycle=number)


def _parse_position(since: dict[Any, Any]) -> Position | None:
    n, epoch = since.get("n"), since.get("epoch")
    if n is not None and (type(n) is not int or n < 0):
        raise PositionError(f"since.n: expected a whole number or nothing, got {type(n).__name__}")
    if epoch is not None and not isinstance(epoch, str):
        raise PositionError(f"since.epoch: expected a text or nothing, got {type(epoch).__name__}")
    if "id" in since and since["id"] is None:
        return None
    return Position(parse_id(since.get("id")), n, epoch)
