"""The five bugs that those who stream events from Redis have all had, each by its name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from broadcast import Broadcaster
from broadcast.log.stream import BLOCK_S, SOCKET_TIMEOUT_S, LinkUp, StreamReader
from tests.bridges import BridgeProcess, serving
from tests.faults import FaultProxy
from tests.programs import started, wait_until
from tests.servers import RedisServer
from tests.viewers import TRANSPORTS, raw_viewer

STREAM: Final = "v5:stream"


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as process:
        yield process


@contextlib.contextmanager
def tailing(server: RedisServer, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`broadcast tail` in the background; what it prints is in the folder's file `out`."""
    with started("tail", "--json", folder=folder, redis_url=server.url) as process:
        with server.client() as client:
            wait_until(lambda: is_blocked(client, "broadcast-tail"), what="a tail that waits for events")
        yield process


def printed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out").read_text().splitlines()]


def connections(client: redis.Redis, name: str) -> list[dict[str, str]]:
    return [each for each in client.client_list() if each["name"].startswith(name)]


def is_blocked(client: redis.Redis, name: str) -> bool:
    return any("b" in each["flags"] for each in connections(client, name))


@contextlib.contextmanager
def held_between_two_reads(process: subprocess.Popen[bytes] | None, client: redis.Redis, name: str) -> Iterator[None]:
    """Stop a reader where its read has ended with nothing, and it has not begun the next one."""
    assert process is not None
    wait_until(lambda: is_blocked(client, name))
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not is_blocked(client, name))
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def emit(broadcaster: Broadcaster, numbers: range) -> None:
    for i in numbers:
        broadcaster.emit("count", {"i": i})
    assert broadcaster.flush()


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


# --- 1: a cursor whose entry was trimmed goes on with the next one there is, and says nothing


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_silent_skip_over_a_trimmed_cursor(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis, transport: str
) -> None:
    emit(broadcaster, range(1))
    async with raw_viewer(bridge.url, transport) as viewer:
        await viewer.until_event(0)
        with held_between_two_reads(bridge.process, redis_client, "broadcast-bridge"):
            emit(broadcaster, range(1, 100))
            redis_client.xtrim(STREAM, maxlen=30, approximate=False)
        await viewer.until_event(99)
    gap = viewer.all("gap")[-1]
    first, second = viewer.events[0], viewer.events[1]
    assert {"after": first["id"], "before": second["id"], "lost": 69, "reason": "trimmed"} == gap
    assert [0, *range(70, 100)] == numbers(viewer.events)


