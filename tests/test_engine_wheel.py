"""One timer for all: everything comes once, never early, and hardly late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.engine.wheel import Wheel

STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0, 100), st.booleans()) | st.floats(0, 40) | st.just(1e6), max_size=40
)


@given(STEPS, st.floats(0.01, 3), st.floats(0, 1e6))
def test_everything_comes_once_never_early_and_at_most_a_resolution_late(
    steps: list[tuple[int, float, bool] | float], resolution_s: float, begin_s: float
) -> None:
    now_s, looked_s = begin_s, begin_s
    wheel: Wheel[int] = Wheel(resolution_s=resolution_s, now_s=now_s)
    due: dict[int, float] = {}
    for step in steps:
        if isinstance(step, tuple):
            item, wait_s, is_kept = step
            wheel.set(item, now_s + wait_s)
            due[item] = now_s + wait_s
            if not is_kept:
                wheel.discard(item)
                del due[item]
        else:
            looked_s, now_s = now_s, now_s + step
            came = wheel.turn(now_s)
            assert len(set(came)) == len(came)
            for item in came:
                assert due[item] <= now_s + 1e-6
                del due[item]
            for item, due_s in due.items():
                assert due_s > now_s - 2 * resolution_s - 1e-6, (item, looked_s)
        assert len(due) == len(wheel)


def test_one_that_is_set_again_comes_at_the_new_moment_alone() -> None:
    wheel: Wheel[str] = Wheel(resolution_s=1.0, now_s=0.0)
    wheel.set("a", 5.0)
    wheel.set("a", 50.0)
    assert [] == wheel.turn(20.0)
    assert ["a"] == wheel.turn(51.0)
    assert 0 == len(wheel)
