"""What the hostile do to a bridge; each goes on until it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Final

from websockets.frames import Frame, Opcode

from tests.bridges import BridgeProcess
from tests.viewers import HANDSHAKE

__all__ = ["ATTACKS", "ELSEWHERE", "Attack", "attacked", "connected", "request", "websocket"]

ELSEWHERE: Final = "127.0.0.2"
"""Where the hostile come from: the limit of an address is not that of the healthy."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[[BridgeProcess], Awaitable[None]]


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


async def bombs(bridge: BridgeProcess) -> None:
    """What would be huge if it were unpacked: a compressed frame that nobody agreed on, a compressed post."""
    packed = zlib.compress(b"4" * 50_000_000, 9)
    bomb = bytearray(frame(packed[:16_000], Opcode.TEXT))
    bomb[0] |= 0x40  # RSV1, as permessage-deflate has it
    while True:
        _, writer = await websocket(bridge)
        writer.write(bytes(bomb))
        await _until_cut(writer.drain())
        _, poster = await connected(bridge)
        head = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n"
        poster.write(request(bridge, f"{HANDSHAKE}polling", head).replace(b"GET", b"POST", 1) + packed)
        await _until_cut(poster.drain())
        await asyncio.sleep(0.01)
        writer.transport.abort()
        poster.transport.abort()


async def handshakes(bridge: BridgeProcess) -> None:
    """Session after session, none of which is ever asked for again."""

    async def one() -> None:
        while True:
            reader, writer = await connected(bridge)
            for _ in range(50):
                writer.write(request(bridge, f"{HANDSHAKE}polling"))
                await reader.readuntil(b"}")
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(_until_cut(one()))


async def split_heads(bridge: BridgeProcess) -> None:
    """Line ends where an answer might repeat what it was asked."""
    evil = "%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0aHTTP/1.1%20200%20OK"
    paths = (f"/events?since={evil}", f"/events?types={evil}", f"/static/{evil}", f"{HANDSHAKE}polling&sid={evil}")
    while True:
        for path in paths:
            reader, writer = await connected(bridge)
            writer.write(request(bridge, path, "Connection: close\r\nLast-Event-ID: a\tb\r\n"))
            head = (await reader.read()).partition(b"\r\n\r\n")[0]
            assert head.count(b"HTTP/1.1") == 1, head
            assert b"set-cookie" not in head.lower(), head
            writer.transport.abort()
            await asyncio.sleep(0.005)


async def posts(bridge: BridgeProcess, body: bytes) -> None:
    """Post this again and again to sessions that are never polled; where one is ended, to another."""

    async def one() -> None:
        while True:
            reader, writer = await connected(bridge)
            writer.write(request(bridge, f"{HANDSHAKE}polling"))
            head, _, opened_with = (await reader.readuntil(b"}")).partition(b"\r\n\r\n0")
            if not head.startswith(b"HTTP/1.1 200"):  # it has begun too many
                writer.transport.abort()
                await asyncio.sleep(0.05)
                continue
            sid = json.loads(opened_with)["sid"]
            length = f"Content-Length: {len(body)}\r\n"
            post = request(bridge, f"{HANDSHAKE}polling&sid={sid}", length).replace(b"GET", b"POST", 1) + body
            status = b"200"
            while status == b"200":
                writer.write(post)
                answer = await reader.readuntil(b"\r\n\r\n")
                status = answer.split()[1]
                await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split()[0]))
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(_until_cut(one()))


async def posts_of_many_packets(bridge: BridgeProcess) -> None:
    await posts(bridge, b"\x1e".join([b"40/a"] * 3276))


async def posts_of_pongs(bridge: BridgeProcess) -> None:
    await posts(bridge, b"\x1e".join([b"3"] * 128))


async def posts_that_are_answered_at_length(bridge: BridgeProcess) -> None:
    await posts(bridge, b"40/" + b"x" * 16_000)


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
    bombs,
    handshakes,
    split_heads,
    posts_of_many_packets,
    posts_of_pongs,
    posts_that_are_answered_at_length,
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
