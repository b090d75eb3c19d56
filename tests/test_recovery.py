"""The specification's plain `io(url)` page: it comes back by itself, and nothing is missing or doubled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from broadcast import Broadcaster
from tests.bridges import ROOT, BridgeProcess, Client, EventStream, serving
from tests.faults import FaultProxy
from tests.servers import RedisServer
from tests.test_node_client import NODE, NodeClient

CUTS = 10
SCRIPT = ROOT / "web" / "test" / "plain.mjs"


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as process:
        yield process


@pytest.fixture
def proxy(bridge: BridgeProcess) -> Iterator[FaultProxy]:
    between = FaultProxy(bridge.port)
    try:
        yield between
    finally:
        between.close()


@contextlib.asynccontextmanager
async def page(url: str, transports: str) -> AsyncIterator[NodeClient]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(NODE), str(SCRIPT), url, transports, stdin=pipe, stdout=pipe, limit=2**20
    )
    try:
        yield NodeClient(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket"])
async def test_a_plain_page_has_every_event_once_through_ten_abrupt_cuts(
    proxy: FaultProxy, broadcaster: Broadcaster, transports: str
) -> None:
    async with page(f"http://127.0.0.1:{proxy.port}", transports) as node:
        await node.until_got("connect")
        count = 0
        for cut in range(CUTS):
            before = count
            proxy.cut("reply", after=300, reset=True)  # in the middle of an event
            while count < before + 40 or proxy.cuts <= cut:
                broadcaster.emit("count", {"i": count})
                count += 1
                await asyncio.sleep(0.002)
            await node.until_got("event", before + 1)
        await node.until_got("event", count)
        await asyncio.sleep(0.3)  # a double would still come
        broadcaster.emit("count", {"i": count})
        await node.until_got("event", count + 1)
    assert list(range(count + 1)) == node.numbers
    assert [] == node.all("gap")
    assert CUTS == proxy.cuts
    assert len(node.all("connect")) > CUTS // 2
    assert all(connect["recovered"] for connect in node.all("connect")[1:])


async def test_a_page_that_comes_back_to_another_log_is_told_and_begins_anew(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    broadcaster.emit("count", {"i": 0})
    assert broadcaster.flush()
    async with Client(bridge.url, recovery=True, pid="of-another-log", offset="1-0") as client:
        await client.until_got("position")
        await client.until_got("event")  # which the bridge may have read only now
    assert ["reset"] == [gap["reason"] for gap in client.all("gap")]
    assert [0] == [event["data"]["i"] for event in client.events]


async def test_an_event_source_that_comes_back_to_another_log_with_its_id_alone_is_told_and_begins_anew(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    broadcaster.emit("count", {"i": 0})
    assert broadcaster.flush()
    async with EventStream(bridge.url) as stream:
        (last,) = await stream.messages(1)
    redis_client.flushall()
    redis_client.xadd("v5:stream", {"event": '{"type":"new","ts":"2026-02-14T19:01:23.456Z","data":{"i":9}}'})
    bridge.wait_until_caught_up()
    async with EventStream(bridge.url, headers={"Last-Event-ID": last["id"]}) as stream:
        frames = [await stream.next() for _ in range(5)]
    told = [(frame["event"], frame["data"]) for frame in frames if frame is not None]
    assert ["hello", "state", "gap", "position", "message"] == [name for name, _ in told]
    assert ("reset", last["id"]) == (told[2][1]["reason"], told[2][1]["after"])
    assert 9 == told[4][1]["data"]["i"]


async def test_recovery_is_spoken_to_browsers_and_to_whoever_asks(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    broadcaster.emit("count", {"i": 0})
    assert broadcaster.flush()
    assert await _frames(bridge, {}, "40") == (False, 1)
    assert await _frames(bridge, {"Origin": bridge.url}, "40") == (True, 2)
    assert await _frames(bridge, {"Sec-Fetch-Mode": "websocket"}, "40") == (True, 2)
    assert await _frames(bridge, {}, '40{"recovery":true}') == (True, 2)
    assert await _frames(bridge, {"Origin": bridge.url}, '40{"recovery":false}') == (False, 1)


async def test_what_is_replayed_does_not_move_the_place_of_who_recovers(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    broadcaster.emit("count", {"i": 0})
    assert broadcaster.flush()
    async with aiohttp.ClientSession() as session, session.ws_connect(_address(bridge)) as socket:
        # Through its catch-up or live, whichever it is: what comes after it is the replay's.
        await socket.send_str('40{"recovery":true,"catchup":1}')
        assert (await _until(socket, '42["event"')).endswith('"]')
        await socket.send_str('421["replay",{"count":1}]')
        event = await _until(socket, '42["event"')
    assert event.endswith("}]")


def _address(bridge: BridgeProcess) -> str:
    return bridge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"


async def _frames(bridge: BridgeProcess, headers: dict[str, str], connect: str) -> tuple[bool, int]:
    """Whether CONNECT names a `pid`, and how many arguments the first event has."""
    async with aiohttp.ClientSession() as session, session.ws_connect(_address(bridge), headers=headers) as socket:
        await socket.send_str(connect)
        answer = await _until(socket, "40{")
        event = await _until(socket, '42["event"')
    return "pid" in answer, 2 if event.endswith('"]') else 1


async def _until(socket: Any, beginning: str) -> str:
    async with asyncio.timeout(10):
        while not (text := str((await socket.receive()).data)).startswith(beginning):
            pass
    return text
