"""The bridge's look at itself: a reader or a round that stands still is noticed, and a quiet mind is not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.fanout import Fanout
from broadcast.bridge.probe import HUNG_S, STUCK_S, Probe, Progress
from broadcast.bridge.ring import Ring
from broadcast.log.position import Bounds, EntryId, Position


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0.1, 9.0)), max_size=40))
def test_who_moves_or_has_nothing_ahead_is_never_stuck_and_who_stands_long_enough_is(
    looks: list[tuple[int, bool, float]],
) -> None:
    progress, now_s, stands_since_s, at_last = Progress(10.0), 0.0, None, None
    for at, is_behind, pause_s in looks:
        now_s += pause_s
        if not is_behind or at != at_last or stands_since_s is None:
            stands_since_s = now_s
        at_last = at
        expected_s = now_s - stands_since_s
        assert progress.stuck_s(at, is_behind=is_behind, now_s=now_s) == (expected_s if expected_s >= 10.0 else 0.0)


def probe_of(*, last: int, head: int) -> Probe:
    nobody: Any = None
    fanout = Fanout(nobody, Ring(events_max=10, bytes_max=1000))
    fanout.head = Position(EntryId(head, 0), head, "e")
    fanout.loaded.set()
    probe = Probe(fanout, nobody, clock=lambda: 0.0)
    probe.stream = Bounds(EntryId(1, 0), EntryId(last, 0), last, last, "e")
    return probe


def test_a_reader_that_stays_behind_the_stream_is_stuck_and_says_where() -> None:
    probe = probe_of(last=9, head=5)
    probe.judge(now_s=100.0)
    assert probe.reasons == ()

    probe.judge(now_s=100.0 + STUCK_S)

    assert len(probe.reasons) == 1
    assert "5-0 of 9-0" in probe.reasons[0]


def test_a_reader_that_comes_closer_is_not_stuck() -> None:
    probe = probe_of(last=9, head=5)
    for at in range(5, 9):
        probe._fanout.head = Position(EntryId(at, 0), at, "e")
        probe.judge(now_s=100.0 + at * STUCK_S)
        assert probe.reasons == ()


def test_a_quiet_mind_and_a_redis_that_is_away_are_no_stuck_reader() -> None:
    quiet, away = probe_of(last=5, head=5), probe_of(last=9, head=5)
    for now_s in (100.0, 100.0 + STUCK_S, 1000.0):
        quiet.judge(now_s=now_s)
        away.stream = None
        away.judge(now_s=now_s)
        assert quiet.reasons == away.reasons == ()


def test_rounds_that_do_not_come_are_noticed() -> None:
    probe = probe_of(last=5, head=5)
    probe._fanout.lost("something new to tell")
    probe.judge(now_s=100.0)
    probe.judge(now_s=100.0 + STUCK_S)
    assert "no viewer was written to" in probe.reasons[0]

    probe._fanout.rounds += 1
    probe.judge(now_s=101.0 + STUCK_S)

    assert probe.reasons == ()


def test_a_probe_that_looks_no_more_is_itself_what_is_wrong() -> None:
    now_s = 100.0
    nobody: Any = None
    probe = Probe(Fanout(nobody, Ring(events_max=10, bytes_max=1000)), nobody, clock=lambda: now_s)
    for waited_s, is_wrong in ((HUNG_S - 1, False), (HUNG_S, True)):
        now_s = 100.0 + waited_s
        assert is_wrong == bool(probe.reasons)
    probe.judge(now_s=now_s)
    assert probe.reasons == ()
