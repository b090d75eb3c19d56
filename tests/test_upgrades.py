"""A request to upgrade meets what every other request meets: the same client, the same origin, the same limits."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import pytest

from broadcast.bridge.access import issue_token
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.viewers import HANDSHAKE

Lines = Sequence[tuple[str, str]]
PROXIED: Final = {
    "BROADCAST_TRUSTED_PROXIES": "127.0.0.1",
    "BROADCAST_ANONYMOUS": "read",
    "BROADCAST_ORIGINS": "https://mind.example",
    "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS": "0",
}


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with serving(shared_server.url, tmp_path_factory.mktemp("upgrades"), **cast("Any", PROXIED)) as process:
        yield process


@contextlib.contextmanager
def asked(
    bridge: BridgeProcess, lines: Lines, *, query: str = "", path: str = f"{HANDSHAKE}websocket"
) -> Iterator[tuple[int, str]]:
    """The status of a request to upgrade, and what came with it; the connection is held meanwhile."""
    head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "127.0.0.1"), *lines])
    with socket.create_connection(("127.0.0.1", bridge.port), 5) as connection:
        connection.sendall(
            f"GET {path}{query} HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        answer = connection.recv(4096)
        yield int(answer.split()[1]), answer.decode("latin-1")


def status(bridge: BridgeProcess, *lines: tuple[str, str], query: str = "") -> int:
    with asked(bridge, lines, query=query) as (found, _):
        return found


def test_a_page_without_tls_is_another_origin_where_a_listed_proxy_ends_it(bridge: BridgeProcess) -> None:
    page, client = ("Origin", "http://127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")
    assert 101 == status(bridge, page, client)
    assert 403 == status(bridge, page, client, ("X-Forwarded-Proto", "https"))
    assert 101 == status(bridge, ("Origin", "https://127.0.0.1"), client, ("X-Forwarded-Proto", "https"))
    told = bridge.get("/events", {"Host": "127.0.0.1", "Origin": page[1], "X-Forwarded-Proto": "https"})
    assert 403 == told[0]


def test_a_field_or_a_header_that_stands_twice_hides_nothing(bridge: BridgeProcess) -> None:
    token = issue_token("0123456789abcdef0123456789abcdef", subject="kai", types=None, ttl_s=60)
    for query in (f"&x={token}", f"&x={token}&x=1", f"&x=1&x={token}", "&token=a&token=", "&bearer=a"):
        assert 400 == status(bridge, query=query), query
    assert 403 == status(bridge, ("Origin", "https://evil.example"), ("Origin", "http://127.0.0.1"))
    forwarded = [("X-Forwarded-For", "203.0.113.77"), ("X-Forwarded-For", "127.0.0.1")]
    with asked(bridge, forwarded) as (found, _):
        assert 101 == found
        assert 256 == _begun(bridge, "203.0.113.77", 257)[0] + 1, "it is the same client over both"


def test_an_address_that_cannot_be_read_is_not_found(bridge: BridgeProcess) -> None:
    with asked(bridge, [], path="//[x?EIO=4&transport=websocket") as (found, _):
        assert 404 == found  # and no traceback in the log


def _begun(bridge: BridgeProcess, address: str, count: int, **headers: str) -> tuple[int, int]:
    """How many of so many polling sessions an address could begin, and the last answer."""
    told = {"X-Forwarded-For": address, **headers}
    answers = [bridge.get(f"{HANDSHAKE}polling", told)[0] for _ in range(count)]
    return answers.count(200), answers[-1]


def test_sessions_that_say_nothing_are_bounded_also_where_connections_are_not(bridge: BridgeProcess) -> None:
    assert (256, 503) == _begun(bridge, "203.0.113.80", 257)
    assert (1, 200) == _begun(bridge, "203.0.113.81", 1)
    # The proxy itself stands for all whom it says nothing of; not for who has it say two things, or comes from where
    # proxies are listed.
    assert (300, 200) == _begun(bridge, "unknown", 300)
    assert (256, 503) == _begun(bridge, "127.0.0.1", 257)
    assert (0, 503) == _begun(bridge, "203.0.113.82", 1, Forwarded="for=203.0.113.83")


def test_on_a_full_bridge_who_has_a_place_upgrades_and_newcomers_are_refused(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    limit = cast("Any", {"BROADCAST_MAX_CONNECTIONS": "1"})
    with serving(shared_server.url, tmp_path_factory.mktemp("full"), **limit) as bridge:
        told, opening = bridge.get(f"{HANDSHAKE}polling")
        assert 200 == told
        assert 101 == status(bridge, query=f"&sid={json.loads(opening[1:])['sid']}")
        assert 503 == status(bridge)
        assert 503 == bridge.get(f"{HANDSHAKE}polling")[0]
        assert 400 == status(bridge, query="&sid=nobody"), "no place for a newcomer who says that he is none"


@pytest.mark.parametrize(
    ("variable", "refusal"), [("BROADCAST_CONNECT_RATE_PER_ADDRESS", 503), ("BROADCAST_REQUESTS_PER_MINUTE", 429)]
)
def test_behind_a_listed_proxy_the_rates_are_those_of_each_address(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, variable: str, refusal: int
) -> None:
    limits = cast("Any", {**PROXIED, variable: "5"})
    with serving(shared_server.url, tmp_path_factory.mktemp("rates"), **limits) as bridge:
        found = [status(bridge, ("X-Forwarded-For", "203.0.113.9")) for _ in range(12)]
        assert [101] * 5 == found[:5]
        assert refusal in found[5:]
        assert 101 == status(bridge, ("X-Forwarded-For", "203.0.113.10"))
        with asked(bridge, [("X-Forwarded-For", "203.0.113.9")]) as (again, answer):
            assert again == refusal and "retry-after" in answer.lower()