def test_no_silent_skip_over_a_trimmed_cursor_of_a_log_reader(
    valkey_server: RedisServer, broadcaster: Broadcaster, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with tailing(valkey_server, tmp_path) as tail:
        emit(broadcaster, range(1))
        wait_until(lambda: len(printed(tmp_path)) == 1)
        with held_between_two_reads(tail, redis_client, "broadcast-tail"):
            emit(broadcaster, range(1, 100))
            redis_client.xtrim(STREAM, maxlen=30, approximate=False)
        wait_until(lambda: printed(tmp_path)[-1]["data"].get("i") == 99)
    first, gap, *rest = printed(tmp_path)
    assert ("broadcast.gap", "trimmed", 69) == (gap["type"], gap["data"]["reason"], gap["data"]["lost"])
    assert [0, *range(70, 100)] == numbers([first, *rest])


# --- 2: what is appended between the reading of the history and the first live event is nobody's


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_event_is_lost_between_the_history_read_and_live(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path, transport: str
) -> None:
    emit(broadcaster, range(1000))
    proxy = FaultProxy(valkey_server.port)
    try:
        # A ring that is smaller than the history asked for: that comes from the stream, and slowly.
        with serving(proxy.url, tmp_path, BROADCAST_RING_EVENTS_MAX="400") as bridge:
            proxy.delay(0.15)
            emission = asyncio.create_task(_emit_slowly(broadcaster, range(1000, 1200)))
            async with raw_viewer(bridge.url, transport, catchup=600) as viewer:
                await viewer.until_event(1199)
                await emission
    finally:
        proxy.close()
    seen = numbers(viewer.events)
    assert list(range(seen[0], 1200)) == seen
    assert len(seen) >= 600
    assert [] == viewer.all("gap")


async def _emit_slowly(broadcaster: Broadcaster, which: range) -> None:
    for i in which:
        broadcaster.emit("count", {"i": i})
        await asyncio.sleep(0.01)


def test_no_event_is_lost_between_the_history_read_and_live_of_a_log_reader(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path
) -> None:
    emit(broadcaster, range(2000))
    proxy = FaultProxy(valkey_server.port)
    proxy.delay(0.1)
    try:
        with started("tail", "--json", "--since", "0", folder=tmp_path, redis_url=proxy.url):
            deadline = time.monotonic() + 30
            last = 2000
            while not (tmp_path / "out").exists() or len(printed_whole(tmp_path)) < last:
                assert time.monotonic() < deadline
                if last < 2200:
                    emit(broadcaster, range(last, last + 1))
                    last += 1
                time.sleep(0.01)
    finally:
        proxy.close()
    assert list(range(last)) == numbers(printed(tmp_path))


def printed_whole(folder: Path) -> list[bytes]:
    return (folder / "out").read_bytes().splitlines()


# --- 3: XREAD from `$` again after a read that found nothing: what came between the two is nobody's


async def test_what_comes_after_an_empty_block_and_before_the_next_read_is_read(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    async with raw_viewer(bridge.url, "websocket") as viewer:
        await viewer.until("position")
        with held_between_two_reads(bridge.process, redis_client, "broadcast-bridge"):
            emit(broadcaster, range(1))
        await viewer.until_event(0)
        await asyncio.sleep(BLOCK_S + 0.5)
        emit(broadcaster, range(1, 2))
        await viewer.until_event(1)
    assert [0, 1] == numbers(viewer.events)


def test_what_comes_after_an_empty_block_and_before_the_next_read_is_read_by_a_log_reader(
    valkey_server: RedisServer, broadcaster: Broadcaster, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with tailing(valkey_server, tmp_path) as tail:
        with held_between_two_reads(tail, redis_client, "broadcast-tail"):
            emit(broadcaster, range(1))
        wait_until(lambda: bool(printed(tmp_path)))
    assert [0] == numbers(printed(tmp_path))


# --- 4: redis-py 8 gives up a connection that is silent for 5 s, also one that waits for events


async def test_a_log_that_is_quiet_for_longer_than_the_socket_timeout_keeps_its_readers_connected(
    bridge: BridgeProcess, valkey_server: RedisServer, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    reader = StreamReader(valkey_server.url, STREAM, name="quiet")
    items: list[Any] = []

    async def read() -> None:
        async for item in reader.tail():
            items.append(item)

    reading = asyncio.create_task(read())
    async with raw_viewer(bridge.url, "websocket") as viewer:
        await viewer.until("position")
        async with asyncio.timeout(10):
            while not is_blocked(redis_client, "broadcast-quiet"):
                await asyncio.sleep(0.02)
        before = {each["id"] for name in ("bridge", "quiet") for each in connections(redis_client, f"broadcast-{name}")}
        await asyncio.sleep(BLOCK_S + SOCKET_TIMEOUT_S + 1.5)
        emit(broadcaster, range(1))
        await viewer.until_event(0)
        async with asyncio.timeout(10):
            while not isinstance(items[-1], list):
                await asyncio.sleep(0.02)
        after = {each["id"] for name in ("bridge", "quiet") for each in connections(redis_client, f"broadcast-{name}")}
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await reader.aclose()
    assert before <= after
    assert [LinkUp, list] == [type(item) for item in items]
    assert [{"redis": "up"}] == viewer.all("state")
    assert [] == viewer.all("gap")


# --- 5: streams without a bound eat Redis


async def test_the_stream_is_bounded_and_viewers_add_no_key(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    for first in range(0, 12_000, 2000):
        emit(broadcaster, range(first, first + 2000))
    assert 10_000 <= redis_client.xlen(STREAM) < 10_000 + 2 * 100  # `~`: whole nodes of 100 entries go
    redis_client.hset(f"{{{STREAM}}}:log", "maxlen", "500")
    emit(broadcaster, range(12_000, 12_200))
    assert 500 <= redis_client.xlen(STREAM) < 500 + 2 * 100
    keys = redis_client.dbsize()
    for i in range(30):
        async with raw_viewer(bridge.url, TRANSPORTS[i % 3]) as viewer:
            await viewer.until("position")
    assert keys == redis_client.dbsize()
