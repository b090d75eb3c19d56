"""Behind Sentinels: a master that is replaced while it lives is left in time; real processes, three Sentinels.

Sentinel lets a replaced master be a master for 8 s and more. What it takes meanwhile is thrown away when it becomes a
replica, and the emitter keeps only 5 s of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broadcast import discovery as discovery_module
from broadcast.addresses import parse_address
from broadcast.discovery import Watch, locate
from tests.programs import environment, timed, wait_until
from tests.sentinels import (
    PATIENCE_S,
    STREAM,
    Pair,
    assert_whole,
    emit_steadily,
    emit_until_failed_over,
    emitting_to,
    listening,
    logged,
    promote,
    watched_pair,
)
from tests.servers import RedisServer


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Pair]:
    with watched_pair(tmp_path, sentinels=3) as pair:
        yield pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with watched_pair(tmp_path) as pair:
        yield pair


def is_master(server: RedisServer) -> bool:
    with server.client() as client:
        role: Any = client.execute_command("ROLE")
    return bool(role[0] == b"master")


async def test_a_master_that_is_replaced_while_it_lives_is_left_and_nothing_is_lost(trio: Pair) -> None:
    with emitting_to(trio.url) as emitter:
        async with listening(trio.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.5)
            await reading.until_has(emitted - 1)
            trio.sentinel.ask("failover", "kai")
            emitted = await emit_until_failed_over(emitter, trio, emitted)
            emitted = await emit_steadily(emitter, emitted, seconds=2.5)
            assert await asyncio.to_thread(emitter.flush, 1)
            assert is_master(trio.master)  # and yet nobody speaks to it any more
            assert logged(trio.replica)[1][-1] == emitted - 1 > logged(trio.master)[1][-1]
            await reading.until_has(emitted - 1)
            assert is_master(trio.master)  # nor does anybody read from it
        assert_whole(trio.replica, emitted)
        assert reading.numbers == list(range(emitted))
        assert {gap["data"]["reason"] for gap in reading.gaps} <= {"rewound"}
        assert (emitter.stats().connects, emitter.stats().last_error) == (2, None)


async def test_a_master_that_is_paused_and_replaced_is_left_and_nothing_is_lost(trio: Pair) -> None:
    """When it goes on, it carries out what it had not read yet, for nobody."""
    with emitting_to(trio.url) as emitter:
        async with listening(trio.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.5)
            trio.master.send_signal(signal.SIGSTOP)
            emitted = await emit_until_failed_over(emitter, trio, emitted)
            trio.master.send_signal(signal.SIGCONT)
            emitted = await emit_steadily(emitter, emitted, seconds=1)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(emitted - 1)
        assert_whole(trio.replica, emitted)
        assert reading.numbers == list(range(emitted))


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
async def test_masters_that_change_places_again_and_again_lose_nothing(trio: Pair, seed: int) -> None:
    """Alive, paused or killed; each time the one that was replaced comes back as a replica before the next one is."""
    chance = random.Random(seed)
    with emitting_to(trio.url) as emitter:
        async with listening(trio.url) as reading:
            emitted = 0
            for fall in chance.sample(["lives", "lives", "paused", "killed"], 4):
                emitted = await emit_steadily(emitter, emitted, seconds=chance.uniform(0.3, 2))
                if fall == "paused":
                    trio.master.send_signal(signal.SIGSTOP)
                elif fall == "killed":
                    trio.master.stop(signal.SIGKILL)
                else:
                    trio.sentinel.ask("failover", "kai")
                emitted = await emit_until_failed_over(emitter, trio, emitted)
                if fall == "paused":
                    trio.master.send_signal(signal.SIGCONT)
                elif fall == "killed":
                    await asyncio.to_thread(trio.master.start)
                until_s = time.monotonic() + 2 * PATIENCE_S
                while not (trio.is_old_master_a_replica and trio.sentinel.knows_a_replica):
                    assert time.monotonic() < until_s
                    emitted = await emit_steadily(emitter, emitted, seconds=0.2)
                trio.master, trio.replica = trio.replica, trio.master
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(emitted - 1)
        assert_whole(trio.master, emitted)
        assert reading.numbers == list(range(emitted))


def test_an_idle_emitter_leaves_too_and_gives_the_new_master_what_it_lacks(pair: Pair) -> None:
    with emitting_to(pair.url) as emitter:
        emitter.emit("x", {"i": 0})
        assert emitter.flush(PATIENCE_S)
        # The new master will lack these: it hears nothing of them.
        with pair.replica.client() as replica:
            wait_until(lambda: replica.xlen(STREAM) == 1)
            replica.replicaof("NO", "ONE")
        for i in range(1, 10):
            emitter.emit("x", {"i": i})
        assert emitter.flush(PATIENCE_S)
        began_s = time.monotonic()
        promote(pair)
        wait_until(lambda: emitter.stats().connects == 2, timeout_s=PATIENCE_S)
        assert time.monotonic() - began_s < 5  # so long is kept what the old one took
        wait_until(lambda: emitter.stats().last_error is None)
        assert is_master(pair.master)
        wait_until(lambda: len(logged(pair.replica)[1]) == 10)
    assert_whole(pair.replica, 10)


async def test_sentinels_that_do_not_answer_hold_nobody_up(trio: Pair) -> None:
    """The one that is asked is stopped; the next one is asked in its place, and a failover is followed."""
    with emitting_to(trio.url) as emitter:
        async with listening(trio.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=1.2)
            await reading.until_has(emitted - 1)
            trio.sentinels[0].send_signal(signal.SIGSTOP)
            took: list[float] = []
            for _ in range(9):
                emitted = await emit_steadily(emitter, emitted, seconds=0.1)
                took.append(await asyncio.to_thread(timed, lambda: emitter.flush(5)))
            assert sorted(took)[6] < 0.5  # whoever waited for a Sentinel waits for 1 s, again and again
            trio.sentinel.ask("failover", "kai")
            emitted = await emit_until_failed_over(emitter, trio, emitted)
            emitted = await emit_steadily(emitter, emitted, seconds=3)
            assert is_master(trio.master)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(emitted - 1)
        assert_whole(trio.replica, emitted)
        assert reading.numbers == list(range(emitted))


def test_where_no_sentinel_answers_any_more_the_master_is_kept(pair: Pair) -> None:
    with emitting_to(pair.url) as emitter:
        emitter.emit("x", {"i": 0})
        assert emitter.flush(PATIENCE_S)
        pair.sentinel.stop(signal.SIGKILL)
        for i in range(1, 20):
            emitter.emit("x", {"i": i})
            assert emitter.flush(1)
            time.sleep(0.1)
        assert emitter.stats().connects == 1
    assert_whole(pair.master, 20)


def test_a_watch_asks_on_one_connection_and_ends_when_it_is_told_to(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery_module, "WATCH_S", 0.02)
    address = parse_address(pair.url)
    replaced = threading.Event()
    watch = Watch(address, locate(address, STREAM), replaced.set)
    with pair.sentinel.client() as client:
        before: Any = client.info("stats")
        time.sleep(0.5)
        after: Any = client.info("stats")
        commands = after["total_commands_processed"] - before["total_commands_processed"]
        assert commands >= 10
        # The watch's own may fall behind the first look; the servers' and other Sentinels' are none of the client's.
        assert after["total_connections_received"] - before["total_connections_received"] <= 2
        watch.end()
        promote(pair)
        assert not replaced.wait(0.3)
        wait_until(lambda: len(client.client_list()) == 1)
    replaced.clear()
    Watch(address, locate(address, STREAM), replaced.set)
    assert not replaced.wait(0.3)
    pair.sentinel.ask("remove", "kai")
    assert not replaced.wait(0.3)  # a Sentinel that knows nothing is no reason to leave
    pair.sentinel.ask("monitor", "kai", "127.0.0.1", str(pair.master.port), "1")
    assert replaced.wait(PATIENCE_S)


def sockets() -> set[int]:
    return {int(name.name) for name in Path("/proc/self/fd").iterdir() if name.is_socket()}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_takes_the_number_of_a_closed_descriptor_is_never_written_to(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that becomes a daemon closes every descriptor, a watch's too, and opens its own."""
    monkeypatch.setattr(discovery_module, "WATCH_S", 0.05)
    others = sockets()
    address = parse_address(pair.url)
    replaced = threading.Event()
    watch = Watch(address, locate(address, STREAM), replaced.set)
    try:
        time.sleep(0.3)
        [number] = sockets() - others
        mine, peer = socket.socketpair()
        with mine, peer:
            os.dup2(mine.fileno(), number)
            promote(pair)
            assert replaced.wait(PATIENCE_S)
            time.sleep(0.1)
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            os.close(number)  # nor was it closed
    finally:
        watch.end()


FORKING = """
import os, sys, time
from broadcast import emit, flush
emit("x", {"i": 0})
assert flush(20)
time.sleep(1.2)
if not (child := os.fork()):
    emit("x", {"i": 1})
    assert flush(20)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
emit("x", {"i": 2})
"""


def test_a_process_that_watches_forks_and_exits_like_any_other(pair: Pair, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env=environment(pair.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert [0, 1, 2] == logged(pair.master)[1]
