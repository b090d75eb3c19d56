"""`GET /clients`: who is connected, what has arrived there, and how those who are gone went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.viewers import HANDSHAKE, raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
SHORT_PINGS: Final = {"engine.session.Limits.ping_interval_s": 0.3, "engine.session.Limits.ping_timeout_s": 20}
PATIENCE_S: Final = 20.0


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path, constants=SHORT_PINGS) as process:
        yield process


@pytest.fixture
def guarded_bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    # Reachable under a name, as behind a proxy on this machine.
    with serving(valkey_server.url, tmp_path, BROADCAST_SECRET=SECRET, BROADCAST_ORIGINS="https://mind.example") as it:
        yield it


def emit(broadcaster: Broadcaster, *numbers: int, type: str = "count", text: str = "") -> None:
    for i in numbers:
        broadcaster.emit(type, {"i": i, "text": text})
    assert broadcaster.flush()


async def told(bridge: BridgeProcess, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """What it tells once something holds of it."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(answer := await asyncio.to_thread(bridge.clients)):
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.02)
    return answer


@pytest.mark.parametrize("transport", ["websocket", "polling", "sse"])
async def test_a_viewer_is_told_of_with_its_filter_its_place_and_what_it_was_sent(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, *range(5))
    bridge.wait_until_caught_up()
    async with raw_viewer(bridge.url, transport, types="*,-rare") as viewer:
        await viewer.until_event(4)
        emit(broadcaster, 5, 6)
        emit(broadcaster, 7, type="rare")
        await viewer.until_event(6)
        answer = await told(bridge, lambda answer: [8] == [each["position"]["n"] for each in answer["clients"]])
    (client,) = answer["clients"]
    id = client.pop("id")
    assert (id is None) is (transport == "sse")
    assert 0 <= client.pop("connected_s") < 60
    assert client == {
        "transport": transport,
        "address": "127.0.0.1",
        "subject": "anonymous",
        "types": ["*", "-rare"],
        "state": "live",
        "position": answer["head"],
        "lag": 0,
        "waiting_bytes": client["waiting_bytes"],
        "sent": 7,
        "confirmed": client["confirmed"],
        "gaps": 0,
    }
    assert 0 <= client["waiting_bytes"] < 1000
    assert 5 <= answer["beat_ms"]
    assert 1 <= answer["rounds"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_what_had_arrived_when_a_ping_was_answered_is_confirmed(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    async with raw_viewer(bridge.url, transport) as viewer:
        await viewer.until("position")
        emit(broadcaster, 0, 1, 2)
        reading = asyncio.create_task(viewer.until_end())  # which answers the pings
        answer = await told(bridge, lambda answer: (answer["clients"][0]["confirmed"] or {}).get("n") == 3)
        assert answer["head"] == answer["clients"][0]["confirmed"]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_what_was_written_behind_a_ping_is_not_confirmed_by_its_answer(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    address = f"{bridge.url.replace('http', 'ws')}{HANDSHAKE}websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as ws:
        await ws.send_str("40")
        async with asyncio.timeout(PATIENCE_S):
            while (await ws.receive_str()) != "2":
                pass
        emit(broadcaster, 0)
        answer = await told(bridge, lambda answer: answer["clients"][0]["position"]["n"] == 1)
        assert answer["clients"][0]["confirmed"] is None
        await ws.send_str("3")
        answer = await told(bridge, lambda answer: answer["clients"][0]["confirmed"] is not None)
        assert {"id": "0-0", "n": 0} == answer["clients"][0]["confirmed"]


async def test_a_viewer_that_lags_shows_by_how_much_and_what_waits(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path
) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="200") as bridge:
        async with raw_viewer(bridge.url, "websocket", is_narrow=True) as viewer:
            await viewer.until("position")
            emit(broadcaster, *range(400), text="x" * 50_000)  # more than all buffers on the way take

            def stands(answer: dict[str, Any]) -> bool:
                return bool(answer["head"]["n"] == 400 and answer["clients"][0]["waiting_bytes"] > 0)

            answer = await told(bridge, stands)
            (client,) = answer["clients"]
            assert "catching up" == client["state"]
            assert 400 == client["lag"] + client["position"]["n"]
            assert 0 < client["lag"]  # of some 200, once it has been lapped
            assert 0 < client["waiting_bytes"] < 1024 * 1024  # it was full; the kernel has taken some since
            await viewer.until_event(399)
            answer = await told(bridge, lambda answer: answer["clients"][0]["lag"] == 0)
            (client,) = answer["clients"]
        assert len(viewer.all("gap")) == client["gaps"] >= 1
        assert len(viewer.events) == client["sent"]


async def test_how_a_viewer_went_is_kept(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    emit(broadcaster, 0)
    for transport in ("websocket", "polling"):
        async with raw_viewer(bridge.url, transport) as viewer:
            await viewer.until_event(0)
            await viewer.send("41")
            await told(bridge, lambda answer: not answer["clients"])
    async with raw_viewer(bridge.url, "websocket") as viewer:
        await viewer.until_event(0)
        viewer.abort()
        await told(bridge, lambda answer: not answer["clients"])
    async with raw_viewer(bridge.url, "websocket") as viewer:
        await viewer.until_event(0)
        await viewer.send("no packet")
        await told(bridge, lambda answer: not answer["clients"])
    async with raw_viewer(bridge.url, "sse") as viewer:
        await viewer.until_event(0)
    answer = await told(bridge, lambda answer: len(answer["gone"]) == 5)
    assert [
        ("websocket", "left", "client disconnect"),
        ("polling", "left", "client disconnect"),
        ("websocket", "left", "transport close"),
        ("websocket", "bad_request", "parse error"),
        ("sse", "left", ""),
    ] == [(end["transport"], end["how"], end["reason"]) for end in answer["gone"]]
    assert {1} == {end["sent"] for end in answer["gone"]}
    assert {1} == {end["position"]["n"] for end in answer["gone"]}


async def test_who_was_told_to_go_is_told_of_with_the_code(guarded_bridge: BridgeProcess) -> None:
    token = issue_token(SECRET, subject="kai", types=None, ttl_s=2)
    async with raw_viewer(guarded_bridge.url, "websocket", token=token) as viewer:
        await viewer.until("bye")
    answer = await told(guarded_bridge, lambda answer: answer["gone"])
    assert ["expired"] == [end["how"] for end in answer["gone"]]
    assert ["kai"] == [end["subject"] for end in answer["gone"]]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"Via": "1.1 proxy"},
        {"Host": "mind.example"},
        {},  # a proxy that adds nothing, or this machine: it cannot be told
    ],
    ids=str,
)
async def test_once_there_are_tokens_only_administrators_are_told_wherever_they_ask(
    guarded_bridge: BridgeProcess, headers: dict[str, str]
) -> None:
    for refused, status in (
        ({}, 401),
        ({"Authorization": f"Bearer {issue_token(SECRET, subject='x', types=None, ttl_s=60)}"}, 403),
        ({"Authorization": "Bearer nonsense"}, 401),
    ):
        answered, body = guarded_bridge.get("/clients", {**headers, **refused})
        assert status == answered, body
        assert '"clients"' not in body
    admin = issue_token(SECRET, subject="x", types=None, ttl_s=60, is_admin=True)
    status, body = guarded_bridge.get("/clients", {**headers, "Authorization": f"Bearer {admin}"})
    assert (200, True) == (status, '"clients":[]' in body)


async def test_without_a_secret_nobody_is_told_through_a_proxy(bridge: BridgeProcess) -> None:
    forged = issue_token(SECRET, subject="x", types=None, ttl_s=60, is_admin=True)
    for more in ({}, {"Authorization": f"Bearer {forged}"}):
        status, body = bridge.get("/clients", {"X-Forwarded-For": "203.0.113.9", **more})
        assert (403, True) == (status, '"code":"forbidden_proxy"' in body)
    assert 403 == bridge.get("/clients", {"Host": "mind.example"})[0]
