"""Sentinels with a master and a replica, as real processes, and what is emitted to and read from them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from broadcast import Broadcaster
from broadcast.event import Event
from broadcast.log.listen import Listener
from broadcast.log.stream import LinkDown, LinkUp
from broadcast.settings import Settings
from tests.programs import wait_until
from tests.servers import RedisServer, free_port, running, valkey_binary

STREAM: Final = "v5:stream"
PATIENCE_S: Final = 30
REPLICATING: Final = ("--repl-diskless-sync-delay", "0")


class Sentinel(RedisServer):
    """A Sentinel; it writes what it learns into its file.

    Args:
        folder: its own; made here.
        master: whom it watches.
        quorum: how many have to agree that the master is down.
        binary: a server's; None for Valkey's.
        lines: of its configuration.
        url: how it is asked, with `{port}`, where it wants more than the plain form.
    """

    def __init__(
        self,
        folder: Path,
        master: RedisServer,
        *,
        quorum: int = 1,
        binary: str | None = None,
        lines: tuple[str, ...] = (),
        url: str = "redis://127.0.0.1:{port}",
    ) -> None:
        folder.mkdir()
        super().__init__(binary or valkey_binary(), folder)
        self._url = url.format(port=self.port)
        self.file = folder / "sentinel.conf"
        known = (
            f"dir {folder}",
            "bind 127.0.0.1",
            f"sentinel monitor kai 127.0.0.1 {master.port} {quorum}",
            "sentinel down-after-milliseconds kai 500",
            "sentinel failover-timeout kai 2000",
        )
        port = () if any(line.startswith("port ") for line in lines) else (f"port {self.port}",)
        self.file.write_text("\n".join([*port, *known, *lines, ""]).replace("{port}", str(self.port)))

    @property
    def url(self) -> str:
        return self._url

    def start(self) -> Sentinel:
        with (self.folder / "sentinel.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, str(self.file), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until_ready()
        return self

    def ask(self, *words: str) -> Any:
        with redis.Redis.from_url(self.url, protocol=2, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command("SENTINEL", *words)

    @property
    def master_port(self) -> int:
        return int(self.ask("get-master-addr-by-name", "kai")[1])

    @property
    def knows_a_replica(self) -> bool:
        rows = [_pairs(row) for row in self.ask("replicas", "kai")]
        return any(row["master-link-status"] == "ok" and row["flags"] == "slave" for row in rows)

    @property
    def others(self) -> int:
        """Other Sentinels that it knows and hears."""
        return sum(row["flags"] == "sentinel" for row in map(_pairs, self.ask("sentinels", "kai")))


def _pairs(row: list[str]) -> dict[str, str]:
    return dict(zip(row[::2], row[1::2], strict=True))


@dataclass
class Pair:
    """A master, its replica, and those who watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[Sentinel]

    @property
    def sentinel(self) -> Sentinel:
        return self.sentinels[-1]

    @property
    def url(self) -> str:
        # The first Sentinel of the list is away: the next one is asked.
        ports = [free_port(), *(each.port for each in self.sentinels)]
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/kai/0"

    @property
    def is_failed_over(self) -> bool:
        return self.sentinel.master_port == self.replica.port

    @property
    def is_old_master_a_replica(self) -> bool:
        try:
            with self.master.client() as client:
                return is_linked(client)
        except redis.ConnectionError:  # the Sentinel that makes it one resets its clients
            return False

    @property
    def is_in_step(self) -> bool:
        with self.replica.client() as replica:
            return is_linked(replica)


def promote(pair: Pair) -> None:
    """Let the Sentinel name the replica, without a failover."""
    pair.sentinel.ask("remove", "kai")
    pair.sentinel.ask("monitor", "kai", "127.0.0.1", str(pair.replica.port), "1")


def is_linked(replica: redis.Redis) -> bool:
    facts: Any = replica.info("replication")
    return bool(facts["role"] == "slave" and facts["master_link_status"] == "up")


