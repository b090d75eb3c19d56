"""Redis sees no command for a viewer: it is the ring that serves them, however many come, resume and ask."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis

from tests.bridges import BridgeProcess, emitter_to, serving
from tests.servers import RedisServer
from tests.viewers import RawViewer, raw_viewer

AT_ONCE: Final = 20
VIEWERS: Final = 200
QUIET_S: Final = 6.0
EVENTS: Final = 1000
WAYS: Final = ("websocket", "websocket", "polling", "sse")
"""Viewer by viewer, in turn."""


@pytest.fixture
def bridge(own_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(own_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="500") as process:
        yield process


def commands(client: redis.Redis) -> Counter[str]:
    """How often each command was called, ours apart."""
    told = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    counts = {name.removeprefix("cmdstat_"): int(facts["calls"]) for name, facts in told.items()}
    ours = ("info", "hello", "client|setinfo", "client|setname", "select", "ping")
    return Counter({name: count for name, count in counts.items() if name not in ours})


async def test_no_command_reaches_redis_for_a_viewer_whatever_it_asks(
    bridge: BridgeProcess, own_server: RedisServer
) -> None:
    emitter = emitter_to(own_server.url)
    for i in range(EVENTS):
        emitter.emit(("often", "rare")[i % 10 == 0], {"i": i})
    assert emitter.flush()
    emitter.close(5)  # so that nothing but the bridge speaks to Redis
    bridge.wait_until_caught_up()
    loop = asyncio.get_running_loop()
    with own_server.client() as client:
        await asyncio.sleep(0.5)
        before = commands(client)
        await asyncio.sleep(QUIET_S)
        # The reader's reads that find nothing, and the presence of producers.
        rate = {name: count / QUIET_S for name, count in (commands(client) - before).items()}
        before, began_s = commands(client), loop.time()
        for first in range(0, VIEWERS, AT_ONCE):
            await asyncio.gather(*(_visit(bridge, i) for i in range(first, first + AT_ONCE)))
        took_s = loop.time() - began_s
        caused = commands(client) - before
    allowed = {name: rate.get(name, 0) * took_s * 1.5 + 12 for name in caused}
    assert {} == {name: count for name, count in caused.items() if count > allowed[name]}
    # What is allowed is far less than one command a viewer would be.
    assert sum(caused.values()) < VIEWERS + sum(rate.values()) * took_s


async def _visit(bridge: BridgeProcess, i: int) -> None:
    """Connect, ask for whatever can be asked, and come back where one was."""
    transport = WAYS[i % len(WAYS)]
    async with raw_viewer(bridge.url, transport, catchup=50) as viewer:
        await viewer.until("position")
        assert 50 == len(viewer.events)
        if transport != "sse":
            await _ask(viewer)
        place = viewer.all("position")[-1] if transport != "sse" else viewer.events[0]
        known = viewer.events[10]
    async with raw_viewer(bridge.url, transport, since=place) as viewer:
        await viewer.until("position")
        assert [] == viewer.all("gap")
    async with raw_viewer(bridge.url, transport, since=known["id"]) as viewer:
        await viewer.until_event(EVENTS - 1)


async def _ask(viewer: RawViewer) -> None:
    await viewer.request("subscribe", {"types": ["often"]}, 1)
    assert ["often"] == (await viewer.until("ack", 1))[1]["types"]
    await viewer.request("replay", {"count": 20, "types": "rare"}, 2)
    assert 20 == (await viewer.until("ack", 2))[1]["count"]
    await viewer.request("replay", {"since": viewer.events[0]["id"], "count": 30}, 3)
    assert 30 == (await viewer.until("ack", 3))[1]["count"]
