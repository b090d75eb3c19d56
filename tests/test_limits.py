"""Limits: never more events than the rate says, and every one that was withheld is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import broadcast.testing
from broadcast import Broadcaster
from broadcast.emitter.limits import LIMITS_MAX, TYPES_MAX, Limiter, limiter_of, listed_limits
from broadcast.errors import SettingError
from broadcast.filters import parse_filter
from broadcast.settings import Settings
from tests.servers import RedisServer, free_port

SECOND_NS = 10**9
UNITS_S = {"s": 1, "m": 60, "h": 3600}


def times_passed(limiter: Limiter, moments_ns: list[int], event_type: str = "x") -> list[int]:
    return [now_ns for now_ns in moments_ns if limiter.takes(event_type, "", now_ns)]


# --- how many pass


@pytest.mark.parametrize(
    ("rate", "at_once", "in_a_minute"),
    [("50/s", 50, 50 + 50 * 60), ("1/s", 1, 61), ("10/m", 1, 11), ("1/h", 1, 1), ("0/s", 0, 0), ("120/m", 2, 122)],
)
def test_a_seconds_worth_passes_at_once_and_then_the_rate(rate: str, at_once: int, in_a_minute: int) -> None:
    now_ns = 7 * SECOND_NS
    burst = Limiter([("*", rate)])
    assert len(times_passed(burst, [now_ns] * 200)) == at_once
    minute = Limiter([("*", rate)])
    passed = len(times_passed(minute, [now_ns + ms * SECOND_NS // 1000 for ms in range(60_001)]))
    assert in_a_minute - 1 <= passed <= in_a_minute
    assert passed + minute.withheld == 60_001


RATES = st.tuples(st.integers(0, 200), st.sampled_from("smh"))
# Bursts, pauses and a clock that stands still, in any order.
STEPS_NS = st.lists(st.integers(0, 3 * SECOND_NS) | st.sampled_from([0, 0, 0, 1, 60 * SECOND_NS]), max_size=300)


@settings(deadline=None)
@given(RATES, STEPS_NS, st.integers(0, 10**18))
def test_in_no_span_of_time_pass_more_than_a_burst_and_the_rate(
    rate: tuple[int, str], steps_ns: list[int], start_ns: int
) -> None:
    events, unit = rate
    limiter = Limiter([("*", f"{events}/{unit}")])
    moments = [start_ns]
    for step_ns in steps_ns:
        moments.append(moments[-1] + step_ns)
    passed = times_passed(limiter, moments)
    assert len(passed) + limiter.withheld == len(moments)
    per_ns = Fraction(events, UNITS_S[unit] * SECOND_NS)
    burst = max(1, events // UNITS_S[unit]) if events else 0
    for first, begin_ns in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + per_ns * (passed[last] - begin_ns)


@given(st.integers(1, 500), st.sampled_from("smh"), st.integers(1, 300))
def test_whoever_keeps_to_the_rate_is_never_limited(events: int, unit: str, count: int) -> None:
    interval_ns = -(-UNITS_S[unit] * SECOND_NS // events)
    limiter = Limiter([("*", f"{events}/{unit}")])
    assert len(times_passed(limiter, [5 + i * interval_ns for i in range(count)])) == count


def test_the_first_pattern_that_matches_decides_and_its_types_share_what_it_lets_pass() -> None:
    limiter = Limiter([("sense.all", "0/s"), ("sense.*", "2/s"), ("*", "1/s")])
    types = ["sense.all", "sense.a", "sense.b", "sense.c", "other", "more"]
    assert [limiter.takes(each, "", 1) for each in types] == [False, True, True, False, True, False]
    limiter.want_report()
    report = limiter.take_report(1)
    assert report is not None
    assert report.counts == {"sense.all": 1, "sense.*": 1, "*": 1}


def test_our_own_events_are_never_limited() -> None:
    limiter = Limiter([("*", "0/s"), ("broadcast.*", "0/s")])
    assert [limiter.takes(each, "", 1) for each in ("broadcast.lost", "broadcast", "x")] == [True, False, False]


PATTERNS = st.sampled_from(["*", "a", "a.*", "a.b", "b.*", "-a.*", "a.b.*"])
TYPES = st.sampled_from(["a", "a.b", "a.b.c", "b", "b.c", "ab", "", "broadcast.x"])


@given(st.lists(PATTERNS, max_size=4), st.lists(TYPES, min_size=1, max_size=20))
def test_patterns_mean_what_they_mean_in_a_filter(patterns: list[str], types: list[str]) -> None:
    limiter = Limiter([(pattern, "0/s") for pattern in patterns])
    for event_type in types:
        limited = any(parse_filter([pattern]).matches(event_type) for pattern in patterns)
        assert limiter.takes(event_type, "", 1) is not (limited and not event_type.startswith("broadcast."))


def test_as_many_types_as_a_mind_invents_cost_bounded_memory() -> None:
    limiter = Limiter([("sense.*", "1/s")])
    for i in range(3 * TYPES_MAX):
        limiter.takes(f"sense.{i}", "", 1)
    assert len(limiter._known) <= TYPES_MAX
    assert limiter.withheld == 3 * TYPES_MAX - 1


# --- what is told


def test_what_was_withheld_is_told_once_a_second_and_all_of_it() -> None:
    limiter = Limiter([("a", "0/s"), ("b", "0/s")])
    assert (limiter.due_in_ns(0), limiter.take_report(0)) == (None, None)
    limiter.takes("a", "first", 100)
    limiter.takes("b", "second", 200)
    assert limiter.due_in_ns(100) == SECOND_NS
    assert limiter.take_report(99 + SECOND_NS) is None
    limiter.takes("a", "third", 300)
    assert limiter.take_report(100 + SECOND_NS) == ({"a": 2, "b": 1}, "first", "third")
    assert limiter.due_in_ns(10**18) is None
    limiter.takes("a", "fourth", 10**12)
    assert limiter.due_in_ns(10**12) == SECOND_NS
    assert limiter.take_report(10**12 + SECOND_NS) == ({"a": 1}, "fourth", "fourth")
    assert (limiter.withheld, limiter.reported) == (4, 4)


def test_a_wanted_report_is_due_at_once_and_no_longer_than_that() -> None:
    limiter = Limiter([("a", "0/s")])
    limiter.takes("a", "first", 100)
    assert limiter.want_report() == 1
    assert limiter.take_report(100) == ({"a": 1}, "first", "first")
    limiter.takes("a", "second", 200)
    assert limiter.take_report(200) is None


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.sampled_from(["a", "b", "report", "want"])), max_size=100))
def test_reports_add_up_and_keep_their_distance(steps: list[tuple[int, str]]) -> None:
    limiter = Limiter([("a", "2/s"), ("b", "0/s")])
    now_ns, emitted, passed, told = 0, 0, 0, 0
    wanted = False
    told_ns: list[int] = []
    for step_ns, what in steps:
        now_ns += step_ns
        if what == "want":
            limiter.want_report()
            wanted = True
        elif what == "report":
            if (report := limiter.take_report(now_ns)) is not None:
                told += sum(report.counts.values())
                assert wanted or not told_ns or now_ns - told_ns[-1] >= SECOND_NS
                told_ns.append(now_ns)
                wanted = False
        else:
            emitted += 1
            passed += limiter.takes(what, str(emitted), now_ns)
    limiter.want_report()
    if (last := limiter.take_report(now_ns)) is not None:
        told += sum(last.counts.values())
    assert passed + told == emitted
    assert told == limiter.withheld == limiter.reported


def test_threads_count_every_event_and_let_no_more_pass() -> None:
    limiter = Limiter([("x", "100/s")])
    limiter.takes("x", "", 5)
    passed: list[int] = []
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def emit() -> None:
            passed.append(sum(limiter.takes("x", "", 5) for _ in range(20_000)))

        threads = [threading.Thread(target=emit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch_s)
    assert sum(passed) == 99
    assert sum(passed) + limiter.withheld == 80_000


# --- what is no limit


@pytest.mark.parametrize("rate", ["", "50", "/s", "50/d", "-1/s", "1.5/s", "50/s/s", "٥/s", "9" * 13 + "/s", "50 per s"])
def test_what_is_no_rate_is_named(rate: str) -> None:
    with pytest.raises(SettingError, match=r"limits: sense\.\*: expected a rate as '50/s'"):
        Limiter([("sense.*", rate)])


def test_what_is_no_pattern_is_named() -> None:
    with pytest.raises(SettingError, match="limits: 'sense, x' is not a pattern"):
        Limiter([("sense, x", "1/s")])
    with pytest.raises(SettingError, match=f"at most {LIMITS_MAX}"):
        Limiter([("x", "1/s")] * (LIMITS_MAX + 1))


@pytest.mark.parametrize("limits", ["sense.*=50/s", ["sense.*"], {"sense.*": 50}, {1: "50/s"}, None])
def test_what_is_no_dict_of_texts_is_refused(limits: Any) -> None:
    with pytest.raises(SettingError, match="limits: expected"):
        listed_limits(limits)


def test_of_several_limits_only_the_broken_ones_are_left_out() -> None:
    problems: list[str] = []
    limiter = limiter_of([("a", "0/s"), ("b", "soon"), ("c", "0/s")], problems)
    assert limiter is not None
    assert [limiter.takes(each, "", 1) for each in "abc"] == [False, True, False]
    assert problems == ["BROADCAST_LIMITS: limits: b: expected a rate as '50/s', '10/m' or '1/h', got 'soon'"]
    assert limiter_of([("b", "soon")], problems) is None
    assert limiter_of([], None) is None
