"""How much each of many may have: a token bucket for every address or token, and so many places for each. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from broadcast.bridge.engine.allowance import Allowance

__all__ = ["KEYS_MAX", "Places", "Quotas"]

KEYS_MAX: Final = 65_536
"""So many are remembered; then the one that asked longest ago begins anew."""


class Quotas:
    """A bucket for each key.

    Args:
        per_minute: what flows into each, per minute; 0 for no limit.
        burst: how much may go at once; None: a minute's worth.
        keys_max: so many keys are remembered.
    """

    def __init__(self, per_minute: float, *, burst: float | None = None, keys_max: int = KEYS_MAX) -> None:
        self._per_minute = per_minute
        self._burst = max(1.0, per_minute if burst is None else burst)
        self._keys_max = keys_max
        self._buckets: OrderedDict[str, Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, cost: float, now_s: float) -> None:
        """Take some, even if there is not so much."""
        if self._per_minute:
            self._bucket(key).take(cost, now_s)

    def wait_s(self, key: str, now_s: float, *, cost: float = 0) -> float:
        """Take some if there is so much.

        Returns:
            0 if there was; else after how many seconds there will be.
        """
        if not self._per_minute:
            return 0.0
        bucket = self._bucket(key)
        missing_s = bucket.take(cost, now_s)
        if missing_s > 0:
            bucket.left += cost
        return missing_s

    def _bucket(self, key: str) -> Allowance:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Allowance(rate=self._per_minute / 60, burst=self._burst)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket


class Places:
    """So many at a time for each key.

    Args:
        per_key_max: places of one key; 0 for no limit.
    """

    def __init__(self, per_key_max: int) -> None:
        self._per_key_max = per_key_max
        self._taken: Counter[str] = Counter()

    def enter(self, key: str) -> bool:
        """Take a place, also where there is none left: False then. It is there until `leave`."""
        self._taken[key] += 1
        return self.has_room(key, besides=0)

    def has_room(self, key: str, *, besides: int = 1) -> bool:
        """Whether so many more would find a place."""
        return not self._per_key_max or self._taken[key] + besides <= self._per_key_max

    def taken(self, key: str) -> int:
        """How many places a key has."""
        return self._taken[key]

    def leave(self, key: str) -> None:
        """Give a place back."""
        self._taken[key] -= 1
        if self._taken[key] <= 0:
            del self._taken[key]

    def __len__(self) -> int:
        return len(self._taken)
