"""A replica that lagged becomes the master: what it never heard of is appended again, once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broadcast import Broadcaster
from broadcast.emitter import sender as sender_module
from tests.faults import FaultProxy
from tests.programs import wait_until
from tests.sentinels import (
    PATIENCE_S,
    REPLICATING,
    STREAM,
    assert_whole,
    emit_steadily,
    emitting_to,
    is_linked,
    listening,
    logged,
)
from tests.servers import RedisServer, running, valkey_binary


@dataclass
class Lagging:
    """A master and a replica with a network between them that can be cut, behind one address."""

    master: RedisServer
    replica: RedisServer
    link: FaultProxy
    """The replica's way to its master."""
    front: FaultProxy
    """The emitter's way to whoever is the master: the address of a service, as an operator moves it."""

    def cut_off(self) -> None:
        """What is appended from here on, the replica does not get; it goes on trying."""
        self.link.swallow()

    def slow_down(self) -> None:
        """The replica gets a byte every now and then, and loses its master in the middle of an event."""
        self.link.drip("reply", 0.002)

    def fail_over(self) -> None:
        """Kill the master, promote the replica as far as it is, and move the address."""
        self.master.stop(signal.SIGKILL)
        self.link.refuse()
        self.link.close()
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")
        self.front.upstream = self.replica.port

    @property
    def is_in_step(self) -> bool:
        with self.replica.client() as replica, self.master.client() as master:
            return is_linked(replica) and replica.xlen(STREAM) == master.xlen(STREAM)


@pytest.fixture
def lagging(tmp_path: Path) -> Iterator[Lagging]:
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(running(valkey_binary(), tmp_path / "a", options=REPLICATING))
        link = FaultProxy(master.port)
        stack.callback(link.close)
        following = (*REPLICATING, "--replicaof", f"127.0.0.1 {link.port}")
        replica = stack.enter_context(running(valkey_binary(), tmp_path / "b", options=following))
        front = FaultProxy(master.port)
        stack.callback(front.close)
        both = Lagging(master, replica, link, front)
        wait_until(lambda: both.is_in_step, timeout_s=PATIENCE_S)
        yield both


LAGS = {"cut off": Lagging.cut_off, "slow": Lagging.slow_down}


@pytest.mark.parametrize("lag", LAGS)
async def test_a_busy_producer_gives_a_promoted_replica_what_it_lacks(lagging: Lagging, lag: str) -> None:
    with emitting_to(lagging.front.url) as emitter:
        async with listening(lagging.front.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.5)
            await asyncio.to_thread(wait_until, lambda: lagging.is_in_step)
            LAGS[lag](lagging)
            emitted = await emit_steadily(emitter, emitted, seconds=1)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            had = len(logged(lagging.master)[1])
            await asyncio.to_thread(lagging.fail_over)
            behind = had - len(logged(lagging.replica)[1])
            emitted = await emit_steadily(emitter, emitted, seconds=0.5)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S), emitter.stats()
            await reading.until_has(emitted - 1)
        assert behind > 50
        assert_whole(lagging.replica, emitted)
        assert reading.numbers == list(range(emitted))
        assert emitter.stats().dropped["redis_rewound"] == 0
        assert emitter.stats().last_error is None


@pytest.mark.parametrize("lag", LAGS)
def test_an_idle_producer_gives_a_promoted_replica_what_it_lacks(
    lagging: Lagging, lag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It emits nothing any more; its question, asked now and then, finds the new master behind."""
    monkeypatch.setattr(sender_module, "IDLE_ASK_S", 0.2)
    with emitting_to(lagging.front.url) as emitter:
        emit_numbers(emitter, 0, 50)
        wait_until(lambda: lagging.is_in_step)
        LAGS[lag](lagging)
        emit_numbers(emitter, 50, 120)
        lagging.fail_over()
        assert len(logged(lagging.replica)[1]) < 120
        wait_until(lambda: len(logged(lagging.replica)[1]) == 120, timeout_s=PATIENCE_S)
        assert emitter.stats().dropped["redis_rewound"] == 0
    assert_whole(lagging.replica, 120)


def test_a_replica_that_was_promoted_before_it_heard_of_the_producer_gets_all_that_is_kept(lagging: Lagging) -> None:
    """Not even the producer's seq is there: to that master nothing was ever appended."""
    with emitting_to(lagging.front.url) as emitter:
        lagging.cut_off()
        emit_numbers(emitter, 0, 1000)
        lagging.fail_over()
        assert logged(lagging.replica) == ([], [], 0)
        emit_numbers(emitter, 1000, 1100)
    assert_whole(lagging.replica, 1100)


def emit_numbers(emitter: Broadcaster, first: int, last: int) -> None:
    for i in range(first, last):
        emitter.emit("x", {"i": i})
    assert emitter.flush(PATIENCE_S), emitter.stats()


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
async def test_masters_that_fall_again_and_again_while_their_replicas_lag(lagging: Lagging, seed: int) -> None:
    """Each time the two change places; what is emitted within the 4 s before a fall may be missing on the other."""
    chance = random.Random(seed)
    with emitting_to(lagging.front.url) as emitter:
        emitted = 0
        for _ in range(8):
            emitted = await emit_steadily(emitter, emitted, seconds=chance.uniform(0, 1))
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await asyncio.to_thread(wait_until, lambda: lagging.is_in_step, timeout_s=PATIENCE_S)
            LAGS[chance.choice(list(LAGS))](lagging)
            emitted = await emit_steadily(emitter, emitted, seconds=chance.uniform(0, 4))
            await asyncio.to_thread(lagging.fail_over)
            emitted = await emit_steadily(emitter, emitted, seconds=chance.uniform(0, 0.5))
            await asyncio.to_thread(change_places, lagging)
        assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
        assert_whole(lagging.master, emitted)


def change_places(lagging: Lagging) -> None:
    """The fallen master comes back as the replica of the one that was promoted."""
    lagging.master, lagging.replica = lagging.replica, lagging.master
    lagging.link = FaultProxy(lagging.master.port)
    options = lagging.replica.options
    place = options.index("--replicaof") if "--replicaof" in options else len(options)
    lagging.replica.options = (*options[:place], "--replicaof", f"127.0.0.1 {lagging.link.port}")
    lagging.replica.start()
