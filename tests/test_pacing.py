"""The clock of a timed replay, fed with times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.log.pacing import BEHIND_S, Pacing

BEGAN = datetime(2026, 2, 14, 19, tzinfo=UTC)


def ts(at_s: float) -> str:
    return (BEGAN + timedelta(seconds=at_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def play(pacing: Pacing, times_s: list[float], *, work_s: float = 0.0) -> list[float]:
    """When each of these events is given, by a reader that needs so long for each."""
    now_s, given = 0.0, []
    for at_s in times_s:
        pacing.take(ts(at_s), now_s)
        now_s = max(now_s, now_s + pacing.wait_s(now_s))
        given.append(round(now_s, 6))
        pacing.gave(now_s)
        now_s += work_s
    return given


@pytest.mark.parametrize(("speed", "expected"), [(1, [0, 1, 1.5]), (0.5, [0, 2, 3]), (4, [0, 0.25, 0.375])])
def test_time_goes_as_lived_or_faster_or_slower(speed: float, expected: list[float]) -> None:
    assert pytest.approx(expected, abs=1e-5) == play(Pacing(speed, 0.0), [10, 11, 11.5])


def test_an_event_that_is_older_than_the_last_waits_for_nothing_and_costs_nothing() -> None:
    assert [0, 1, 1, 2] == play(Pacing(1, 0.0), [0, 1, -50, 2])


def test_idle_time_is_cut_and_told() -> None:
    pacing = Pacing(4, 0.0, idle_s=2.0)
    assert [0, 2, 2.25] == play(pacing, [0, 3600, 3601])
    assert pacing.cut_s == pytest.approx(3600 - 2 * 4)
    assert [0, 900] == play(Pacing(4, 0.0, idle_s=None), [0, 3600])


def test_no_more_than_so_many_per_second_and_it_says_that_it_is_behind() -> None:
    pacing = Pacing(64, 0.0, events_per_s=100)
    given = play(pacing, [i / 100 for i in range(1000)])
    assert pacing.is_behind
    assert all(later - earlier < 1.6 for earlier, later in zip(given[:100], given[100:200], strict=True))
    for begin in range(int(given[-1])):
        assert sum(begin <= at < begin + 1 for at in given) <= 151


def test_who_is_slow_goes_on_from_where_it_is_and_does_not_run_after_it() -> None:
    pacing = Pacing(1, 0.0)
    play(pacing, [i / 10 for i in range(50)], work_s=0.2)
    assert pacing.is_behind
    now_s = 100.0
    given = []
    for i in range(50, 80):
        pacing.take(ts(i / 10), now_s)
        now_s += max(0.0, pacing.wait_s(now_s))
        given.append(now_s)
    assert sum(at == 100.0 for at in given) <= BEHIND_S * 10 + 2
    assert not pacing.is_behind
    assert given[-1] - given[-2] == pytest.approx(0.1, abs=1e-5)


def test_a_pause_takes_no_time_and_a_new_speed_changes_what_is_left_of_a_wait() -> None:
    pacing = Pacing(1, 0.0)
    pacing.take(ts(0), 0.0)
    pacing.take(ts(1), 0.0)
    pacing.pause(0.4)
    assert pacing.wait_s(50.0) == float("inf")
    pacing.change(2, 60.0)
    pacing.pause(70.0)
    pacing.resume(100.0)
    assert pacing.wait_s(100.0) == pytest.approx(0.3)
    pacing.change(0.5, 100.1)
    assert pacing.wait_s(100.1) == pytest.approx(0.8)
    pacing.jump(101.0)
    pacing.take(ts(-9), 101.0)
    assert pacing.wait_s(101.0) <= 0


@given(
    times=st.lists(st.floats(0, 1e6), max_size=60),
    speed=st.floats(0.5, 64),
    work_s=st.sampled_from([0.0, 0.01, 3.0]),
    events_per_s=st.sampled_from([None, 10.0, 500.0]),
)
def test_whatever_comes_no_wait_is_longer_than_the_idle_time(
    times: list[float], speed: float, work_s: float, events_per_s: float | None
) -> None:
    given_s = play(Pacing(speed, 0.0, events_per_s=events_per_s), times, work_s=work_s)
    assert given_s == sorted(given_s)
    for earlier, later in pairwise(given_s):
        assert later - earlier <= 2.0 + work_s + 0.11 + 1e-6
