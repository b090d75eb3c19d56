"""Whatever one client does to the bridge, the others do not feel it, a fresh one is served, and nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random
from typing import Any, Final, cast

import pytest
from websockets.frames import Frame, Opcode

from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.steady import Steady, steady
from tests.viewers import HANDSHAKE, TRANSPORTS, raw_viewer

ELSEWHERE: Final = "127.0.0.2"
"""Where the hostile come from: the limit of an address is not that of the healthy."""
CONSTANTS: Final = {"door.REQUEST_TIMEOUT_S": 2.0, "engine.session.Limits.connect_timeout_s": 2.0}
LASTS_S: Final = 1.0
FLOOR_S: Final = 0.6
"""No delay below this is held against the bridge: this machine has other things to do as well."""
WORSE: Final = 10.0
KEPT_KIB_MAX: Final = 40_000

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[[BridgeProcess], Awaitable[None]]


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with serving(shared_server.url, tmp_path_factory.mktemp("hostile"), constants=CONSTANTS) as process:
        yield process


@pytest.fixture(scope="module")
def healthy(bridge: BridgeProcess) -> Iterator[Steady]:
    with steady(bridge.url, bridge.redis_url) as process:
        yield process


opened: Final[list[asyncio.StreamWriter]] = []
"""What an attack has opened; ended with it, wherever it is interrupted."""


async def connected(bridge: BridgeProcess) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port, local_addr=(ELSEWHERE, 0))
    opened.append(writer)
    return reader, writer


def request(bridge: BridgeProcess, path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{bridge.port}\r\n{headers}\r\n".encode()


async def websocket(bridge: BridgeProcess, *, says: str = "40") -> Connection:
    reader, writer = await connected(bridge)
    headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    writer.write(request(bridge, f"{HANDSHAKE}websocket", f"{headers}dGhlIHNhbXBsZSBub25jZQ==\r\n"))
    await reader.readuntil(b"\r\n\r\n")
    if says:
        writer.write(frame(says))
    return reader, writer


def frame(data: str | bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, data.encode() if isinstance(data, str) else data, fin=fin).serialize(mask=True)


async def flood(bridge: BridgeProcess, data: bytes, *, clients: int = 5) -> None:
    """Send this again and again, as fast as it is taken."""

    async def one() -> None:
        reader, writer = await websocket(bridge)
        dropping = asyncio.create_task(_drop(reader))
        try:
            while not writer.is_closing():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.001)  # this process is not to be what is busy
        finally:
            dropping.cancel()
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_until_cut(one()))


async def _drop(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(2**16):
            pass


async def _until_cut(work: Awaitable[None]) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await work


async def hold(connections: list[Connection], drip: bytes = b"") -> None:
    """Keep them, with a byte now and then."""
    try:
        for at in range(10**6):
            for _, writer in connections:
                if drip:
                    writer.write(drip[at % len(drip) : at % len(drip) + 1])
            await asyncio.sleep(0.25)
    finally:
        for _, writer in connections:
            writer.transport.abort()


# --- what they do


async def never_reads(bridge: BridgeProcess) -> None:
    stream = [await connected(bridge) for _ in range(10)]
    for _, writer in stream:
        writer.write(request(bridge, "/events?since=0"))
    sockets = [await websocket(bridge, says='40{"since":"0"}') for _ in range(10)]
    for reader, _ in [*stream, *sockets]:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
    await hold([*stream, *sockets])


async def drips_a_request(bridge: BridgeProcess) -> None:
    await hold([await connected(bridge) for _ in range(50)], request(bridge, "/events", f"X-Long: {'x' * 500}\r\n"))


async def drips_a_frame(bridge: BridgeProcess) -> None:
    sockets = [await websocket(bridge) for _ in range(50)]
    await hold(sockets, frame(json.dumps(["subscribe", {"types": ["x" * 90]}])))


async def pings(bridge: BridgeProcess) -> None:
    await flood(bridge, frame(b"x" * 100, Opcode.PING) * 100)


async def pongs(bridge: BridgeProcess) -> None:
    await flood(bridge, frame(b"x" * 100, Opcode.PONG) * 100)


async def engine_packets(bridge: BridgeProcess) -> None:
    await flood(bridge, frame("3") * 500)


async def requests(bridge: BridgeProcess) -> None:
    await flood(bridge, frame('421["replay",{"count":1000}]') * 20)


async def empty_fragments(bridge: BridgeProcess) -> None:
    begin, more = frame("4", fin=False), frame(b"", Opcode.CONT, fin=False)
    while True:  # each is cut for it, and comes again
        _, writer = await websocket(bridge)
        writer.write(begin + more * 10_000)
        await _until_cut(writer.drain())
        writer.transport.abort()


async def half_handshakes(bridge: BridgeProcess) -> None:
    silent = [await connected(bridge) for _ in range(50)]
    unnamed = [await websocket(bridge, says="") for _ in range(50)]
    await hold([*silent, *unnamed])


async def a_thousand_connections(bridge: BridgeProcess) -> None:
    held = []
    for _ in range(0, 1200, 100):
        held += await asyncio.gather(*(connected(bridge) for _ in range(100)))
    await hold(held)


async def garbage(bridge: BridgeProcess) -> None:
    random = Random(7)
    while True:
        _, writer = await (connected(bridge) if random.random() < 0.5 else websocket(bridge))
        writer.write(random.randbytes(random.randrange(1, 5000)))
        await _until_cut(writer.drain())
        await asyncio.sleep(0.002)
        writer.transport.abort()


async def endless_heads(bridge: BridgeProcess) -> None:
    while True:
        _, writer = await connected(bridge)
        writer.write(request(bridge, "/events")[:-2] + b"X-A: " + b"a" * 4_000_000)
        await _until_cut(writer.drain())
        writer.transport.abort()


async def half_sent_attachments(bridge: BridgeProcess) -> None:
    sockets = [await websocket(bridge) for _ in range(50)]
    for _, writer in sockets:
        writer.write(frame('458-["replay",{"_placeholder":true,"num":0}]'))
        for _ in range(7):
            writer.write(frame(b"\x00" * 8000, Opcode.BINARY))
    await hold(sockets)


ATTACKS: Final[tuple[Attack, ...]] = (
    never_reads,
    drips_a_request,
    drips_a_frame,
    pings,
    pongs,
    engine_packets,
    requests,
    empty_fragments,
    half_handshakes,
    a_thousand_connections,
    garbage,
    endless_heads,
    half_sent_attachments,
)


@contextlib.asynccontextmanager
async def attacked(attack: Attack, bridge: BridgeProcess) -> AsyncIterator[None]:
    attacking = asyncio.create_task(_until_cut(attack(bridge)))
    try:
        yield
        if attacking.done():
            attacking.result()
    finally:
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)
        for writer in opened:
            writer.transport.abort()
        opened.clear()


async def until_back(bridge: BridgeProcess, descriptors: int) -> None:
    deadline = time.monotonic() + 20
    while bridge.descriptors() > descriptors:
        assert time.monotonic() < deadline, f"{bridge.descriptors()} descriptors, {descriptors} before"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])
async def test_the_others_do_not_feel_a_client_that(bridge: BridgeProcess, healthy: Steady, attack: Attack) -> None:
    await healthy.report()
    await asyncio.sleep(0.5)
    calm = await healthy.report()
    descriptors, kept_kib = bridge.descriptors(), bridge.resident_kib()
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
    await until_back(bridge, descriptors + 1)  # a connection to Redis more or less
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
