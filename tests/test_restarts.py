"""While events keep coming, something ends and comes back: a viewer that resumes by `since` has every event once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]

from tests.bridges import IGNORE_CLIENT, PATIENCE_S, BridgeProcess, Client, Reachable, emitter_to, serving
from tests.servers import RedisServer

PAUSE_S: Final = 0.004
TRANSPORTS: Final = (["websocket"], ["polling"], ["polling", "websocket"])
WAYS_TO_LOSE_THE_BRIDGE: Final = (
    socketio.exceptions.ConnectionError,
    aiohttp.ClientError,  # its answer to a poll stopped half way
    OSError,
    RuntimeError,  # aiohttp: the connection was gone before its answer was read
    TypeError,  # a WebSocket closed in the middle of its upgrade
)

pytestmark = IGNORE_CLIENT


@pytest.fixture
def bridge(own_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(own_server.url, tmp_path) as process:
        yield process


class Emission:
    """Numbers that are emitted until told to end."""

    def __init__(self, url: str) -> None:
        self.count = 0
        self.is_over = False
        self._emitter = emitter_to(url)

    async def run(self) -> None:
        while not self.is_over:
            self._emitter.emit("count", {"i": self.count})
            self.count += 1
            await asyncio.sleep(PAUSE_S)

    def close(self) -> None:
        self._emitter.close(1)


class ResumingViewer:
    """Comes back by itself, and says where it was, until it has all."""

    def __init__(self, bridge: Reachable, transports: list[str], emission: Emission) -> None:
        self.bridge = bridge
        self.transports = transports
        self.emission = emission
        self.place: dict[str, Any] | None = None
        self.seen: list[int] = []
        self.gaps: list[Any] = []
        self.connects = 0
        self.client: Client | None = None

    @property
    def has_all(self) -> bool:
        return self.emission.is_over and len(self.seen) >= self.emission.count

    async def run(self) -> None:
        while not self.has_all:
            client = self.client = Client(self.bridge.url, self.transports, since=self.place or "0", types="count")
            client.socket.on("hello", self._hello)
            client.socket.on("position", self._position)
            client.socket.on("event", self._event)
            client.socket.on("gap", self.gaps.append)
            try:
                async with client:
                    self.connects += 1
                    while client.is_read and not self.has_all:
                        await asyncio.sleep(0.02)
            except WAYS_TO_LOSE_THE_BRIDGE:
                await asyncio.sleep(0.05)

    def _hello(self, hello: dict[str, Any]) -> None:
        if hello["id"] is not None:
            self.place = {name: hello[name] for name in ("id", "n", "epoch")}

    def _position(self, position: dict[str, Any]) -> None:
        self.place = position

    def _event(self, event: dict[str, Any]) -> None:
        self.seen.append(event["data"]["i"])
        self.place = {"id": event["id"], "n": event["n"], "epoch": (self.place or {}).get("epoch")}


class Watch:
    """One viewer per transport, and what they watch."""

    def __init__(self, bridge: BridgeProcess, server: RedisServer) -> None:
        self.emission = Emission(server.url)
        self.viewers = [ResumingViewer(bridge, transports, self.emission) for transports in TRANSPORTS]

    @property
    def connects(self) -> list[int]:
        return [viewer.connects for viewer in self.viewers]

    async def until_live(self, *, connects: list[int] | None = None) -> None:
        """Wait until every viewer has what is emitted from now on, on another connection than those counted before."""
        target = self.emission.count + 20
        before = connects or [0] * len(self.viewers)
        async with asyncio.timeout(PATIENCE_S):
            while not all(viewer.seen[-1:] >= [target] for viewer in self.viewers) or not all(
                viewer.connects > count for viewer, count in zip(self.viewers, before, strict=True)
            ):
                await asyncio.sleep(0.01)

    async def until_all_is_had(self) -> None:
        self.emission.is_over = True
        async with asyncio.timeout(PATIENCE_S):
            while not all(viewer.has_all for viewer in self.viewers):
                await asyncio.sleep(0.01)

    def __str__(self) -> str:
        told = [(v.transports, len(v.seen), v.seen[-3:], v.gaps, v.connects, v.place) for v in self.viewers]
        return f"{self.emission.count} emitted; {told}"


@contextlib.asynccontextmanager
async def watched(bridge: BridgeProcess, server: RedisServer) -> AsyncIterator[Watch]:
    """Viewers while events are emitted; at the end each has had every event once, in order."""
    watch = Watch(bridge, server)
    runs = (watch.emission.run(), *(viewer.run() for viewer in watch.viewers))
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        await watch.until_live()
        yield watch
        await watch.until_all_is_had()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks)
    except TimeoutError:
        print(watch)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        watch.emission.close()
    for viewer in watch.viewers:
        assert list(range(watch.emission.count)) == viewer.seen, viewer.transports
        assert [] == viewer.gaps


async def test_the_bridge_is_killed_and_comes_back(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as watch:
        for _ in range(2):
            before = watch.connects
            await asyncio.to_thread(bridge.restart, signal.SIGKILL)
            await watch.until_live(connects=before)


async def test_the_bridge_is_stopped_and_comes_back(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as watch:
        before = watch.connects
        await asyncio.to_thread(bridge.restart)
        await watch.until_live(connects=before)


async def test_redis_restarts(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as watch:
        for away_s in (0.5, 0):
            await asyncio.to_thread(own_server.restart, away_s=away_s)
            await watch.until_live()
    assert [1, 1, 1] == watch.connects


async def test_connections_are_cut(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as watch:
        for _ in range(8):
            before = watch.connects
            for viewer in watch.viewers:
                await _cut(viewer.client)
            await watch.until_live(connects=before)


async def _cut(client: Client | None) -> None:
    """Close the client's sockets under it, without a word."""
    session = client.session if client is not None else None
    if session is None or session.connector is None:
        return
    held: list[Callable[[], None]] = [
        protocol.transport.abort for protocol in session.connector._acquired if protocol.transport is not None
    ]
    for abort in held:
        abort()
