"""Pages of the past that nobody takes are bounded, and whoever takes too little is cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from broadcast.bridge.bodies import BYTES_MAX, CHUNK_BYTES, PER_HOLDER_MAX, Bodies
from broadcast.errors import RequestError
from tests.bridges import BridgeProcess, emitter_to, serving
from tests.servers import RedisServer

PAGE_BYTES = 8 * 1024 * 1024


def test_what_waits_is_bounded_for_each_and_for_all_and_small_ones_are_free() -> None:
    bodies = Bodies()
    with contextlib.ExitStack() as stack:
        for at in range(BYTES_MAX // PAGE_BYTES):
            stack.enter_context(bodies.held(f"address {at * PAGE_BYTES // PER_HOLDER_MAX}", PAGE_BYTES))
        for holder, told in (("address 0", "of yours"), ("address 9", "as many")):
            with pytest.raises(RequestError, match=told), bodies.held(holder, CHUNK_BYTES + 1):
                raise AssertionError
            with bodies.held(holder, CHUNK_BYTES):
                assert BYTES_MAX == bodies.held_bytes
    with bodies.held("address 0", PAGE_BYTES):
        assert PAGE_BYTES == bodies.held_bytes
    assert 0 == bodies.held_bytes
    with bodies.held("address 0", 2 * BYTES_MAX), pytest.raises(RequestError), bodies.held("address 1", PAGE_BYTES):
        raise AssertionError


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder = tmp_path_factory.mktemp("bodies")
    with serving(shared_server.url, folder, constants={"bodies.STALLED_S": 8.0}) as process:
        emitter = emitter_to(shared_server.url)
        for i in range(1000):
            emitter.emit("large", {"i": i, "text": "x" * 7_500})
        assert emitter.flush(20)
        emitter.close(2)
        process.wait_until_caught_up()
        yield process


def asked(bridge: BridgeProcess, address: str) -> socket.socket:
    """A connection that has asked for a large page, and takes little of anything."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.bind((address, 0))
    connection.connect(("127.0.0.1", bridge.port))
    connection.sendall(b"GET /history?types=large&limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return connection


async def test_pages_that_are_hardly_taken_are_few_and_are_cut(bridge: BridgeProcess) -> None:
    whole = await asyncio.to_thread(bridge.get, "/history?types=large&limit=1000")
    assert 200 == whole[0] and len(whole[1]) > 7_000_000
    before_kib = bridge.resident_kib()
    slow = [asked(bridge, "127.0.0.2") for _ in range(24)]
    try:
        await asyncio.sleep(1)
        heads = [await asyncio.to_thread(connection.recv, 12) for connection in slow]
        assert 2 == heads.count(b"HTTP/1.1 200") and 22 == heads.count(b"HTTP/1.1 429")
        assert bridge.resident_kib() - before_kib < 40_000
        assert 200 == (await asyncio.to_thread(bridge.get, "/history?types=large&limit=1000"))[0]
        deadline, taken = time.monotonic() + 40, b"HTTP/1.1 429"
        while taken != b"HTTP/1.1 200":  # until the two have lost their places
            assert time.monotonic() < deadline
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.recv(256, socket.MSG_DONTWAIT)
            await asyncio.sleep(0.5)
            slow.append(asked(bridge, "127.0.0.2"))
            taken = await asyncio.to_thread(slow[-1].recv, 12)
    finally:
        for connection in slow:
            connection.close()
