"""Chaos around the bridge: random faults while viewers watch, and as many connects as a day has. `make chaos`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from broadcast import Broadcaster
from tests.bridges import BridgeProcess, emitter_to, serving
from tests.resumers import FILTERS, WAYS, Resumer, type_of
from tests.servers import RedisServer
from tests.viewers import raw_viewer

LASTS_S: Final = 90.0
VIEWERS: Final = 20
PATIENCE_S: Final = 90.0
CONNECTS: Final = 10_000
WARM_UP: Final = 4_000
AT_ONCE: Final = 25
SHORT_PINGS: Final = {"engine.session.Limits.ping_interval_s": 3.0, "engine.session.Limits.ping_timeout_s": 5.0}
SEED: Final = int(os.environ.get("CHAOS_SEED") or time.time())

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


class Chaos:
    """What can happen; each method is one thing."""

    def __init__(self, bridge: BridgeProcess, server: RedisServer, viewers: list[Resumer], random: Random) -> None:
        self.bridge = bridge
        self.server = server
        self.viewers = viewers
        self.random = random
        self.done: list[str] = []

    def some(self) -> list[Resumer]:
        return self.random.sample(self.viewers, self.random.randint(1, 6))

    async def bridge_is_killed(self) -> None:
        await asyncio.to_thread(self.bridge.restart, signal.SIGKILL)

    async def bridge_restarts(self) -> None:
        await asyncio.to_thread(self.bridge.restart)

    async def redis_restarts(self) -> None:
        await asyncio.to_thread(self.server.restart, away_s=self.random.uniform(0, 1))

    async def redis_is_killed(self) -> None:
        await asyncio.to_thread(self.server.restart, signal.SIGKILL)

    async def log_is_trimmed(self) -> None:
        with self.server.client() as client:
            client.xtrim("v5:stream", maxlen=self.random.randint(10, 300), approximate=False)

    async def log_is_flushed(self) -> None:
        with self.server.client() as client:
            client.flushall()

    async def connections_are_cut(self) -> None:
        for viewer in self.some():
            if viewer.viewer is not None:
                viewer.viewer.abort()

    async def viewers_stall(self) -> None:
        for viewer in self.some():
            viewer.stalled_s = self.random.uniform(0.5, 4)

    async def viewers_ask(self) -> None:
        for viewer in self.some():
            if viewer.viewer is not None and viewer.way != "sse":
                viewer.replays += 2
                asking = viewer.viewer
                requests = (("subscribe", {"types": viewer.types}), ("replay", {"count": self.random.randint(1, 100)}))
                for name, data in requests:
                    try:
                        await asking.request(name, data)
                    except Exception:  # it is not connected just now
                        viewer.replays -= 1

    async def run(self, lasts_s: float) -> None:
        often = (self.connections_are_cut, self.viewers_stall, self.viewers_ask)
        rare = (self.bridge_is_killed, self.bridge_restarts, self.redis_restarts, self.redis_is_killed)
        acts = [*often * 4, *rare * 2, *(self.log_is_trimmed,) * 3, self.log_is_flushed]
        until_s = time.monotonic() + lasts_s
        while time.monotonic() < until_s:
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            act = self.random.choice(acts)
            self.done.append(act.__name__)
            await act()


async def test_every_viewer_has_every_event_once_and_in_order_or_a_gap_that_accounts_for_it(
    own_server: RedisServer, tmp_path: Path
) -> None:
    print(f"CHAOS_SEED={SEED}")
    random = Random(SEED)
    with serving(own_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="300") as bridge:
        ways = [(WAYS[k % len(WAYS)], FILTERS[k // len(WAYS) % len(FILTERS)]) for k in range(VIEWERS)]
        viewers = [Resumer(bridge.url, way, types, Random(SEED + k)) for k, (way, types) in enumerate(ways)]
        emitter, emitted = emitter_to(own_server.url), 0

        async def emit_for_ever() -> None:
            nonlocal emitted
            while True:
                emitter.emit(type_of(emitted), {"i": emitted})
                emitted += 1
                await asyncio.sleep(0.01)

        watching = [asyncio.create_task(viewer.run()) for viewer in viewers]
        emission = asyncio.create_task(emit_for_ever())
        chaos = Chaos(bridge, own_server, viewers, random)
        await chaos.run(LASTS_S)
        emission.cancel()
        await asyncio.to_thread(emitter.flush, 20)
        await _until_all_are_at(viewers, emitter, emitted)
        assert not any(task.done() for task in watching)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        emitter.close(2)
    print({name: chaos.done.count(name) for name in sorted(set(chaos.done))}, emitted, "events")
    assert [] == [fault for viewer in viewers for fault in viewer.faults]
    assert all(viewer.connects > 3 for viewer in viewers)


async def _until_all_are_at(viewers: list[Resumer], emitter: Broadcaster, first: int) -> None:
    """Emit some more for everybody until everybody has the last."""
    for i in range(first, first + 30):
        emitter.emit(type_of(i), {"i": i})
    await asyncio.to_thread(emitter.flush, 20)
    ends = {types: max(i for i in range(first + 30) if Resumer("", "", types, Random()).wants(i)) for types in FILTERS}
    deadline = time.monotonic() + PATIENCE_S
    while behind := [viewer for viewer in viewers if viewer.last < ends[viewer.types]]:
        assert time.monotonic() < deadline, behind
        await asyncio.sleep(0.1)


async def test_a_day_of_connects_leaves_nothing_behind(own_server: RedisServer, tmp_path: Path) -> None:
    emitter = emitter_to(own_server.url)
    for i in range(200):
        emitter.emit("count", {"i": i})
    assert emitter.flush()
    emitter.close(2)
    # A session over polling that nobody asks for any more is one until its ping is not answered.
    # And all of them come from this address, faster than one may.
    constants = {**SHORT_PINGS, "app.IDLE_PER_ADDRESS_MAX": 10_000.0}
    limits = dict.fromkeys(("BROADCAST_MAX_CONNECTIONS", "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS"), "20000")
    limits["BROADCAST_REQUESTS_PER_MINUTE"] = "0"
    with serving(own_server.url, tmp_path, constants=constants, **limits) as bridge:
        bridge.wait_until_caught_up()
        await _connect_many(bridge, WARM_UP)
        before = await _counts(bridge)
        began = time.monotonic()
        await _connect_many(bridge, CONNECTS)
        took_s = time.monotonic() - began
        after = await _counts(bridge)
        print(f"{CONNECTS} connects in {took_s:.0f} s", before, after)
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["tasks"] <= before["tasks"] + 2
    assert after["objects"] <= before["objects"] * 1.02 + 200
    assert after["ours"] == before["ours"]
    assert after["resident_kib"] - before["resident_kib"] < 20_000


async def _connect_many(bridge: BridgeProcess, count: int) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def connect(k: int) -> None:
        async with turn, raw_viewer(bridge.url, WAYS[k % len(WAYS)], catchup=5) as viewer:
            await viewer.until("event", 5)
            if k // len(WAYS) % 2:
                viewer.abort()
            elif WAYS[k % len(WAYS)] != "sse":
                await viewer.send("41")

    for first in range(0, count, 500):
        await asyncio.gather(*(connect(k) for k in range(first, first + 500)))


async def _counts(bridge: BridgeProcess) -> dict[str, Any]:
    """What there is once nobody is connected any more."""
    deadline = time.monotonic() + 60
    while left := (await asyncio.to_thread(bridge.clients))["clients"]:
        assert time.monotonic() < deadline, left[:3]
        await asyncio.sleep(0.5)
    await asyncio.sleep(8)  # sessions that nobody is in any more, and the timers of the last connections, run out
    printed = bridge.log.read_text().count("counts {")
    os.kill(bridge.pid, signal.SIGUSR1)
    while bridge.log.read_text().count("counts {") == printed:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    line = [line for line in bridge.log.read_text().splitlines() if line.startswith("counts {")][-1]
    counts: dict[str, Any] = json.loads(line.removeprefix("counts "))
    return {**counts, "descriptors": bridge.descriptors(), "resident_kib": bridge.resident_kib()}
