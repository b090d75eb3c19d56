"""What a client may have, and how many connections there may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.admission import LINGERING_MAX, Admission
from broadcast.bridge.engine.allowance import Allowance

STEPS = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=40)


@given(STEPS, st.floats(0.5, 50), st.floats(1, 50))
def test_never_more_passes_than_the_burst_and_what_flowed_in(
    steps: list[tuple[float, float]], rate: float, burst: float
) -> None:
    allowance, now_s, passed = Allowance(rate=rate, burst=burst), 0.0, 0.0
    for pause_s, cost in steps:
        now_s += pause_s
        if allowance.has(cost, now_s):
            passed += cost
        assert passed <= burst + rate * now_s + 1e-6


@given(STEPS, st.floats(0.5, 50), st.floats(1, 50))
def test_whoever_waits_as_long_as_he_is_told_keeps_the_rate(
    steps: list[tuple[float, float]], rate: float, burst: float
) -> None:
    allowance, now_s, passed = Allowance(rate=rate, burst=burst), 0.0, 0.0
    for pause_s, cost in steps:
        now_s += pause_s
        now_s += allowance.take(cost, now_s)
        passed += cost
        assert passed <= burst + rate * now_s + 1e-6


def test_without_a_rate_there_is_no_limit() -> None:
    allowance = Allowance(rate=0, burst=1)
    assert all(allowance.has(10**9, 0.0) for _ in range(10))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(0, 9), st.integers(0, 4))
def test_those_who_are_let_in_are_never_more_than_may_be(
    steps: list[tuple[str, bool]], connections_max: int, per_address_max: int
) -> None:
    admission = Admission(connections_max=connections_max, per_address_max=per_address_max, rate=0)
    inside: list[str] = []
    for address, comes in steps:
        if comes:
            refusal = admission.enter(address, 0.0)
            if refusal is None:
                inside.append(address)
            else:
                assert refusal.startswith("too many connections")
        elif address in inside:
            inside.remove(address)
            admission.leave(address)
        assert admission.connections == len(inside)
        assert not connections_max or len(inside) <= connections_max
        assert not per_address_max or inside.count(address) <= per_address_max


def test_who_is_refused_takes_nobodys_place_and_few_of_them_linger() -> None:
    admission = Admission(connections_max=20, per_address_max=10, rate=0)
    refusals = [admission.enter("a", 0.0) for _ in range(300)]
    assert [None] * 10 + ["too many connections from this address"] * 290 == refusals
    assert [None] * 10 + ["too many connections"] == [admission.enter(f"b{i}", 0.0) for i in range(11)]
    assert [True] * LINGERING_MAX + [False] == [admission.linger() for _ in range(LINGERING_MAX + 1)]
    admission.stop_lingering()
    assert admission.linger()


def test_new_connections_come_no_faster_than_the_rate() -> None:
    admission = Admission(connections_max=0, per_address_max=0, rate=5)
    assert [None] * 5 == [admission.enter("a", 0.0) for _ in range(5)]
    assert admission.enter("a", 0.0) == "too many new connections at once"
    assert admission.enter("a", 1.0) is None
    assert admission.refused == {"too many new connections at once": 1}
