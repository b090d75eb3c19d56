"""Two grants on one bridge: each viewer has its own, whatever it asks for, and by whichever way it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import pytest

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from tests.bridges import BridgeProcess, EventStream, serving
from tests.servers import RedisServer
from tests.viewers import RawViewer, raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
KINDS: Final = ("sense.pain", "tool.shell")
EVENTS: Final = 20


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder = tmp_path_factory.mktemp("grants")
    with serving(shared_server.url, folder, constants=None, BROADCAST_SECRET=SECRET) as process:
        yield process


@pytest.fixture
def log(bridge: BridgeProcess, broadcaster: Broadcaster) -> Broadcaster:
    """So many events, half of each kind."""
    for i in range(EVENTS):
        broadcaster.emit(KINDS[i % 2], {"i": i})
    assert broadcaster.flush()
    bridge.wait_until_caught_up()
    return broadcaster


def token_for(types: str | None = None, **more: Any) -> str:
    return issue_token(SECRET, subject="x", types=types, ttl_s=60, **more)


def numbers(viewer: RawViewer) -> list[int]:
    return [event["data"]["i"] for event in viewer.events if "i" in event["data"]]


async def test_each_viewer_sees_what_its_own_token_allows_and_nothing_else(
    bridge: BridgeProcess, log: Broadcaster
) -> None:
    async def watch(types: str, transport: str, kind: int) -> None:
        async with raw_viewer(bridge.url, transport, token=token_for(types), types="*") as viewer:
            await viewer.until("position")
            for i, asked in enumerate(
                ({"types": "*"}, {"since": "0", "types": list(KINDS)}, {"types": KINDS[1 - kind]})
            ):
                await viewer.request("replay", asked, ack_id=i)
            await viewer.request("subscribe", {"types": ["*", KINDS[1 - kind]]}, ack_id=9)
            await viewer.until("ack", 4)
            assert [10, 10, 0] == [answer["count"] for _, answer in viewer.all("ack")[:3]]
            ready.release()
            await viewer.until_event(100 + kind)
        assert {KINDS[kind]} == {event["type"] for event in viewer.events}
        assert 31 == len(viewer.events)

    ready = asyncio.Semaphore(0)
    ways = [
        (types, transport, kind)
        for kind, types in enumerate(("sense.*", "tool.*"))
        for transport in ("websocket", "polling")
    ]
    async with asyncio.TaskGroup() as group:
        for way in ways:
            group.create_task(watch(*way))
        for _ in ways:
            await ready.acquire()
        for kind in (1, 0, 1, 0):
            log.emit(KINDS[kind], {"i": 100 + kind})
    for kind, types in enumerate(("sense.*", "tool.*")):
        headers = {"Authorization": f"Bearer {token_for(types)}"}
        async with EventStream(f"{bridge.url}", headers=headers) as stream:
            assert {KINDS[kind]} == {event["type"] for event in await stream.messages(12)}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_the_past_ends_where_the_grant_says(bridge: BridgeProcess, log: Broadcaster, transport: str) -> None:
    token = token_for(replay={"count": 5})
    async with raw_viewer(bridge.url, transport, token=token_for()) as everything:
        await everything.until("position")
    first = everything.events[2]
    for since, gaps in (
        (None, []),
        ("0", []),
        ("1h", [15]),
        (first["id"], [12]),
        ({"id": first["id"], "n": 3}, [12]),
    ):
        auth: dict[str, Any] = {} if since is None else {"since": since}
        async with raw_viewer(bridge.url, transport, is_narrow=False, token=token, **auth) as viewer:
            await viewer.until("position")
            await viewer.request("replay", {"count": 9}, ack_id=1)
            await viewer.request("replay", {"since": "0", "to": "2099-01-01"}, ack_id=2)
            await viewer.until("ack", 2)
        assert [*range(15, 20)] * 3 == numbers(viewer), since
        assert [("trimmed", lost) for lost in gaps] == [(gap["reason"], gap["lost"]) for gap in viewer.all("gap")], (
            since
        )
    async with raw_viewer(bridge.url, transport, token=token_for(replay={"count": 0})) as viewer:
        await viewer.until("position")
        await viewer.request("replay", {}, ack_id=1)
        assert "forbidden" == (await viewer.until("ack"))[1]["error"]["code"]
        assert [] == viewer.events
        log.emit("live", {"i": 1})
        await viewer.until_event(1)


async def test_an_event_stream_that_comes_back_is_told_what_its_grant_withholds(
    bridge: BridgeProcess, log: Broadcaster
) -> None:
    headers = {"Authorization": f"Bearer {token_for(replay={'back': '1h', 'count': 2})}"}
    async with EventStream(bridge.url, headers={"Authorization": f"Bearer {token_for()}"}) as stream:
        first = (await stream.messages(EVENTS))[0]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{bridge.url}/events", headers={**headers, "Last-Event-ID": first["id"]}) as response,
    ):
        text = ""
        while "event: position" not in text:
            text += (await response.content.readany()).decode()
    assert '"lost":17,"reason":"trimmed"' in text
    assert 2 == text.count('data: {"type":')
