"""Several servers behind one address: Sentinels that promote a replica, and a cluster's nodes; real processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from broadcast import discovery as discovery_module
from broadcast.addresses import parse_address
from broadcast.discovery import locate
from broadcast.log import servers as servers_module
from broadcast.log import stream as stream_module
from broadcast.log.stream import LinkDown
from tests.programs import run, wait_until
from tests.sentinels import (
    PATIENCE_S,
    STREAM,
    Pair,
    assert_every_number_or_a_gap,
    assert_once_in_order_or_announced,
    emit_steadily,
    emit_until_failed_over,
    emitting_to,
    listening,
    watched_pair,
)
from tests.servers import RedisServer, free_port, running, valkey_binary


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with watched_pair(tmp_path) as pair:
        yield pair


# --- Sentinel


async def test_a_killed_masters_replica_is_emitted_to_and_read_from(pair: Pair) -> None:
    with emitting_to(pair.url) as emitter:
        async with listening(pair.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.5)
            await reading.until_has(emitted - 1)
            pair.master.stop(signal.SIGKILL)
            emitted = await emit_until_failed_over(emitter, pair, emitted)
            emitted = await emit_steadily(emitter, emitted, seconds=0.3)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(emitted - 1)
            # The old master comes back, for a moment as a master with the old log; nobody asks it.
            await asyncio.to_thread(pair.master.start)
            emitted = await emit_steadily(emitter, emitted, seconds=0.5)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(emitted - 1)
        assert_once_in_order_or_announced(pair.replica, emitted)
        assert_every_number_or_a_gap(reading, emitted)
        assert emitter.stats().last_error is None


class Misled:
    """Says that a certain server is the master, as a Sentinel does that has not noticed yet."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0

    def __call__(self, *_: Any) -> str:
        self.asked += 1
        return self.url


def test_the_sender_leaves_a_server_that_is_only_a_replica(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    misled = Misled(pair.replica.url)
    monkeypatch.setattr(discovery_module, "locate", misled)
    with emitting_to(pair.url) as emitter:
        emitter.emit("x", {"i": 0})
        wait_until(lambda: misled.asked > 2 and "READONLY" in str(emitter.stats().last_error))
        misled.url = pair.master.url
        assert emitter.flush(PATIENCE_S)
        # Now it has a connection, and its server becomes a replica without a word.
        with pair.master.client() as client:
            pair.sentinel.stop(signal.SIGKILL)
            client.replicaof("127.0.0.1", str(pair.replica.port))
        with pair.replica.client() as client:
            client.replicaof("NO", "ONE")
        misled.url = pair.replica.url
        emitter.emit("x", {"i": 1})
        assert emitter.flush(PATIENCE_S)
        assert emitter._sender.rewound == 0
    assert_once_in_order_or_announced(pair.replica, 2)


async def test_the_tail_leaves_a_server_that_is_only_a_replica(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "WATCHED_BLOCK_S", 0.2)
    misled = Misled(pair.replica.url)
    monkeypatch.setattr(servers_module, "locate", misled)
    pair.sentinel.stop(signal.SIGKILL)
    with emitting_to(pair.master.url) as emitter:
        emitter.emit("x", {"i": 0})
        async with listening(pair.url) as reading:
            await asyncio.to_thread(wait_until, lambda: misled.asked > 2)
            assert [type(link) for link in reading.links] == [LinkDown]
            assert "no master" in str(reading.links[0])
            misled.url = pair.master.url
            await reading.until_has(0)
            with pair.master.client() as client:
                client.replicaof("127.0.0.1", str(pair.replica.port))
            await asyncio.to_thread(wait_until, lambda: isinstance(reading.links[-1], LinkDown))
            with pair.replica.client() as client:
                client.replicaof("NO", "ONE")
            misled.url = pair.replica.url
            with emitting_to(pair.replica.url) as other:
                other.emit("x", {"i": 1})
                await reading.until_has(1)
        assert reading.numbers == [0, 1]


def test_sentinels_that_are_away_or_know_no_such_master_are_said(pair: Pair) -> None:
    code, out, _ = run("doctor", redis_url=pair.url)
    assert (code, f"redis://127.0.0.1:{pair.master.port}/0, by redis+sentinel://" in out) == (0, True), out
    for url in (f"redis+sentinel://127.0.0.1:{free_port()}/kai", f"redis+sentinel://127.0.0.1:{pair.sentinel.port}/x"):
        with pytest.raises(redis.ConnectionError, match="No master found"):
            locate(parse_address(url), STREAM)
        code, out, _ = run("doctor", redis_url=url)
        assert (code, "No master found" in out) == (1, True), out


# --- a cluster


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Two nodes that know each other; the slots are given by the test."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(valkey_binary(), tmp_path / name, options=of_a_node())) for name in "ab"]


def of_a_node() -> tuple[str, ...]:
    # Else it is the port + 10,000, which may be none.
    return ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))


