"""Whatever is refused is counted under its code; who is sent away, or never was a viewer, stands in the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broadcast.bridge.access import issue_token
from broadcast.bridge.refusals import LINES_MAX
from broadcast.errors import CODES
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.viewers import HANDSHAKE, raw_viewer

SECRET: Final = "of these tests, and long enough for them"
OTHER_SECRET: Final = "of somebody else, and long enough as well"
PATIENCE_S: Final = 20.0
SHORT_PERIOD: Final = {"refusals.PERIOD_S": 2.0}
TOO_LARGE: Final = "42" + json.dumps(["subscribe", {"types": "x" * 17_000}])


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    mine = {"BROADCAST_SECRET": SECRET, "BROADCAST_MAX_CONNECTIONS_PER_TOKEN": "1"}
    with serving(valkey_server.url, tmp_path, constants=SHORT_PERIOD, **mine) as process:
        yield process


def token_for(secret: str = SECRET, **more: Any) -> str:
    return issue_token(secret, subject="kai", types=None, ttl_s=600, **more)


def counted(bridge: BridgeProcess, name: str) -> dict[str, float]:
    """A counter by its only label."""
    status, body = bridge.get_as_operator("/metrics")
    assert 200 == status, body
    families = text_string_to_metric_families(body)
    samples = (sample for family in families for sample in family.samples)
    return {label: sample.value for sample in samples if sample.name == name for label in sample.labels.values()}


async def refusals(bridge: BridgeProcess, expected: dict[str, float]) -> dict[str, float]:
    """All of them, once they are as expected, or it was waited long enough for that."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := counted(bridge, "broadcast_refusals_total")) != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return found


def lines(bridge: BridgeProcess, event: str) -> list[dict[str, Any]]:
    """What the log says under this name."""
    told = [json.loads(line) for line in bridge.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]


