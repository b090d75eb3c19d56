"""Counting by time: what one counts, however finely it is held."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge import tally
from broadcast.bridge.tally import Tally
from broadcast.event import timestamp

EVENTS = st.lists(st.tuples(st.integers(0, 10_000_000), st.sampled_from("abc"), st.integers(1, 3)), max_size=60)


@given(EVENTS, st.sampled_from([60_000, 300_000, 3_600_000]), st.integers(0, 9), st.integers(1, 9), st.integers(3, 90))
def test_buckets_are_what_one_counts_whether_seconds_are_told_apart_or_minutes(
    events: list[tuple[int, str, int]], width_ms: int, first: int, wide: int, seconds_max: int
) -> None:
    found = Tally()
    with patch.object(tally, "SECONDS_MAX", seconds_max):
        for each in events:
            found.add(*each)
    times = [ts_ms for ts_ms, _, _ in events]
    assert found.span == ((min(times), max(times)) if times else None)
    of_types: Counter[str] = Counter()
    for _, name, count in events:
        of_types[name] += count
    assert of_types == found.of_types()
    first_ms, last_ms = first * width_ms, (first + wide) * width_ms
    found.cut(first_ms, last_ms, width_ms=width_ms)
    expected: dict[int, Counter[str]] = {}
    for ts_ms, name, count in events:
        if first_ms <= ts_ms < last_ms:
            expected.setdefault(ts_ms - ts_ms % width_ms, Counter())[name] += count
    told = found.buckets()
    assert [timestamp(begin * 1_000_000) for begin in sorted(expected)] == [bucket["ts"] for bucket in told]
    assert [expected[begin] for begin in sorted(expected)] == [bucket["types"] for bucket in told]
    assert [sum(bucket["types"].values()) for bucket in told] == [bucket["count"] for bucket in told]


def test_of_a_long_time_only_minutes_are_held() -> None:
    found = Tally()
    for second in range(3 * tally.SECONDS_MAX):
        found.add(second * 1000, "x")
    assert (60_000, 3 * tally.SECONDS_MAX) == (found.unit_ms, found.of_types()["x"])
    assert len(found.buckets()) == 3 * tally.SECONDS_MAX // 60
