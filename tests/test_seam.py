"""No gap and no double where history ends and live begins: hundreds of connects while events keep coming."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broadcast import Broadcaster
from tests.bridges import IGNORE_CLIENT, BridgeProcess, Client, EventStream, serving
from tests.servers import RedisServer

CONNECTS: Final = 280
"""Of which a quarter are event streams."""
AT_ONCE: Final = 6
LIVE_EVENTS: Final = 40
WAYS: Final = (["websocket"], ["polling"], ["polling", "websocket"], None)

pytestmark = IGNORE_CLIENT


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    # A small ring, so that history comes from the ring and from the stream behind it; but of seconds, so that whoever
    # is late on a busy machine is not lapped.
    with serving(valkey_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="600") as process:
        yield process


async def test_every_connect_sees_one_consecutive_run(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    numbers = iter(range(10**9))

    async def emit_for_ever() -> None:
        while True:
            broadcaster.emit("count", {"i": next(numbers)})
            await asyncio.sleep(0.005)

    emission = asyncio.create_task(emit_for_ever())
    await asyncio.sleep(0.5)
    turn = asyncio.Semaphore(AT_ONCE)
    runs = await asyncio.gather(*(_connect(bridge, i, turn) for i in range(CONNECTS)))
    emission.cancel()
    for i, run in enumerate(runs):
        assert len(run) >= LIVE_EVENTS
        assert list(range(run[0], run[0] + len(run))) == run, f"connect {i} over {WAYS[i % len(WAYS)]}: {run}"


async def _connect(bridge: BridgeProcess, i: int, turn: asyncio.Semaphore) -> list[int]:
    """What one viewer sees: history, and then as many as it takes to be well into what is live."""
    transports = WAYS[i % len(WAYS)]
    async with turn:
        if transports is None:
            async with EventStream(bridge.url, path="/events?types=count") as stream:
                return [event["data"]["i"] for event in await stream.messages(LIVE_EVENTS + 20)]
        # Of one type: a mind of ten seconds is announced in the log, too, and has no number.
        catchup = (0, 10, 50, 800)[i // len(WAYS) % 4]
        async with Client(bridge.url, transports, catchup=catchup, types="count") as client:
            await client.until_got("position")
            await client.until_got("event", len(client.events) + LIVE_EVENTS)
            assert "gap" not in client.names
            return [event["data"]["i"] for event in client.events]
