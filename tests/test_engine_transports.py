"""The engine on real sockets, against the echo application: what both official suites hold, and what they do not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.bridges import ROOT
from tests.servers import free_port

QUERY: Final = "EIO=4&transport=polling"
TEXT: Final = aiohttp.WSMsgType.TEXT


class Echo:
    """The echo application in a process of its own."""

    def __init__(self, protocol: str) -> None:
        self.port = free_port()
        self.path = f"/{protocol}/"
        arguments = [sys.executable, "-m", "tests.echo_server", protocol, str(self.port)]
        self.process = subprocess.Popen(arguments, cwd=ROOT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws") + "?EIO=4&transport=websocket"

    async def until_it_listens(self) -> None:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return
                await asyncio.sleep(0.05)

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="module")
def echoes() -> Iterator[dict[str, Echo]]:
    made = {protocol: Echo(protocol) for protocol in ("engine.io", "socket.io")}
    yield made
    for echo in made.values():
        echo.process.terminate()
        assert echo.process.wait(10) in (0, -signal.SIGTERM)  # uvicorn raises it again, or not


@pytest.fixture
async def echo(echoes: dict[str, Echo]) -> Echo:
    await echoes["engine.io"].until_it_listens()
    return echoes["engine.io"]


@pytest.fixture
async def sockets(echoes: dict[str, Echo]) -> Echo:
    await echoes["socket.io"].until_it_listens()
    return echoes["socket.io"]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=20), connector=aiohttp.TCPConnector(force_close=True)
    ) as session:
        yield session


class Polling:
    """A polling client by hand."""

    def __init__(self, echo: Echo, http: aiohttp.ClientSession, sid: str) -> None:
        self.url, self.http, self.sid = f"{echo.url}?{QUERY}&sid={sid}", http, sid

    @classmethod
    async def opened(cls, echo: Echo, http: aiohttp.ClientSession) -> Polling:
        async with http.get(f"{echo.url}?{QUERY}") as response:
            text = await response.text()
        assert "0" == text[0]
        return cls(echo, http, json.loads(text[1:])["sid"])

    async def poll(self) -> tuple[int, str]:
        async with self.http.get(self.url) as response:
            return response.status, await response.text()

    async def post(self, body: bytes | str) -> int:
        async with self.http.post(self.url, data=body) as response:
            await response.read()
            return response.status


async def until(client: Any, wanted: str) -> None:
    async with asyncio.timeout(10):
        while (await client.receive()).data != wanted:
            pass


@pytest.mark.parametrize(
    ("method", "query", "status", "code"),
    [
        ("GET", "transport=polling", 400, 5),
        ("GET", "EIO=3&transport=polling", 400, 5),
        ("GET", "EIO=abc&transport=polling", 400, 5),
        ("GET", "EIO=4", 400, 0),
        ("GET", "EIO=4&transport=abc", 400, 0),
        ("POST", QUERY, 400, 2),
        ("PUT", QUERY, 400, 2),
        ("GET", f"{QUERY}&sid=nobody", 400, 1),
        ("POST", f"{QUERY}&sid=nobody", 400, 1),
    ],
)
async def test_a_handshake_that_is_none_is_refused_with_its_code(
    echo: Echo, http: aiohttp.ClientSession, method: str, query: str, status: int, code: int
) -> None:
    async with http.request(method, f"{echo.url}?{query}") as response:
        assert (status, code) == (response.status, (await response.json())["code"])


@pytest.mark.parametrize("query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=x"])
async def test_a_websocket_handshake_that_is_none_is_refused(
    echo: Echo, http: aiohttp.ClientSession, query: str
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await http.ws_connect(f"{echo.url.replace('http', 'ws')}?{query}")
    assert 400 == refusal.value.status


async def test_payloads_of_text_and_bytes_are_carried(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    for payload in ("4hello", "4a\x1e4b\x1e4\U0001f600", "4x\x1eb" + base64.b64encode(bytes(range(9))).decode()):
        assert 200 == await client.post(payload.encode())
        assert (200, payload) == await client.poll()


async def test_a_poll_that_a_browser_repeats_is_answered_with_the_same(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    assert 200 == await client.post("4a")
    url = client.url
    client.url = f"{url}&t=first"
    assert (200, "4a") == await client.poll() == await client.poll()
    assert 200 == await client.post("4b")
    assert (200, "4a") == await client.poll()
    client.url = f"{url}&t=second"
    assert (200, "4b") == await client.poll()


async def test_a_poll_that_comes_again_while_it_waits_takes_its_own_place(
    echo: Echo, http: aiohttp.ClientSession
) -> None:
    """The server may hear later than the browser that the first one's connection is gone."""
    client = await Polling.opened(echo, http)
    client.url += "&t=same"
    first = asyncio.create_task(client.poll())
    await asyncio.sleep(0.05)
    again = asyncio.create_task(client.poll())
    assert 400 == (await first)[0]
    assert 200 == await client.post("4a")
    assert (200, "4a") == await again == await client.poll()


