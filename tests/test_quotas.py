"""How much each may have: nobody more than its rate, and nobody less for what others take."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.admission import Admission
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.quotas import Places, Quotas

STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30), st.integers(1, 5)), max_size=60)


@given(STEPS, st.sampled_from([6, 60, 600]))
def test_nobody_gets_more_than_a_minutes_worth_and_the_rate_and_others_do_not_count(
    steps: list[tuple[str, float, int]], per_minute: int
) -> None:
    quotas, alone = Quotas(per_minute), Quotas(per_minute)
    now_s, had = 0.0, {"a": 0, "b": 0}
    for key, pause_s, cost in steps:
        now_s += pause_s
        wait_s = quotas.wait_s(key, now_s, cost=cost)
        if key == "a":
            assert wait_s == alone.wait_s(key, now_s, cost=cost)
        if wait_s > 0 and key == "b":  # it waits as long as it was told, and a moment for what was rounded
            now_s += wait_s + 1e-6
            wait_s = quotas.wait_s(key, now_s, cost=cost)
            assert wait_s == 0
        had[key] += cost if wait_s == 0 else 0
        assert had[key] <= per_minute + now_s * per_minute / 60 + 1e-6


def test_what_was_taken_beyond_it_has_to_be_waited_for() -> None:
    quotas = Quotas(60)
    quotas.take("a", 90, 0)
    assert 30 == quotas.wait_s("a", 0)
    assert 0 == quotas.wait_s("a", 30)
    assert 0 == quotas.wait_s("b", 0)


def test_without_a_limit_nothing_is_counted_and_with_many_keys_the_oldest_goes() -> None:
    free, few = Quotas(0), Quotas(1, keys_max=10)
    for i in range(100):
        free.take(str(i), 10**9, 0)
        assert 0 == free.wait_s(str(i), 0, cost=10**9)
        few.take(str(i), 2, 0)
    assert (0, 10) == (len(free), len(few))
    assert few.wait_s("99", 0) > 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=40), st.integers(0, 3))
def test_places_are_as_many_as_there_are(steps: list[tuple[str, bool]], most: int) -> None:
    places, here = Places(most), {"a": 0, "b": 0}
    for key, comes in steps:
        if comes:
            had_room = places.has_room(key)
            here[key] += 1
            assert had_room == places.enter(key) == (most == 0 or here[key] <= most)
        elif here[key]:
            here[key] -= 1
            places.leave(key)
    assert len(places) == sum(count > 0 for count in here.values())


def test_a_proxy_is_not_one_address_and_each_address_has_a_rate() -> None:
    admission = Admission(
        connections_max=0, per_address_max=2, rate=0, rate_per_address=3, is_proxy=lambda address: address == "proxy"
    )
    assert not any(admission.enter("proxy", 0) for _ in range(50))
    assert [None, None, "too many connections from this address"] == [admission.enter("a", 0) for _ in range(3)]
    for _ in range(2):
        admission.leave("a")
    assert None is admission.enter("a", 0)
    admission.leave("a")
    assert "too many new connections at once from this address" == admission.enter("a", 0)
    assert None is admission.enter("b", 0)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/broadcast.sock", "/run/broadcast.sock"),
    ],
)
def test_what_an_address_is_counted_under(address: str, expected: str) -> None:
    assert expected == network_of(address)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_that_one_household_has_of_ipv6_is_one(address: ipaddress.IPv6Address, other: int) -> None:
    neighbour = ipaddress.IPv6Address((int(address) >> 64 << 64) + other)
    stranger = ipaddress.IPv6Address(int(address) ^ 1 << 64)
    is_mapped = any(each.ipv4_mapped for each in (address, neighbour))
    assert is_mapped or network_of(str(address)) == network_of(str(neighbour))
    assert network_of(str(address)) != network_of(str(stranger))


def test_whoever_has_a_network_of_ipv6_is_admitted_as_one_address_is() -> None:
    admission = Admission(connections_max=0, per_address_max=2, rate=0, rate_per_address=3)
    mine = [f"2001:db8::{i}" for i in range(1, 4)]
    assert [None, None, "too many connections from this address"] == [admission.enter(each, 0) for each in mine]
    assert None is admission.enter("2001:db8:0:1::1", 0)
    for each in mine[:2]:
        admission.leave(each)
    assert None is admission.enter("2001:db8::8", 0)
    admission.leave("2001:db8::8")
    assert "too many new connections at once from this address" == admission.enter("2001:db8::9", 0)
