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

from tests.bridges import IGNORE_CLIENT, BridgeProcess, Client, emitter_to, serving
from tests.servers import RedisServer

EVENTS: Final = 1200
PAUSE_S: Final = 0.005
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


class ResumingViewer:
    """Comes back by itself, and says where it was."""

    def __init__(self, bridge: BridgeProcess, transports: list[str]) -> None:
        self.bridge = bridge
        self.transports = transports
        self.place: dict[str, Any] | None = None
        self.seen: list[int] = []
        self.gaps: list[Any] = []
        self.connects = 0
        self.client: Client | None = None

    async def run(self) -> None:
        while len(self.seen) < EVENTS:
            client = self.client = Client(self.bridge.url, self.transports, since=self.place or "0")
            client.socket.on("hello", self._hello)
            client.socket.on("position", self._position)
            client.socket.on("event", self._event)
            client.socket.on("gap", self.gaps.append)
            try:
                async with client:
                    self.connects += 1
                    while client.socket.eio.state == "connected" and len(self.seen) < EVENTS:
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


@contextlib.asynccontextmanager
async def watched(bridge: BridgeProcess, server: RedisServer) -> AsyncIterator[list[ResumingViewer]]:
    """One viewer per transport while events are emitted; at the end each has had every event once, in order."""
    viewers = [ResumingViewer(bridge, transports) for transports in TRANSPORTS]
    emitter = emitter_to(server.url)

    async def emit_all() -> None:
        for i in range(EVENTS):
            emitter.emit("count", {"i": i})
            await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    emission = asyncio.create_task(emit_all())
    await asyncio.sleep(1)
    try:
        yield viewers
        await emission
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
    except TimeoutError:
        for viewer in viewers:
            print(viewer.transports, len(viewer.seen), viewer.seen[-3:], viewer.gaps, viewer.connects, viewer.place)
        raise
    finally:
        for task in (*tasks, emission):
            task.cancel()
        await asyncio.gather(*tasks, emission, return_exceptions=True)
        emitter.close(1)
    for viewer in viewers:
        assert list(range(EVENTS)) == viewer.seen, viewer.transports
        assert [] == viewer.gaps


async def test_the_bridge_is_killed_and_comes_back(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as viewers:
        for _ in range(2):
            await asyncio.to_thread(bridge.restart, signal.SIGKILL)
            await asyncio.sleep(0.8)
    assert all(viewer.connects >= 3 for viewer in viewers)


async def test_the_bridge_is_stopped_and_comes_back(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as viewers:
        await asyncio.to_thread(bridge.restart)
    assert all(viewer.connects >= 2 for viewer in viewers)


async def test_redis_restarts(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as viewers:
        await asyncio.to_thread(own_server.restart, away_s=0.5)
        await asyncio.sleep(1)
        await asyncio.to_thread(own_server.restart)
    assert {1} == {viewer.connects for viewer in viewers}


async def test_connections_are_cut(bridge: BridgeProcess, own_server: RedisServer) -> None:
    async with watched(bridge, own_server) as viewers:
        for _ in range(8):
            for viewer in viewers:
                await _cut(viewer.client)
            await asyncio.sleep(0.4)
    assert all(viewer.connects >= 6 for viewer in viewers)


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