async def test_no_poll_gets_more_than_sixteen_packets(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    sent = [f"4{i}" for i in range(40)]
    assert 200 == await client.post("\x1e".join(sent))
    got: list[str] = []
    while len(got) < 40:
        packets = (await client.poll())[1].split("\x1e")
        assert len(packets) <= 16
        got += [packet for packet in packets if packet != "2"]
    assert sent == got


@pytest.mark.parametrize("body", [b"abc", b"", b"\xff\xfe", b"4a\x1e", b"bnobase64!", b"2", b"5"])
async def test_a_broken_payload_ends_the_session(echo: Echo, http: aiohttp.ClientSession, body: bytes) -> None:
    client = await Polling.opened(echo, http)
    assert 400 == await client.post(body)
    assert 400 == (await client.poll())[0]


async def test_a_payload_that_is_too_large_is_refused_and_ends_the_session(
    echo: Echo, http: aiohttp.ClientSession
) -> None:
    client = await Polling.opened(echo, http)
    assert 413 == await client.post(b"4" + b"x" * 1_000_001)
    assert 400 == (await client.poll())[0]


async def test_posts_are_taken_no_faster_than_a_websockets_frames(echo: Echo, http: aiohttp.ClientSession) -> None:
    client, loop = await Polling.opened(echo, http), asyncio.get_running_loop()

    began_s = loop.time()
    # As much as it may send at once; from then on each is held back.
    for _ in range(7):
        assert 200 == await client.post("4" + "x" * 16_000)
    assert loop.time() - began_s < 0.5
    await client.post("4" + "x" * 16_000)
    await client.post("4" + "x" * 16_000)
    assert loop.time() - began_s > 0.8


async def test_two_posts_at_once_end_the_session(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    head = f"POST {client.url.partition(str(echo.port))[2]} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n4"
    writer.write(head.encode())
    await asyncio.sleep(0.05)
    assert 400 == await client.post("4a")
    assert 400 == (await client.poll())[0]
    writer.close()
    del reader


async def test_two_polls_at_once_end_the_session_and_the_first_hears_it(
    echo: Echo, http: aiohttp.ClientSession
) -> None:
    client = await Polling.opened(echo, http)
    first = asyncio.create_task(client.poll())
    await asyncio.sleep(0.05)
    assert 400 == (await client.poll())[0]
    assert (200, "1") == await first
    assert 400 == (await client.poll())[0]


async def test_a_poll_that_is_given_up_ends_the_session(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    poll = asyncio.create_task(client.poll())
    await asyncio.sleep(0.05)
    poll.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await poll
    await asyncio.sleep(0.05)
    assert 400 == (await client.poll())[0]


async def test_who_answers_pings_lives_and_who_does_not_is_given_up(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    for _ in range(2):
        assert (200, "2") == await client.poll()
        assert 200 == await client.post("3")
    await asyncio.sleep(0.6)
    assert 400 == (await client.poll())[0]
    async with http.ws_connect(echo.socket_url) as over:
        for _ in range(2):
            await until(over, "2")
            await over.send_str("3")
        async with asyncio.timeout(5):
            while (await over.receive()).type is TEXT:
                pass


async def test_a_client_that_says_close_is_let_go(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    poll = asyncio.create_task(client.poll())
    await asyncio.sleep(0.05)
    await client.post("1")
    assert (200, "6") == await poll
    async with http.ws_connect(echo.socket_url) as over:
        await over.receive()
        await over.send_str("1")
        assert (await over.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_nothing_is_lost_or_overtaken_across_the_upgrade(echo: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(echo, http)
    got: list[str] = []
    await client.post("\x1e".join(f"4{i}" for i in range(30)))
    async with http.ws_connect(f"{echo.socket_url}&sid={client.sid}") as over:
        await over.send_str("2probe")
        await until(over, "3probe")
        got += (await client.poll())[1].split("\x1e")
        await client.post("\x1e".join(f"4{i}" for i in range(30, 50)))
        await over.send_str("5")
        for i in range(50, 60):
            await over.send_str(f"4{i}")
        while len([packet for packet in got if packet[0] == "4"]) < 60:
            got.append((await over.receive()).data)
        assert 400 == (await client.poll())[0]
        async with http.ws_connect(f"{echo.socket_url}&sid={client.sid}") as second:
            assert (await second.receive()).type is aiohttp.WSMsgType.CLOSE
        await over.send_str("4still here")
        await until(over, "4still here")
    assert [f"4{i}" for i in range(60)] == [packet for packet in got if packet[0] == "4"]


@pytest.mark.parametrize("said", [[], ["2probe"], ["2probe", "4early"], ["nonsense"]])
async def test_a_probe_that_breaks_off_leaves_polling_as_it_was(
    echo: Echo, http: aiohttp.ClientSession, said: list[str]
) -> None:
    client = await Polling.opened(echo, http)
    async with http.ws_connect(f"{echo.socket_url}&sid={client.sid}") as over:
        for text in said:
            await over.send_str(text)
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.02)
    if "nonsense" in said:
        assert 400 == (await client.poll())[0]
        return
    assert 200 == await client.post("4x")
    status, payload = await client.poll()
    assert (200, ["4x"]) == (status, [packet for packet in payload.split("\x1e") if packet[0] == "4"])


async def raw_websocket(echo: Echo) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(
        f"GET {echo.path}?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def masked(head: int, payload: bytes) -> bytes:
    assert len(payload) < 126
    return bytes([head, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def test_a_message_in_fragments_is_one_message(echo: Echo) -> None:
    reader, writer = await raw_websocket(echo)
    for frame in (masked(0x01, b"4he"), masked(0x89, b"ping between"), masked(0x00, b"ll"), masked(0x80, b"o")):
        writer.write(frame)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\x8a\x0cping between")
        assert await reader.readuntil(b"\x81\x064hello")
    writer.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(0x81, b"4\xff"), 1007),
        (b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x81\x02hi", 1002),
        (masked(0xF1, b"x"), 1002),
        (masked(0x83, b"x"), 1002),
        (masked(0x80, b"x"), 1002),
    ],
)
async def test_what_is_no_websocket_frame_ends_the_connection_with_its_code(
    echo: Echo, frame: bytes, code: int
) -> None:
    reader, writer = await raw_websocket(echo)
    writer.write(frame)
    async with asyncio.timeout(5):
        rest = await reader.read()
    assert b"\x88" in rest
    assert code.to_bytes(2, "big") in rest
    writer.close()


async def test_a_flood_of_pings_that_reads_nothing_is_not_kept(echo: Echo) -> None:
    _, writer = await raw_websocket(echo)
    before = echo.resident_bytes
    flood = masked(0x89, b"x" * 125) * 2000
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(3):  # until nothing more is taken from us
            for _ in range(400):
                writer.write(flood)
                await writer.drain()
    assert echo.resident_bytes - before < 20 * 2**20
    writer.transport.abort()


async def test_many_that_come_and_go_leave_nothing_behind(echo: Echo, http: aiohttp.ClientSession) -> None:
    async def come_and_go(i: int) -> None:
        if i % 3 == 0:
            _, writer = await raw_websocket(echo)
            writer.transport.abort()
        elif i % 3 == 1:
            async with http.ws_connect(echo.socket_url) as over:
                await over.receive()
        else:
            await Polling.opened(echo, http)

    for i in range(30):
        await come_and_go(i)
    await asyncio.sleep(1.2)
    before = echo.descriptors, echo.resident_bytes
    for batch in range(0, 600, 30):
        await asyncio.gather(*(come_and_go(i) for i in range(batch, batch + 30)))
    await asyncio.sleep(1.2)
    assert echo.descriptors <= before[0] + 5
    assert echo.resident_bytes - before[1] < 8 * 2**20


async def test_who_says_nothing_after_the_upgrade_is_let_go(sockets: Echo, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(sockets.socket_url) as over, asyncio.timeout(5):
        while (message := await over.receive()).type is TEXT:
            if message.data == "2":
                await over.send_str("3")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_client_that_wants_into_many_namespaces_that_are_not_there_is_let_go(
    sockets: Echo, http: aiohttp.ClientSession, transport: str
) -> None:
    if transport == "polling":
        client = await Polling.opened(sockets, http)
        assert 200 == await client.post("\x1e".join(["40/nowhere"] * 16))
        assert 200 == (await client.poll())[0]
        await client.post("40/nowhere")
        assert 400 == (await client.poll())[0]
        return
    async with http.ws_connect(sockets.socket_url) as over, asyncio.timeout(5):
        for _ in range(17):
            await over.send_str("40/nowhere")
        told = [message.data async for message in over if "Invalid namespace" in message.data]
    assert 16 == len(told)


async def test_socket_io_is_spoken_over_both_transports(sockets: Echo, http: aiohttp.ClientSession) -> None:
    client = await Polling.opened(sockets, http)
    await client.post('40/custom,{"a":1}')
    await client.post('42/custom,7["message-with-ack",5]')
    got = (await client.poll())[1].split("\x1e")
    assert got[0].startswith('40/custom,{"sid":"')
    assert ['42/custom,["auth",{"a":1}]', "43/custom,7[5]"] == got[1:3]
    async with http.ws_connect(sockets.socket_url) as over:
        await over.send_str("40")
        await over.send_str('451-8["message-with-ack",{"_placeholder":true,"num":0}]')
        await over.send_bytes(b"\x00\x01")
        await until(over, '461-8[{"_placeholder":true,"num":0}]')
        assert b"\x00\x01" == (await over.receive()).data
