"""Whose request it is: what a proxy says counts only where it is listed, and only what listed ones have written."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.proxies import CHARS_MAX, HOPS_MAX, SILENT, Proxies, is_proxied
from broadcast.errors import SettingError

PEER = "127.0.0.1"
LISTED = Proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


def client(x_forwarded_for: str = "", forwarded: str = "", *, peer: str = PEER, proxies: Proxies = LISTED) -> str:
    told = {"x-forwarded-for": x_forwarded_for, "forwarded": forwarded}
    return proxies.client(peer, told).removesuffix(SILENT)


@pytest.mark.parametrize(
    ("x_forwarded_for", "expected"),
    [
        ("", PEER),
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::7]:4711, 10.0.0.1", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:10.1.1.1", "10.1.1.1"),
        ("6.6.6.6, unknown", PEER),
        ("6.6.6.6, ", PEER),
        ("6.6.6.6, _hidden, 10.0.0.2", "10.0.0.2"),
        ("6.6.6.6, 203.0.113.9%eth0", PEER),
        ("6.6.6.6, fe80::1%25x", PEER),
        ("6.6.6.6, 203.0.113", PEER),
        ("6.6.6.6, 0x7f.1", PEER),
        ("6.6.6.6, 203.0.113.09", PEER),
        ("6.6.6.6, 203.0.113.9\x00", PEER),
        ("6.6.6.6, <script>", PEER),
        ("6.6.6.6" + ", 10.0.0.1" * HOPS_MAX, "10.0.0.1"),
        ("12.3.4.5," + " " * (CHARS_MAX - 16) + "10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_chain_is_believed_from_the_right_up_to_the_first_that_is_not_listed(
    x_forwarded_for: str, expected: str
) -> None:
    assert expected == client(x_forwarded_for)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ("for=6.6.6.6, for=203.0.113.9, for=10.0.0.3", "203.0.113.9"),
        ('for="6.6.6.6, for=10.0.0.1", for=203.0.113.9', "203.0.113.9"),
        ('for=6.6.6.6, for="10.0.0.9', PEER),
        ("for=6.6.6.6, proto=https", PEER),
        ("for=6.6.6.6, for=_hidden", PEER),
        ("for=6.6.6.6;for=203.0.113.9", PEER),
        ("for", PEER),
        (";;;,,,", PEER),
        ("for=203.0.113.9," + " " * CHARS_MAX, PEER),
    ],
)
def test_the_standard_header_is_read_in_the_same_way(forwarded: str, expected: str) -> None:
    assert expected == client(forwarded=forwarded)


def test_who_is_not_listed_is_believed_nothing() -> None:
    for peer in ("203.0.113.7", "2001:db8::1", "", "unix", "127.0.0.2"):
        assert peer == client("6.6.6.6", peer=peer)
    assert PEER == client("6.6.6.6", proxies=Proxies([]))


def test_where_both_headers_stand_one_of_them_is_not_the_proxys() -> None:
    assert PEER == client("203.0.113.9", "for=6.6.6.6")


HOPS = st.sampled_from(
    ["6.6.6.6", "203.0.113.9", "10.0.0.1", "unknown", "", '"', "for=1", "[::1]", "fd00::1", "x" * 99]
)


@given(st.lists(HOPS, max_size=6), st.ip_addresses(v=4))
def test_nothing_that_a_client_sends_hides_the_address_its_proxy_saw(
    sent: list[str], seen: ipaddress.IPv4Address
) -> None:
    if LISTED.trusts(str(seen)):
        return
    assert str(seen) == client(", ".join([*sent, str(seen)]))
    assert str(seen) == client(forwarded=", ".join([f"for={hop}" for hop in sent if '"' not in hop] + [f"for={seen}"]))


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_an_address(x_forwarded_for: str, forwarded: str) -> None:
    ipaddress.ip_address(client(x_forwarded_for))
    ipaddress.ip_address(client(forwarded=forwarded))


def test_quotation_marks_that_are_never_closed_are_read_in_no_time_and_hide_nothing() -> None:
    began_s = time.process_time()
    assert PEER == client(forwarded='\\"' * 2_000)
    assert time.process_time() - began_s < 0.05
    assert "203.0.113.9" == client(forwarded='for=", for=203.0.113.9')


def test_lines_of_the_same_header_are_one_chain_and_the_scheme_is_told() -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https")]
    for peer, expected in ((PEER, (("203.0.113.9", 7), "https")), ("203.0.113.1", (("203.0.113.1", 7), "http"))):
        scope = {"client": (peer, 7), "scheme": "http", "headers": headers}
        LISTED.apply(scope)
        assert expected == (scope["client"], scope["scheme"])


def test_only_a_proxy_that_says_nothing_stands_for_all_who_come_by_it() -> None:
    for told in ({}, {"x-forwarded-for": "unknown"}, {"forwarded": "for=unknown"}, {"x-forwarded-for": "6.6.6.6, _x"}):
        assert f"{PEER}{SILENT}" == LISTED.client(PEER, told)
        assert Proxies.stands_for_all(LISTED.client(PEER, told)), told
    counted = [
        ({"x-forwarded-for": "203.0.113.9", "forwarded": "for=6.6.6.6"}, PEER),
        ({"x-forwarded-for": f"{PEER}, {PEER}"}, PEER),
        ({"x-forwarded-for": PEER}, PEER),
        ({"x-forwarded-for": f"unknown, {PEER}"}, PEER),
        ({"forwarded": "for=6.6.6.6;" + "x" * 5_000 + ", for=203.0.113.9"}, PEER),
        ({"x-forwarded-for": "203.0.113.9"}, "203.0.113.9"),
    ]
    for told, address in counted:
        assert address == LISTED.client(PEER, told), told
        assert not Proxies.stands_for_all(address)
    assert not Proxies.stands_for_all(Proxies([]).client(PEER, {}))


def test_what_is_no_address_is_refused_at_the_start() -> None:
    for wrong in ("localhost", "10.0.0.0/33", "*", "10.0.0.1-9"):
        with pytest.raises(SettingError, match=r"BROADCAST_TRUSTED_PROXIES.*127\.0\.0\.1,10\.0\.0\.0/8"):
            Proxies([wrong])


def test_a_proxy_gives_itself_away() -> None:
    assert is_proxied(["host", "via"]) and is_proxied(["x-forwarded-for"]) and not is_proxied(["host", "origin"])
