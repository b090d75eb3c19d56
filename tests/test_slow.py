"""A viewer that stalls while more passes than the ring holds: it is told exactly what it lacks, as its policy says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import redis

from broadcast import Broadcaster
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.viewers import TRANSPORTS, RawViewer, raw_viewer

RING_EVENTS: Final = 50
PASSING: Final = 400
TEXT: Final = "x" * 20_000
"""8 MB pass: far more than what the kernel and the bridge may hold for one viewer."""


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX=str(RING_EVENTS)) as process:
        yield process


def pass_by(broadcaster: Broadcaster, bridge: BridgeProcess, first: int = 0, count: int = PASSING) -> None:
    """Let events pass; the bridge has had them all at the end."""
    for i in range(first, first + count):
        broadcaster.emit("big", {"i": i, "text": TEXT})
        if i % 50 == 49:
            assert broadcaster.flush()
    assert broadcaster.flush()
    bridge.wait_until_caught_up()


def emit(broadcaster: Broadcaster, *numbers: int) -> None:
    for i in numbers:
        broadcaster.emit("small", {"i": i})
    assert broadcaster.flush()


def accounted(viewer: RawViewer) -> tuple[list[int], list[int]]:
    """Check that events and gaps follow each other without a hole; the numbers had, and what each gap says is lost."""
    n: int | None = None
    place: str | None = None
    numbers, lost = [], []
    gap: dict[str, Any] | None = None
    for name, data in viewer.had:
        if name == "event":
            assert n is None or data["n"] == n + 1, f"{data['n']} behind {n}"
            assert gap is None or gap["before"] in (None, data["id"]), gap
            n, place, gap = data["n"], data["id"], None
            numbers.append(data["data"]["i"])
        elif name == "gap":
            assert ("slow", place) == (data["reason"], data["after"]), data
            assert n is not None
            n, gap = n + data["lost"], data
            lost.append(data["lost"])
        elif name == "position":
            assert n in (None, data["n"])
            n, place = data["n"], data["id"]
    return numbers, lost


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_the_ring_has_passed_is_told_how_many_it_lacks_and_goes_on(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, -1)
    async with raw_viewer(bridge.url, transport, is_narrow=True) as viewer:
        await viewer.until("position")
        pass_by(broadcaster, bridge)
        await viewer.until_event(PASSING - 1)
        emit(broadcaster, PASSING)
        await viewer.until_event(PASSING)
    numbers, lost = accounted(viewer)
    assert len(lost) >= 1
    assert PASSING + 2 == len(numbers) + sum(lost)
    # What is in the ring at the end it gets all of.
    assert numbers[-RING_EVENTS:] == list(range(PASSING + 1 - RING_EVENTS, PASSING + 1))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_wants_the_latest_is_told_how_many_it_lacks_and_gets_what_comes_next(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, -1)
    async with raw_viewer(bridge.url, transport, is_narrow=True, policy="latest") as viewer:
        await viewer.until("position")
        pass_by(broadcaster, bridge)
        while viewer.had[-1][1].get("n") != PASSING + 1:
            assert await viewer.next() is not None
        emit(broadcaster, PASSING)
        await viewer.until_event(PASSING)
    numbers, lost = accounted(viewer)
    assert PASSING + 2 == len(numbers) + sum(lost)
    # Where it was too slow it gets nothing late: it goes on behind all that had come.
    gaps = [at for at, (name, data) in enumerate(viewer.had) if name == "gap" and data["before"] is None]
    assert gaps
    assert {"position"} == {viewer.had[at + 1][0] for at in gaps}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_wants_no_gap_is_told_to_go_and_may_come_back(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, -1)
    async with raw_viewer(bridge.url, transport, is_narrow=True, policy="close") as viewer:
        await viewer.until("position")
        pass_by(broadcaster, bridge)
        bye = await viewer.until("bye")
        await viewer.until_end()
    numbers, lost = accounted(viewer)
    assert ("too_slow", True) == (bye["code"], bye["reconnect"])
    assert [] == lost
    assert list(range(-1, len(numbers) - 1)) == numbers
    assert len(numbers) < PASSING
    assert "bye" == viewer.had[-1][0]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_the_ring_has_passed_into_another_log_is_told_of_that(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis, transport: str
) -> None:
    async with raw_viewer(bridge.url, transport, is_narrow=True) as viewer:
        await viewer.until("position")
        pass_by(broadcaster, bridge)
        redis_client.flushall()
        # So many that what tells of the reset leaves the ring, too.
        pass_by(broadcaster, bridge, first=PASSING, count=2 * RING_EVENTS)
        await viewer.until_event(PASSING + 2 * RING_EVENTS - 1)
    gaps = viewer.all("gap")
    assert "reset" in [gap["reason"] for gap in gaps]
    assert all(gap["lost"] is None or gap["lost"] > 0 for gap in gaps), gaps
    assert viewer.all("position")[-1]["epoch"] != viewer.all("hello")[0]["epoch"]


@pytest.mark.parametrize("policy", ["gap", "close"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_stalls_for_less_than_the_ring_holds_lacks_nothing(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path, transport: str, policy: str
) -> None:
    with serving(valkey_server.url, tmp_path) as bridge:
        async with raw_viewer(bridge.url, transport, is_narrow=True, policy=policy) as viewer:
            await viewer.until("position")
            pass_by(broadcaster, bridge)
            await viewer.until_event(PASSING - 1)
    assert (list(range(PASSING)), []) == accounted(viewer)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_that_takes_nothing_at_all_is_cut(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path, transport: str
) -> None:
    with serving(valkey_server.url, tmp_path, constants={"cursor.PATIENCE_S": 1.0}) as bridge:
        async with raw_viewer(bridge.url, transport, is_narrow=True) as viewer:
            await viewer.until("position")
            ports = viewer.ports()
            pass_by(broadcaster, bridge)
            deadline = time.monotonic() + 20
            while not (gone := [end for end in bridge.clients()["gone"] if end["how"] == "too_slow"]):
                assert time.monotonic() < deadline, bridge.clients()
                await asyncio.sleep(0.1)
            # Not only forgotten: its connection is gone, and with it what waited for it in the kernel.
            while ports & connected_ports(bridge):
                assert time.monotonic() < deadline, "it is still connected"
                await asyncio.sleep(0.1)
            await viewer.until_end()
    assert transport == gone[0]["transport"]
    assert gone[0]["lag"] > 0
    assert PASSING - 1 not in [event["data"]["i"] for event in viewer.events]


def connected_ports(bridge: BridgeProcess) -> set[int]:
    """The other sides' ports of the connections that the bridge holds."""
    return {held.raddr.port for held in psutil.Process(bridge.pid).net_connections("tcp") if held.raddr}