async def until(bridge: BridgeProcess, event: str, is_there: Callable[[list[dict[str, Any]]], object]) -> Any:
    """Wait for what the log has to say."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_there(found := lines(bridge, event)):
        assert time.monotonic() < deadline, bridge.log.read_text()
        await asyncio.sleep(0.1)
    return found


async def test_what_is_refused_on_an_open_connection_is_counted_and_forged_tokens_have_an_address(
    bridge: BridgeProcess,
) -> None:
    forged = token_for(OTHER_SECRET)
    async with raw_viewer(bridge.url, "websocket", token=token_for(replay={"count": 0})) as viewer:
        await viewer.until("position")
        for name, data in (
            ("token", {"token": forged}),
            ("token", {"token": forged}),
            ("replay", {"count": 5}),
            ("subscribe", {"types": ["a b"]}),
            ("nothing", {}),
        ):
            await viewer.request(name, data, ack_id=1)
        await viewer.until("ack", 5)
        answered = Counter(answer["error"]["code"] for _, answer in viewer.all("ack"))

    assert {"unauthorized": 2, "forbidden": 1, "bad_request": 1, "not_found": 1} == answered
    assert answered == await refusals(bridge, dict(answered))
    told = [(line["code"], line["address"], line["transport"]) for line in lines(bridge, "refused")]
    here = ("127.0.0.1", "websocket")
    assert [("unauthorized", *here), ("unauthorized", *here), ("forbidden", *here)] == told
    assert forged not in bridge.log.read_text()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_viewer_that_finds_no_place_is_counted(bridge: BridgeProcess, transport: str) -> None:
    token = token_for()
    async with raw_viewer(bridge.url, "websocket", token=token) as first:
        await first.until("position")
        async with raw_viewer(bridge.url, transport, token=token) as second:
            assert "too_many_connections" == (await second.until("bye"))["code"]
        assert 503 == bridge.get("/events", {"Authorization": f"Bearer {token}"})[0]
        expected = {"too_many_connections": 2.0}
        assert expected == await refusals(bridge, expected)
    (ended,) = [line for line in lines(bridge, "viewer gone") if line["how"] == "too_many_connections"]
    assert ("127.0.0.1", transport) == (ended["address"], ended["transport"])
    (refused,) = lines(bridge, "refused")
    assert ("too_many_connections", "sse") == (refused["code"], refused["transport"])


async def test_a_place_that_cannot_be_found_is_a_refusal_too(bridge: BridgeProcess) -> None:
    async with raw_viewer(bridge.url, "websocket", token=token_for(), since="cycle:12345") as viewer:
        code = (await viewer.until("bye"))["code"]
    assert {code: 1.0} == await refusals(bridge, {code: 1.0})


async def test_whoever_tries_tokens_leaves_an_address_in_the_log_and_no_token(bridge: BridgeProcess) -> None:
    forged = token_for(OTHER_SECRET)
    for transport in ("websocket", "polling"):
        async with raw_viewer(bridge.url, transport, token=forged) as viewer:
            assert "unauthorized" == (await viewer.until("bye"))["code"]
    for path in ("/events", "/history", "/clients"):
        assert 401 == bridge.get(path, {"Authorization": f"Bearer {forged}"})[0]
    async with raw_viewer(bridge.url, "websocket", token=token_for(), since=forged) as viewer:
        assert "bad_request" == (await viewer.until("bye"))["code"]

    expected = {"unauthorized": 5.0, "bad_request": 1.0}
    assert expected == await refusals(bridge, expected)
    told = await until(bridge, "refused", lambda found: len(found) == 6)
    assert {"127.0.0.1"} == {line["address"] for line in told}
    assert {"warning"} == {line["level"] for line in told}
    assert [
        ("unauthorized", "websocket"),
        ("unauthorized", "polling"),
        ("unauthorized", "sse"),
        ("unauthorized", "http"),
        ("unauthorized", "http"),
        ("bad_request", "websocket"),
    ] == [(line["code"], line["transport"]) for line in told]
    assert [] == lines(bridge, "connection gone"), "one line for each is enough"
    assert forged[:40] not in bridge.log.read_text()


async def test_a_flood_of_refusals_fills_no_disk_and_is_told_of_in_one_line(bridge: BridgeProcess) -> None:
    tried = 3 * LINES_MAX
    async with aiohttp.ClientSession() as session:
        for _ in range(tried):
            async with session.get(f"{bridge.url}/events", headers={"Authorization": "Bearer forged"}) as answer:
                assert 401 == answer.status

    def are_all_told(found: list[dict[str, Any]]) -> bool:
        left_out: list[int] = [line["left_out"] for line in found]
        return len(lines(bridge, "refused")) + sum(left_out) == tried

    left_out = await until(bridge, "more were refused, or gone", are_all_told)
    assert 1 <= len(left_out)
    # As many periods as there are such lines, and one that has not ended yet.
    assert len(lines(bridge, "refused")) <= LINES_MAX * (len(left_out) + 1)
    assert {"unauthorized": tried} == await refusals(bridge, {"unauthorized": tried})


async def test_connections_that_never_were_viewers_have_a_line_each(bridge: BridgeProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{bridge.url}{HANDSHAKE}websocket") as socket:
            await socket.receive_str()
        async with session.get(f"{bridge.url}{HANDSHAKE}polling") as answer:
            sid = json.loads((await answer.text())[1:])["sid"]
        async with session.post(f"{bridge.url}{HANDSHAKE}polling&sid={sid}", data="1") as answer:
            assert 200 == answer.status
    told = await until(bridge, "connection gone", lambda found: len(found) == 2)
    assert [
        ("left", "transport close", "websocket", "127.0.0.1"),
        ("left", "client left", "polling", "127.0.0.1"),
    ] == sorted(((line["how"], line["reason"], line["transport"], line["address"]) for line in told), reverse=True)
    assert {} == counted(bridge, "broadcast_refusals_total")


@pytest.mark.parametrize("is_viewer", [True, False])
@pytest.mark.parametrize(
    ("transport", "sent", "code", "reason"),
    [
        ("websocket", TOO_LARGE, "too_large", "payload too large"),
        ("websocket", "no packet", "bad_request", "parse error"),
        ("websocket", "4no packet", "bad_request", "parse error"),
        ("polling", TOO_LARGE, "too_large", "payload too large"),
        ("polling", "no packet", "bad_request", "parse error"),
        ("polling", "4no packet", "bad_request", "parse error"),
    ],
)
async def test_what_cannot_be_taken_ends_a_connection_with_a_code_of_the_table(
    bridge: BridgeProcess, transport: str, sent: str, code: str, reason: str, is_viewer: bool
) -> None:
    if is_viewer:
        async with raw_viewer(bridge.url, transport, token=token_for()) as viewer:
            await viewer.until("position")
            await viewer.send(sent)
            await viewer.until_end()
    else:
        await say_first(bridge, transport, sent)

    (ended,) = await until(bridge, "viewer gone" if is_viewer else "connection gone", len)

    assert (code, reason, transport, "127.0.0.1") == tuple(
        ended[name] for name in ("how", "reason", "transport", "address")
    )
    assert {code: 1.0} == await refusals(bridge, {code: 1.0})
    assert ({code: 1.0} if is_viewer else {}) == counted(bridge, "broadcast_viewer_ends_total")


async def say_first(bridge: BridgeProcess, transport: str, sent: str) -> None:
    """Say something before anything else."""
    async with aiohttp.ClientSession() as session:
        if transport == "websocket":
            async with session.ws_connect(f"{bridge.url}{HANDSHAKE}websocket") as socket:
                await socket.send_str(sent)
                while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
            return
        async with session.get(f"{bridge.url}{HANDSHAKE}polling") as answer:
            sid = json.loads((await answer.text())[1:])["sid"]
        async with session.post(f"{bridge.url}{HANDSHAKE}polling&sid={sid}", data=sent) as answer:
            assert answer.status in (200, 400, 413)
            if answer.status == 413:
                assert {"code": 3, "message": f"too_large: {CODES['too_large'].meaning}"} == await answer.json()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x83\0\0\0\0\x34\xff\xfe", "bad_request"),  # no UTF-8
        (b"\x81\x02hi", "bad_request"),  # without a mask
        (b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 300, "too_large"),  # in too many pieces
        (b"\x88\x82\0\0\0\0\x03\xf1", "left"),  # closes, by itself, with 1009
    ],
)
async def test_frames_that_are_none_end_it_with_a_code_and_who_closes_has_left(
    bridge: BridgeProcess, frame: bytes, code: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    writer.write(
        f"GET {HANDSHAKE}websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame)
    async with asyncio.timeout(PATIENCE_S):
        await reader.read()
    writer.close()
    (ended,) = await until(bridge, "connection gone", len)
    assert code == ended["how"]
    expected = {} if code == "left" else {code: 1.0}
    assert expected == await refusals(bridge, expected)
