"""`listen()`, as a plain iterator and as an async one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import redis

from broadcast import Broadcaster, listen
from broadcast.errors import BroadcastError, FilterError, PositionError
from tests.programs import environment, wait_until
from tests.servers import RedisServer


def emit(broadcaster: Broadcaster, count: int, *, first: int = 0, type: str = "x") -> None:
    for i in range(first, first + count):
        broadcaster.emit(type, {"i": i})
    assert broadcaster.flush()


def take(count: int, **options: Any) -> list[dict[str, Any]]:
    with listen(**options) as events:
        return [next(events) for _ in range(count)]


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


def connections(client: redis.Redis) -> int:
    return sum("broadcast-listen" in str(each["name"]) for each in client.client_list())


def is_waiting(client: redis.Redis) -> bool:
    return any("broadcast-listen" in each["name"] and "b" in each["flags"] for each in client.client_list())


def test_since_is_an_id_the_oldest_a_duration_or_a_time(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    emit(broadcaster, 10)
    url = valkey_server.url
    events = take(10, since="0", redis_url=url)
    assert list(range(10)) == numbers(events)
    assert list(range(1, 11)) == [event["n"] for event in events]
    assert events == take(10, since=0, redis_url=url)
    assert events == take(10, since="1h", redis_url=url)
    assert events[4:] == [{**event} for event in take(6, since=events[3]["id"], redis_url=url)]
    time.sleep(0.01)
    marked = broadcaster.emit("mark", {"i": 10})
    assert broadcaster.flush()
    assert [10] == numbers(take(1, since=marked["ts"], redis_url=url))


def test_without_since_it_begins_now(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    emit(broadcaster, 5)
    with listen(redis_url=valkey_server.url) as events, valkey_server.client() as client:

        def emit_once_it_reads() -> None:
            wait_until(lambda: is_waiting(client), what="a read that waits")
            emit(broadcaster, 1, first=77)

        emission = threading.Thread(target=emit_once_it_reads)
        emission.start()
        assert 77 == next(events)["data"]["i"]
        emission.join()
    with valkey_server.client() as client:
        wait_until(lambda: connections(client) == 0, what="the connections to close")
    assert [] == list(events)


def test_types_filter_what_is_given(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    for i in range(12):
        broadcaster.emit(("a.b", "a.c", "d")[i % 3], {"i": i})
    broadcaster.flush()
    assert [0, 2, 3, 5] == numbers(take(4, types="a.*,-a.c,d", since="0", redis_url=valkey_server.url))
    assert [1, 4] == numbers(take(2, types=["a.c"], since="0", redis_url=valkey_server.url))


def test_what_it_can_no_longer_be_given_is_an_event(
    broadcaster: Broadcaster, valkey_server: RedisServer, redis_client: redis.Redis
) -> None:
    emit(broadcaster, 10)
    first = take(1, since="0", redis_url=valkey_server.url)[0]
    redis_client.xtrim("v5:stream", maxlen=4, approximate=False)
    gap, *rest = take(5, since=first["id"], redis_url=valkey_server.url)
    assert "broadcast.gap" == gap["type"]
    assert {"after": first["id"], "before": rest[0]["id"], "lost": None, "reason": "trimmed"} == gap["data"]
    assert [6, 7, 8, 9] == numbers(rest)
    epoch = redis_client.hget("{v5:stream}:log", "epoch")
    assert isinstance(epoch, bytes)
    known: Any = {"id": first["id"], "n": 1, "epoch": epoch.decode()}
    assert 5 == take(1, since=known, redis_url=valkey_server.url)[0]["data"]["lost"]


async def test_async_gives_the_same_and_a_loop_that_is_left_closes_it(
    broadcaster: Broadcaster, valkey_server: RedisServer, redis_client: redis.Redis
) -> None:
    emit(broadcaster, 10)
    events = []
    async for event in listen(since="0", redis_url=valkey_server.url):
        events.append(event)
        if len(events) == 10:
            break
    assert list(range(10)) == numbers(events)
    async with asyncio.timeout(10):
        while connections(redis_client):
            await asyncio.sleep(0.02)


async def test_a_plain_loop_inside_an_event_loop_is_refused(valkey_server: RedisServer) -> None:
    with pytest.raises(BroadcastError, match="async for"):
        next(listen(redis_url=valkey_server.url))


def test_what_is_no_filter_or_no_position_is_refused_at_once() -> None:
    with pytest.raises(FilterError):
        listen("a b")
    for since in ("yesterday", "99999999999d", "", True):
        with pytest.raises(PositionError):
            listen(since=since)


def test_it_survives_a_restart_of_redis(own_server: RedisServer) -> None:
    emitter = Broadcaster(own_server.url)
    emit(emitter, 3)
    with listen(since="0", redis_url=own_server.url) as events:
        assert [0, 1, 2] == numbers([next(events) for _ in range(3)])
        own_server.restart()
        emitter.emit("x", {"i": 3})
        assert 3 == next(events)["data"]["i"]
    emitter.close(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_script_that_waits(valkey_server: RedisServer, number: int) -> None:
    # Whoever starts the tests in a shell's background has them, and all that they start, ignore SIGINT.
    heeding = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program = f"{heeding}from broadcast import listen\nprint('begun', flush=True)\nfor event in listen(): pass"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(valkey_server.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with valkey_server.client() as client:
            wait_until(lambda: connections(client) > 0, what="the listener")
        process.send_signal(number)
        _, errors = process.communicate(timeout=40)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    assert "never" not in errors
