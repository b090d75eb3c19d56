"""No token and no address takes more than its share; who is refused is told when to come back, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

import aiohttp
import pytest

from broadcast.bridge.access import issue_token
from tests.bridges import BridgeProcess, emitter_to, serving
from tests.servers import RedisServer
from tests.viewers import HANDSHAKE, raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
LIMITS: Final = {
    "BROADCAST_SECRET": SECRET,
    "BROADCAST_ANONYMOUS": "public",
    "BROADCAST_MAX_CONNECTIONS_PER_TOKEN": "2",
    "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS": "8",
    "BROADCAST_REQUESTS_PER_MINUTE": "60",
    "BROADCAST_REPLAY_EVENTS_PER_MINUTE": "30",
    "BROADCAST_TRUSTED_PROXIES": "127.0.0.1",
}


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with serving(shared_server.url, tmp_path_factory.mktemp("shares"), constants=None, **LIMITS) as process:
        yield process


def token_for() -> str:
    return issue_token(SECRET, subject="kai", types=None, ttl_s=60)


def ask(bridge: BridgeProcess, path: str, **headers: str) -> tuple[int, str, str | None]:
    """Status, code and Retry-After."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(bridge.url + path, headers=sent), timeout=5) as answer:
            return answer.status, "", None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()).get("code", ""), error.headers["Retry-After"]


async def test_a_token_has_so_many_connections_and_a_place_that_is_left_is_free_again(bridge: BridgeProcess) -> None:
    token, other = token_for(), token_for()
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(raw_viewer(bridge.url, "websocket", token=token))
        second = await stack.enter_async_context(raw_viewer(bridge.url, "polling", token=token))
        for viewer in (first, second):
            await viewer.until("position")
        async with raw_viewer(bridge.url, "websocket", token=token) as third:
            bye = await third.until("bye")
        assert ("too_many_connections", True) == (bye["code"], bye["reconnect"])
        assert (503, "too_many_connections", "5") == ask(bridge, "/events", Authorization=f"Bearer {token}")
        async with raw_viewer(bridge.url, "websocket", token=other) as stranger:
            await stranger.until("position")
            await stranger.request("token", {"token": token}, ack_id=1)
            assert "too_many_connections" == (await stranger.until("ack"))[1]["error"]["code"]
        first.abort()
        await asyncio.sleep(0.3)
        assert 200 == ask(bridge, "/events", Authorization=f"Bearer {token}")[0]


async def test_behind_a_listed_proxy_each_address_has_so_many_connections(bridge: BridgeProcess) -> None:
    async def come(stack: contextlib.AsyncExitStack, address: str) -> str:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await session.ws_connect(
            f"{bridge.url}{HANDSHAKE}websocket", headers={"X-Forwarded-For": f"6.6.6.6, {address}"}
        )
        stack.push_async_callback(socket.close)
        await socket.send_str('40{"catchup":0}')
        while True:
            message = await socket.receive_str()
            for name in ("hello", "bye"):
                if message.startswith(f'42["{name}"'):
                    return name

    async with contextlib.AsyncExitStack() as stack:
        assert ["hello"] * 8 + ["bye"] == [await come(stack, "203.0.113.9") for _ in range(9)]
        assert "hello" == await come(stack, "203.0.113.10")
        assert (503, "too_many_connections", "5") == ask(bridge, "/events", X_Forwarded_For="203.0.113.9")
        assert 200 == ask(bridge, "/events", X_Forwarded_For="203.0.113.11")[0]
        # Of IPv6, a household has as many addresses as it likes.
        assert ["hello"] * 8 + ["bye"] == [await come(stack, f"2001:db8::{i:x}") for i in range(1, 10)]
        assert (503, "too_many_connections", "5") == ask(bridge, "/events", X_Forwarded_For="2001:db8::ffff")
        assert "hello" == await come(stack, "2001:db8:0:1::1")


async def test_who_has_not_said_what_it_wants_takes_no_more_places_than_an_address_has(bridge: BridgeProcess) -> None:
    """Polling sessions are begun over one connection, as many as one likes."""
    path, mine = f"{HANDSHAKE}polling", {"X-Forwarded-For": "203.0.113.77"}
    async with aiohttp.ClientSession() as session:

        async def begin(**headers: str) -> tuple[int, str]:
            async with session.get(bridge.url + path, headers={**mine, **headers}) as answer:
                return answer.status, await answer.text()

        begun = [await begin() for _ in range(8)]
        assert {200} == {status for status, _ in begun}
        refused = await begin()
        assert refused[0] == 503 and "too_many_connections" in refused[1]
        assert 200 == (await begin(**{"X-Forwarded-For": "203.0.113.78"}))[0]
        households = [(await begin(**{"X-Forwarded-For": f"2001:db8:7::{i:x}"}))[0] for i in range(9)]
        assert [200] * 8 + [503] == households
        sid = json.loads(begun[0][1][1:])["sid"]
        async with session.post(f"{bridge.url}{path}&sid={sid}", data="40", headers=mine) as answer:
            assert 200 == answer.status  # a viewer now, and counted as one
        assert [200, 503] == [(await begin())[0] for _ in range(2)]
        statuses = [(await begin())[0] for _ in range(60)]
        assert (503, 429) == (statuses[0], statuses[-1])


async def test_an_address_and_a_token_have_so_many_requests_and_health_costs_none(bridge: BridgeProcess) -> None:
    token = f"Bearer {token_for()}"
    for i in range(60):  # from as many addresses as one likes
        assert 200 == ask(bridge, "/events", Authorization=token, X_Forwarded_For=f"198.51.100.{i}")[0]
    status, code, retry = ask(bridge, "/events", Authorization=token, X_Forwarded_For="198.51.100.99")
    assert (429, "too_many_requests", True) == (status, code, int(retry or 0) >= 1)
    codes = {bridge.get("/clients", {"X-Forwarded-For": "198.51.100.200"})[0] for _ in range(61)}
    assert {401, 429} == codes
    for path, expected in (("/healthz", 200), ("/readyz", 200), ("/", 200)):
        assert expected == bridge.get(path, {"X-Forwarded-For": "198.51.100.200"})[0]
    assert 200 == ask(bridge, "/events", X_Forwarded_For="198.51.100.201")[0]
    codes = {bridge.get("/clients", {"X-Forwarded-For": f"2001:db8:9::{i:x}"})[0] for i in range(61)}
    assert {401, 429} == codes


async def test_a_token_has_so_much_of_the_past_over_all_its_connections(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    emitter = emitter_to(valkey_server.url)
    for i in range(20):
        emitter.emit("public", {"i": i})
    assert emitter.flush()
    emitter.close(2)
    token, other = token_for(), token_for()
    async with (
        raw_viewer(bridge.url, "websocket", token=token) as one,
        raw_viewer(bridge.url, "websocket", token=token) as two,
        raw_viewer(bridge.url, "websocket", token=other) as stranger,
    ):
        for viewer in (one, two, stranger):
            await viewer.until_event(19)
        answers = []
        for i, viewer in enumerate((one, two, two, stranger)):
            await viewer.request("replay", {"count": 20}, ack_id=i)
            answers.append((await viewer.until("ack", 2 if i == 2 else 1))[1])
    assert [20, 20, None, 20] == [answer.get("count") for answer in answers]
    assert "too_many_requests" == answers[2]["error"]["code"]