def own_slots(node: RedisServer, first: int, last: int) -> None:
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)


def bus_port(node: RedisServer) -> str:
    return node.options[node.options.index("--cluster-port") + 1]


def is_up(node: RedisServer, slots: int) -> bool:
    with node.client() as client:
        facts: Any = client.execute_command("CLUSTER", "INFO")
    facts = facts if isinstance(facts, dict) else dict(x.split(":") for x in facts.decode().split())
    return bool(facts["cluster_state"] == "ok" and int(facts["cluster_slots_assigned"]) == slots)


async def emit_and_listen(url: str, server: RedisServer) -> None:
    with emitting_to(url) as emitter:
        async with listening(url) as reading:
            for i in range(20):
                emitter.emit("x", {"i": i})
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await reading.until_has(19)
        assert reading.numbers == list(range(20))
        assert_once_in_order_or_announced(server, 20)


async def test_one_node_that_holds_every_slot(nodes: list[RedisServer]) -> None:
    own_slots(nodes[0], 0, 16383)
    wait_until(lambda: is_up(nodes[0], 16384))
    await emit_and_listen(f"redis+cluster://127.0.0.1:{nodes[0].port}", nodes[0])


async def test_the_node_that_holds_the_streams_slot_is_found_and_followed(nodes: list[RedisServer]) -> None:
    first, second = nodes
    with first.client() as client:
        slot = int(client.execute_command("CLUSTER", "KEYSLOT", STREAM))
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, bus_port(second))
    own_slots(first, 0, slot - 1)
    own_slots(first, slot + 1, 16383)
    own_slots(second, slot, slot)
    wait_until(lambda: is_up(first, 16384) and is_up(second, 16384), timeout_s=PATIENCE_S)
    url = f"redis+cluster://127.0.0.1:{first.port}"
    await asyncio.to_thread(emit_and_check_doctor, url, second)
    await emit_and_listen(url, second)


def emit_and_check_doctor(url: str, server: RedisServer) -> None:
    code, out, _ = run("doctor", redis_url=url)
    assert (code, f"redis://127.0.0.1:{server.port}/0, by {url}" in out) == (0, True), out


# --- what concerns the process


def test_locating_imports_nothing_that_was_not_imported_before(pair: Pair, tmp_path: Path) -> None:
    """A fork in the middle of an import leaves the child half a module: see `prepare` in emitter/connection.py."""
    code = f"""
import sys
from broadcast.addresses import parse_address
from broadcast.emitter.connection import prepare
prepare()
from broadcast.discovery import locate
before = set(sys.modules)
locate(parse_address({pair.url!r}), "s")
try:
    locate(parse_address("redis+cluster://127.0.0.1:{pair.master.port}"), "s")
except Exception as error:
    print(type(error).__name__)
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ResponseError\n[]\n"


@pytest.mark.parametrize("form", ["valkey://127.0.0.1:{port}/0", "unix://{socket}"])
async def test_other_addresses_of_one_server(tmp_path: Path, form: str) -> None:
    socket = tmp_path / "s"
    with running(valkey_binary(), tmp_path / "server", options=("--unixsocket", str(socket))) as server:
        url = form.format(port=server.port, socket=socket)
        await emit_and_listen(url, server)
        code, out, _ = await asyncio.to_thread(run, "doctor", redis_url=url)
        assert (code, "20 events" in out) == (0, True), out
