"""How many events of some types may pass: a bucket of tokens for each pattern. Pure, fed with a monotonic clock.

The first pattern that matches a type, in the order given, decides for it, and its types share one bucket. A bucket
lets one second's worth of events pass at once (at least one) and fills at the pattern's rate. Our own `broadcast.*`
events are never limited.

Any thread, signal handler or destructor asks; one sender takes the reports. No lock is needed for the reason that
`buffer.py` gives: where a bucket is read, compared and changed stands no function call, and so no point at which
CPython switches threads. Without the GIL, a race may let single events through more; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from broadcast.errors import FilterError, SettingError
from broadcast.filters import parse_filter

__all__ = ["Limiter", "Withheld", "limiter_of", "listed_limits"]

LIMITS_MAX: Final = 64
TYPES_MAX: Final = 1024
"""Types whose bucket is remembered; when there are more, all are forgotten and looked up again."""
REPORT_NS: Final = 1_000_000_000
"""What is withheld is told so long after the first of it: once a second."""

_RATE: Final = re.compile(r"(\d{1,12})\s*/\s*([smh])", re.ASCII)
_UNITS_NS: Final = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


class Withheld(NamedTuple):
    """Events that were withheld and have to be reported.

    Args:
        counts: how many, by the pattern that limits them.
        first_ts: `ts` of the first of them.
        last_ts: `ts` of the last of them.
    """

    counts: Mapping[str, int]
    first_ts: str
    last_ts: str


class _Bucket:
    """What one pattern lets pass, as one moment: that at which it would be full again (GCRA)."""

    __slots__ = ("full_ns", "interval_ns", "matches", "pattern", "reported", "tolerance_ns", "withheld")

    def __init__(self, pattern: str, rate: str) -> None:
        events, unit_ns = _rate(pattern, rate)
        self.pattern = pattern
        self.matches = parse_filter([pattern]).matches
        # Rounded up, so that never more pass than the rate says.
        self.interval_ns = -(-unit_ns // events) if events else 0
        burst = max(1, events * _UNITS_NS["s"] // unit_ns)
        self.tolerance_ns = (burst - 1) * self.interval_ns if events else -1
        self.full_ns = 0
        self.withheld = 0
        self.reported = 0

    def takes(self, now_ns: int) -> bool:
        interval_ns = self.interval_ns
        if self.full_ns < now_ns:  # noqa: PLR1730 - max() would be a call
            self.full_ns = now_ns
        if self.full_ns - now_ns > self.tolerance_ns:
            return False
        self.full_ns += interval_ns
        return True


class Limiter:
    """Decides whether an event passes, and counts those that do not.

    Args:
        limits: pairs of a pattern (`sense.*`) and a rate (`50/s`, `10/m`, `1/h`, `0/s` for none at all).

    Raises:
        SettingError: names the pattern or the rate, and what is accepted.
    """

    def __init__(self, limits: Iterable[tuple[str, str]]) -> None:
        self._limits = tuple(limits)
        if len(self._limits) > LIMITS_MAX:
            raise SettingError(f"limits: at most {LIMITS_MAX} patterns, got {len(self._limits)}")
        self._buckets = tuple(_Bucket(pattern, rate) for pattern, rate in self._limits)
        self._known: dict[str, _Bucket | None] = {}
        """None for types without a limit."""
        self._first_ts: str | None = None
        self._last_ts = ""
        self._since_ns: int | None = None
        self._wanted = 0

    def anew(self) -> Limiter:
        """One with the same limits that knows of nothing, for a forked child."""
        return Limiter(self._limits)

    @property
    def withheld(self) -> int:
        """Events ever withheld."""
        return sum(bucket.withheld for bucket in self._buckets)

    @property
    def reported(self) -> int:
        """Those of them that `take_report` has given."""
        return sum(bucket.reported for bucket in self._buckets)

    def takes(self, event_type: str, ts: str, now_ns: int) -> bool:
        """Whether an event passes; if not, it is counted. Safe wherever Python code can run.

        Args:
            event_type: its type, of bounded length.
            ts: its time, for the report.
            now_ns: a monotonic clock, nanoseconds.
        """
        try:
            bucket = self._known[event_type]
        except KeyError:
            bucket = self._bucket_of(event_type)
        if bucket is None or bucket.takes(now_ns):
            return True
        if self._first_ts is None:
            self._first_ts = ts
        self._last_ts = ts
        if self._since_ns is None:
            self._since_ns = now_ns
        bucket.withheld += 1
        return False

    def _bucket_of(self, event_type: str) -> _Bucket | None:
        found = None
        if not event_type.startswith("broadcast."):
            found = next((bucket for bucket in self._buckets if bucket.matches(event_type)), None)
        if len(self._known) >= TYPES_MAX:
            self._known.clear()
        self._known[event_type] = found
        return found

    def want_report(self) -> int:
        """Make the report of what was withheld so far due at once; gives how much that is."""
        self._wanted = withheld = self.withheld
        return withheld

    def due_in_ns(self, now_ns: int) -> int | None:
        """How long until a report is due; 0 or less if it is, None if there is nothing to report."""
        reported = self.reported
        if self.withheld == reported:
            return None
        since_ns = self._since_ns
        return 0 if since_ns is None or self._wanted > reported else since_ns + REPORT_NS - now_ns

    def take_report(self, now_ns: int) -> Withheld | None:
        """What was withheld since the last report, if one is due. Only the sender calls this."""
        due_ns = self.due_in_ns(now_ns)
        if due_ns is None or due_ns > 0:
            return None
        self._since_ns = None
        first, self._first_ts = self._first_ts, None
        counts: dict[str, int] = {}
        for bucket in self._buckets:
            if count := bucket.withheld - bucket.reported:
                counts[bucket.pattern] = counts.get(bucket.pattern, 0) + count
                bucket.reported += count
        return Withheld(counts, first or self._last_ts, self._last_ts)


def listed_limits(limits: object) -> tuple[tuple[str, str], ...]:
    """The pairs of a `limits=` argument.

    Raises:
        SettingError: it is no dict of texts.
    """
    if not isinstance(limits, Mapping):
        raise SettingError(f'limits: expected a dict as {{"sense.*": "50/s"}}, got {type(limits).__name__}')
    pairs = tuple(cast("Mapping[Any, Any]", limits).items())
    for pattern, rate in pairs:
        if not (isinstance(pattern, str) and isinstance(rate, str)):
            raise SettingError(f"limits: expected texts as 'sense.*' and '50/s', got {pattern!r:.60} and {rate!r:.60}")
    return pairs


def limiter_of(limits: Iterable[tuple[str, str]], problems: list[str] | None) -> Limiter | None:
    """Make the limiter; None if nothing is limited.

    Args:
        limits: pairs, as `Limiter` takes them.
        problems: where to say which pair is broken; it limits nothing then, since events are worth more than room.
            None raises instead.

    Raises:
        SettingError: a pair is broken, and `problems` is None.
    """
    usable: list[tuple[str, str]] = []
    for pair in limits:
        try:
            Limiter([*usable, pair])
            usable.append(pair)
        except SettingError as error:
            if problems is None:
                raise
            problems.append(f"BROADCAST_LIMITS: {error}")
    return Limiter(usable) if usable else None


def _rate(pattern: str, rate: str) -> tuple[int, int]:
    try:
        parse_filter([pattern])
    except FilterError as error:
        raise SettingError(str(error).replace("types:", "limits:", 1)) from None
    found = _RATE.fullmatch(rate.strip())
    if not found:
        raise SettingError(f"limits: {pattern}: expected a rate as '50/s', '10/m' or '1/h', got {rate[:40]!r}")
    return int(found[1]), _UNITS_NS[found[2]]
