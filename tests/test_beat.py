"""How often viewers are written to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.beat import EASY_S, REST_S, SHARE, SHARE_MAX, Beat

ROUNDS = st.lists(st.floats(0, 2), min_size=1, max_size=60)


def run(beat: Beat, took: list[float], now_s: float = 0.0) -> float:
    """Rounds one behind the other, as fast as the beat lets them; returns when the last has ended."""
    for took_s in took:
        now_s += beat.wait_s(now_s)
        beat.start(now_s)
        now_s += took_s
        beat.end(now_s)
    return now_s


def test_after_a_pause_the_next_round_starts_at_once() -> None:
    beat = Beat()
    assert beat.wait_s(0.0) == 0
    now_s = run(beat, [0.001] * 3)
    assert beat.wait_s(now_s + REST_S) == 0


def test_one_beat_passes_from_start_to_start_however_long_the_round_took() -> None:
    beat = Beat()
    beat.start(10.0)
    beat.end(10.001)
    assert abs(beat.wait_s(10.001) - (REST_S - 0.001)) < 1e-9


@given(ROUNDS)
def test_cheap_rounds_bring_it_back_to_rest(took: list[float]) -> None:
    beat = Beat()
    now_s = run(beat, took)
    run(beat, [REST_S * SHARE / 2] * 200, now_s)
    assert beat.interval_s == REST_S


@given(ROUNDS)
def test_it_is_never_below_rest_and_grows_by_half_at_most(took: list[float]) -> None:
    beat = Beat()
    now_s, before_s = 0.0, beat.interval_s
    for took_s in took:
        now_s = run(beat, [took_s], now_s)
        assert REST_S <= beat.interval_s <= before_s * 1.5 + 1e-9
        if took_s <= REST_S * SHARE:
            assert beat.interval_s <= before_s
        before_s = beat.interval_s


@given(st.floats(REST_S, 2))
def test_rounds_that_go_on_overrunning_get_a_beat_in_which_they_have_their_share(took_s: float) -> None:
    beat = Beat()
    run(beat, [took_s] * 100)
    share = SHARE if took_s / SHARE <= EASY_S else SHARE_MAX
    assert beat.interval_s >= took_s / SHARE_MAX - 1e-9
    assert beat.interval_s <= max(EASY_S, took_s / share) + 1e-9
