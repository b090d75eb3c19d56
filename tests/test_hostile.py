"""Whatever one client does to the bridge, the others do not feel it, a fresh one is served, and nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, cast

import pytest

from tests.attacks import ATTACKS, ELSEWHERE, Attack, attacked, connected, request, websocket
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.steady import Steady, steady
from tests.viewers import HANDSHAKE, TRANSPORTS, raw_viewer

CONSTANTS: Final = {"door.REQUEST_TIMEOUT_S": 2.0, "engine.session.Limits.connect_timeout_s": 2.0}
LASTS_S: Final = 1.0
FLOOR_S: Final = 0.6
"""No delay below this is held against the bridge: this machine has other things to do as well."""
WORSE: Final = 10.0
WELCOME_S: Final = 0.1
KEPT_KIB_MAX: Final = 40_000


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with serving(shared_server.url, tmp_path_factory.mktemp("hostile"), constants=CONSTANTS) as process:
        yield process


@pytest.fixture(scope="module")
def healthy(bridge: BridgeProcess) -> Iterator[Steady]:
    with steady(bridge.url, bridge.redis_url) as process:
        yield process


@dataclass(frozen=True)
class Held:
    """What the bridge holds for its clients."""

    descriptors: int
    tasks: int
    viewers: int

    def is_no_more_than(self, other: Held) -> bool:
        # A connection to Redis more or less, and the task that asks about it.
        return (
            self.descriptors <= other.descriptors + 1
            and self.tasks <= other.tasks + 3
            and self.viewers <= other.viewers
        )


async def held_by(bridge: BridgeProcess) -> Held:
    status, body = await asyncio.to_thread(bridge.get, "/metrics")
    assert 200 == status, body
    found = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
    # A session that polls stays for a while: nobody knows whether it comes again.
    viewers = sum(float(found[f'broadcast_viewers{{transport="{name}"}}']) for name in ("websocket", "sse"))
    return Held(bridge.descriptors(), int(float(found["broadcast_tasks"])), int(viewers))


async def until_back(bridge: BridgeProcess, before: Held) -> None:
    deadline = time.monotonic() + 20
    while not (now := await held_by(bridge)).is_no_more_than(before):
        assert time.monotonic() < deadline, (now, before)
        await asyncio.sleep(0.05)


async def median_welcome_s(bridge: BridgeProcess) -> float:
    """How long a fresh client waits until it has had its history."""
    waited = []
    for _ in range(5):
        began = time.perf_counter()
        async with raw_viewer(bridge.url, "websocket", catchup=5) as fresh:
            await fresh.until("position")
            waited.append(time.perf_counter() - began)
    return median(waited)


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])
async def test_the_others_do_not_feel_a_client_that(bridge: BridgeProcess, healthy: Steady, attack: Attack) -> None:
    await healthy.report()
    await asyncio.sleep(0.5)
    calm = await healthy.report()
    before, kept_kib = await held_by(bridge), bridge.resident_kib()
    welcome_s = await median_welcome_s(bridge)
    async with attacked(attack, bridge):
        await asyncio.sleep(LASTS_S)
        for transport in TRANSPORTS:
            async with raw_viewer(bridge.url, transport, catchup=5) as fresh:
                await fresh.until("position")
                await fresh.until("event", 20)
        report = await healthy.report()
    assert 0 == report.holes
    assert report.events > 50
    assert report.p99_s < max(FLOOR_S, WORSE * calm.p99_s), (report, calm)
    await until_back(bridge, before)
    assert await median_welcome_s(bridge) < max(WELCOME_S, 3 * welcome_s)
    assert bridge.resident_kib() - kept_kib < KEPT_KIB_MAX


# --- who is let go


async def test_who_does_not_say_what_he_wants_is_let_go(bridge: BridgeProcess, healthy: Steady) -> None:
    del healthy
    silent, unnamed = await connected(bridge), await websocket(bridge, says="")
    begun = await connected(bridge)
    begun[1].write(request(bridge, "/events")[:-2])
    polling = await asyncio.to_thread(bridge.get, f"{HANDSHAKE}polling")
    sid = json.loads(polling[1][1:])["sid"]
    async with asyncio.timeout(20):
        for reader, writer in (silent, unnamed, begun):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()
        while (await asyncio.to_thread(bridge.get, f"{HANDSHAKE}polling&sid={sid}"))[0] != 400:
            await asyncio.sleep(0.1)


async def test_a_head_of_megabytes_is_refused(bridge: BridgeProcess) -> None:
    reader, writer = await connected(bridge)
    writer.write(request(bridge, "/events")[:-2] + b"X-A: " + b"a" * 60_000)
    assert b"431" in await reader.readline()
    writer.close()


async def test_some_requests_may_stand_in_line_and_many_are_cut(bridge: BridgeProcess) -> None:
    reader, writer = await connected(bridge)
    writer.write(request(bridge, "/healthz") * 8 + request(bridge, "/healthz", "Connection: close\r\n"))
    assert 9 == (await reader.read()).count(b" 200 ")
    writer.close()
    reader, writer = await connected(bridge)
    writer.write(request(bridge, "/healthz") * 3_000)
    answered = b""
    with contextlib.suppress(ConnectionError):
        while some := await reader.read(65_536):
            answered += some
    assert answered.count(b" 200 ") < 20
    writer.close()


async def test_who_leaves_a_line_of_requests_is_gone_at_once_and_leaves_no_traceback(bridge: BridgeProcess) -> None:
    async def viewers() -> str:
        told = json.loads((await asyncio.to_thread(bridge.get, "/clients"))[1])
        return str(told["clients"])

    _, writer = await connected(bridge)
    writer.write(request(bridge, "/events?types=in.line") + request(bridge, "/static/app.js") * 10)
    async with asyncio.timeout(5):
        while "in.line" not in await viewers():
            await asyncio.sleep(0.02)
        writer.transport.abort()
        while "in.line" in await viewers():
            await asyncio.sleep(0.02)
    assert "Traceback" not in bridge.log.read_text()


# --- how many


async def answer(bridge: BridgeProcess, address: str = "127.0.0.1") -> tuple[int, str]:
    """The status of one request on a connection of its own, and the code of its refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port, local_addr=(address, 0))
    writer.write(request(bridge, "/healthz", "Connection: close\r\n"))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), str(json.loads(body).get("code"))