@contextlib.contextmanager
def watched_pair(folder: Path, *, sentinels: int = 1) -> Iterator[Pair]:
    """Up, in step, and known to every Sentinel."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(running(valkey_binary(), folder / "a", options=REPLICATING))
        following = (*REPLICATING, "--replicaof", f"127.0.0.1 {master.port}")
        replica = stack.enter_context(running(valkey_binary(), folder / "b", options=following))
        quorum = sentinels // 2 + 1
        watching = [Sentinel(folder / f"sentinel-{i}", master, quorum=quorum) for i in range(sentinels)]
        pair = Pair(master, replica, watching)
        wait_until(lambda: pair.is_in_step)
        for sentinel in watching:
            stack.callback(sentinel.stop, signal.SIGKILL)
            sentinel.start()
        for sentinel in watching:
            wait_until(lambda s=sentinel: s.knows_a_replica, timeout_s=PATIENCE_S)  # type: ignore[misc]
            wait_until(lambda s=sentinel: s.others == sentinels - 1, timeout_s=PATIENCE_S)  # type: ignore[misc]
        yield pair


# --- emitting


@contextlib.contextmanager
def emitting_to(url: str) -> Iterator[Broadcaster]:
    # On a busy machine a failover takes so long that the usual 10,000 events would not hold all of them.
    emitter = Broadcaster(settings=Settings(redis_url=url, stream_events_max=1_000_000))
    try:
        yield emitter
    finally:
        emitter.close(0)


async def emit_steadily(emitter: Broadcaster, first: int, *, seconds: float) -> int:
    """One event every 5 ms; the number behind the last one."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        emitter.emit("x", {"i": first})
        first += 1
        await asyncio.sleep(0.005)
    return first


async def emit_until_failed_over(emitter: Broadcaster, pair: Pair, first: int) -> int:
    until_s = time.monotonic() + PATIENCE_S
    while not pair.is_failed_over:
        assert time.monotonic() < until_s, "the Sentinel promoted nobody"
        first = await emit_steadily(emitter, first, seconds=0.2)
    return first


# --- reading


class Reading:
    """A `listen()` in the background, and what it gave."""

    def __init__(self, url: str) -> None:
        self.events: list[Event] = []
        self.links: list[LinkUp | LinkDown] = []
        self._listener = Listener(None, "0", redis_url=url, on_link=self.links.append)

    async def read(self) -> None:
        async with aclosing(self._listener.events()) as events:
            async for event in events:
                self.events.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event["data"]["i"] for event in self.events if event["type"] == "x"]

    @property
    def gaps(self) -> list[Event]:
        return [event for event in self.events if event["type"] == "broadcast.gap"]

    async def until_has(self, number: int) -> None:
        await asyncio.to_thread(wait_until, lambda: number in self.numbers, timeout_s=PATIENCE_S)


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Reading]:
    reading = Reading(url)
    task = asyncio.create_task(reading.read())
    try:
        yield reading
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- what has to hold


def logged(server: RedisServer) -> tuple[list[int], list[int], int]:
    """Of the one producer: the seqs from `by`, the numbers emitted, and how many are announced as lost."""
    with server.client() as client:
        rows: Any = client.xrange(STREAM)
    seqs = [int(fields[b"by"].rpartition(b":")[2]) for _, fields in rows]
    events = [json.loads(fields[b"event"]) for _, fields in rows]
    numbers = [event["data"]["i"] for event in events if event["type"] == "x"]
    lost = sum(event["data"]["count"] for event in events if event["type"] == "broadcast.lost")
    return seqs, numbers, lost


def assert_whole(server: RedisServer, emitted: int) -> None:
    """Every event once by `by`, in order, and nothing to announce."""
    seqs, numbers, lost = logged(server)
    assert lost == 0
    assert numbers == list(range(emitted))
    assert seqs == list(range(1, emitted + 1))


def assert_once_in_order_or_announced(server: RedisServer, emitted: int) -> None:
    seqs, numbers, lost = logged(server)
    assert seqs == sorted(set(seqs))
    assert numbers == sorted(set(numbers))
    assert len(numbers) + lost == emitted
    assert lost or numbers == list(range(emitted))


def assert_every_number_or_a_gap(reading: Reading, emitted: int) -> None:
    numbers = reading.numbers
    assert numbers == sorted(set(numbers))
    announced = [event for event in reading.events if event["type"] in ("broadcast.gap", "broadcast.lost")]
    assert announced or numbers == list(range(emitted))