@pytest.mark.parametrize("variable", ["BROADCAST_MAX_CONNECTIONS_PER_ADDRESS", "BROADCAST_MAX_CONNECTIONS"])
async def test_more_connections_than_may_be_are_refused_for_now(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, variable: str
) -> None:
    is_in_all, limit = variable == "BROADCAST_MAX_CONNECTIONS", cast("Any", {variable: "5"})
    with serving(shared_server.url, tmp_path_factory.mktemp("limits"), **limit) as bridge:
        # In all, some are left for whoever asks how the bridge is.
        held = [await connected(bridge) for _ in range(105 if is_in_all else 5)]
        assert (503, "too_many_connections") == await answer(bridge, ELSEWHERE)
        assert (503 if is_in_all else 200) == (await answer(bridge))[0]
        for _, writer in held[:3]:
            writer.transport.abort()
        deadline = time.monotonic() + 10
        while (await answer(bridge, ELSEWHERE))[0] != 200:
            assert time.monotonic() < deadline
        for _, writer in held:
            writer.transport.abort()


async def test_idle_connections_of_one_address_take_nobody_elses_place(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    limits = {"BROADCAST_MAX_CONNECTIONS": "50", "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS": "10"}
    with serving(shared_server.url, tmp_path_factory.mktemp("idle"), **cast("Any", limits)) as bridge:
        before = bridge.descriptors()
        silent = [await connected(bridge) for _ in range(400)]
        assert (200, "None") == await answer(bridge)
        deadline = time.monotonic() + 5
        while bridge.descriptors() > before + 12:  # the ten that were let in, and little else
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert (503, "too_many_connections") == await answer(bridge, ELSEWHERE)
        for _, writer in silent:
            writer.transport.abort()


async def test_faster_connects_than_may_be_are_refused_for_now(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(shared_server.url, tmp_path_factory.mktemp("rate"), BROADCAST_CONNECT_RATE="5") as bridge:
        await asyncio.sleep(1.1)
        answers = await asyncio.gather(*(answer(bridge) for _ in range(30)))
        assert 5 <= [status for status, _ in answers].count(200) < 20
        assert {"None", "too_many_connections"} == {code for _, code in answers}
        deadline = time.monotonic() + 10
        while (await answer(bridge))[0] != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)
