"""The bridge over Socket.IO, as its viewers meet it: hello, history, live, requests, gaps, good-bye."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import redis
import socketio  # type: ignore[import-untyped]

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from tests.bridges import IGNORE_CLIENT, BridgeProcess, Client, EventStream, serving
from tests.programs import environment
from tests.servers import RedisServer, free_port

TRANSPORTS: Final = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}
SECRET: Final = "0123456789abcdef0123456789abcdef"

pytestmark = IGNORE_CLIENT


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def quiet_bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """One bridge for many tests that only ask it something."""
    with serving(shared_server.url, tmp_path_factory.mktemp("quiet-bridge")) as process:
        yield process


def emit(
    broadcaster: Broadcaster, count: int, *, first: int = 0, type: str = "count", seen_by: BridgeProcess | None = None
) -> None:
    for i in range(first, first + count):
        broadcaster.emit(type, {"i": i})
    assert broadcaster.flush()
    if seen_by is not None:
        seen_by.wait_until_caught_up()


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


# --- hello, history, live


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_viewer_gets_hello_then_the_last_50_then_the_position_then_what_comes(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, 80, seen_by=bridge)
    async with Client(bridge.url, TRANSPORTS[transport]) as client:
        await client.until_got("position")
        emit(broadcaster, 30, first=80)
        await client.until_got("event", 80)
        hello, position = client.all("hello")[0], client.all("position")[0]
    assert list(range(30, 110)) == numbers(client.events)
    assert ["hello", "state", *["event"] * 50, "position"] == client.names[:53]
    assert set(hello) == {"epoch", "id", "n", "head", "server_time", "types", "granted"}
    assert (hello["id"], hello["n"], hello["types"]) == (client.ids[49], 80, ["*"])
    assert position == {"id": hello["id"], "n": 80, "epoch": hello["epoch"]}
    assert {"redis": "up"} == client.all("state")[0]
    assert list(range(31, 111)) == [event["n"] for event in client.events]
    assert {"type", "ts", "cycle", "day", "data", "id", "by", "n"} == set(client.events[0])


async def test_an_empty_log_has_a_place_to_resume_from_too(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    async with Client(bridge.url) as client:
        position = await client.until_got("position")
    assert (position["id"], position["n"]) == ("0-0", 0)
    emit(broadcaster, 3)
    async with Client(bridge.url, since=position) as client:
        await client.until_got("event", 3)
    assert [0, 1, 2] == numbers(client.events)


async def test_catchup_says_how_many_past_events(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    emit(broadcaster, 20, seen_by=bridge)
    for catchup, expected in ((0, []), (3, [17, 18, 19]), (100, list(range(20)))):
        async with Client(bridge.url, catchup=catchup) as client:
            await client.until_got("position")
        assert expected == numbers(client.events)


async def test_a_filtered_viewer_gets_the_last_50_that_match_and_only_those(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    for i in range(200):
        broadcaster.emit(("sense.project", "sense.all", "cycle.start", "observe")[i % 4], {"i": i})
    broadcaster.flush()
    bridge.wait_until_caught_up()
    async with Client(bridge.url, types=["sense.*", "-sense.all", "observe"]) as client:
        await client.until_got("position")
        emit(broadcaster, 1, first=1000, type="sense.all")
        emit(broadcaster, 1, first=1001, type="sense.project")
        await client.until_got("event", 51)
    assert ["observe", "sense.*", "-sense.all"] == client.all("hello")[0]["types"]
    assert [*[i for i in range(100, 200) if i % 4 in (0, 3)], 1001] == numbers(client.events)


async def test_a_viewer_that_sees_nothing_is_told_where_the_log_is(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    async with Client(bridge.url, types="nothing.ever") as client:
        await client.until_got("position")
        emit(broadcaster, 7)
        position = await client.until_got("position", 2)
    assert position["n"] == 7
    assert [] == client.events


# --- since


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_since_goes_on_behind_a_place_by_id_or_by_position(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, 120, seen_by=bridge)
    async with Client(bridge.url, catchup=100) as client:
        hello = await client.until_got("hello")
        await client.until_got("event", 100)
    event = client.events[9]
    for since in (event["id"], {"id": event["id"], "n": event["n"], "epoch": hello["epoch"]}):
        async with Client(bridge.url, TRANSPORTS[transport], since=since) as client:
            await client.until_got("event", 90)
            greeting = client.all("hello")[0]
        assert greeting["id"] == event["id"]
        assert list(range(30, 120)) == numbers(client.events)
        assert "gap" not in client.names


async def test_since_a_time_leaves_out_what_is_older_by_ts(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    emit(broadcaster, 5, seen_by=bridge)
    time.sleep(0.05)
    moment = broadcaster.emit("mark", {"i": 5})["ts"]
    emit(broadcaster, 2, first=6, seen_by=bridge)
    async with Client(bridge.url, since=moment) as client:
        await client.until_got("event", 3)
    assert [5, 6, 7] == numbers(client.events)
    assert "gap" not in client.names


async def test_since_a_moment_without_events_is_no_gap(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    async with Client(bridge.url, since="2s") as client:
        await client.until_got("position")
        emit(broadcaster, 1)
        await client.until_got("event")
    assert "gap" not in client.names


async def test_what_was_trimmed_is_told_with_its_exact_number(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    emit(broadcaster, 10, seen_by=bridge)
    async with Client(bridge.url) as client:
        await client.until_got("event", 10)
        known, epoch = client.events[3], client.all("hello")[0]["epoch"]
    bridge.stop()
    emit(broadcaster, 90, first=10)
    redis_client.xtrim("v5:stream", maxlen=30, approximate=False)
    bridge.start()
    async with Client(bridge.url, since={"id": known["id"], "n": known["n"], "epoch": epoch}) as client:
        gap = await client.until_got("gap")
        await client.until_got("event", 30)
    assert (gap["after"], gap["lost"], gap["reason"]) == (known["id"], 66, "trimmed")
    assert gap["before"] == client.ids[0]
    assert list(range(70, 100)) == numbers(client.events)
    # A position whose entry is gone is no gap if nothing lay between it and what is left.
    last_gone = f"{int(client.ids[0].split('-')[0]) - 1}-0"
    async with Client(bridge.url, since={"id": last_gone, "n": 70, "epoch": epoch}) as client:
        await client.until_got("event", 30)
    assert "gap" not in client.names


async def test_an_older_place_than_the_ring_is_read_from_the_stream_and_joined_to_what_is_live(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path
) -> None:
    emit(broadcaster, 1500)
    with serving(valkey_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="20") as bridge:
        async with Client(bridge.url, since="0") as client:
            emit(broadcaster, 100, first=1500)
            await client.until_got("event", 1600)
        assert list(range(1600)) == numbers(client.events)
        assert list(range(1, 1601)) == [event["n"] for event in client.events]
        async with Client(bridge.url) as client:
            await client.until_got("position")
        assert list(range(1550, 1600)) == numbers(client.events)
        assert list(range(1551, 1601)) == [event["n"] for event in client.events]
        assert "gap" not in client.names


async def test_a_place_ahead_of_the_log_or_in_another_log_is_told(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    emit(broadcaster, 3, seen_by=bridge)
    async with Client(bridge.url, since="9999999999999-0") as client:
        assert "rewound" == (await client.until_got("gap"))["reason"]
    async with Client(bridge.url, since={"id": "9-0", "n": 5, "epoch": "another"}) as client:
        assert {"after": "9-0", "before": client.ids[0] if client.ids else None, "lost": None, "reason": "reset"} == {
            **await client.until_got("gap"),
            "before": client.ids[0] if client.ids else None,
        }
        await client.until_got("event", 3)
    assert [0, 1, 2] == numbers(client.events)


async def test_a_log_that_begins_anew_is_a_reset_and_its_new_epoch_is_told(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    emit(broadcaster, 3, seen_by=bridge)
    async with Client(bridge.url) as client:
        await client.until_got("event", 3)
        redis_client.flushall()
        gap = await client.until_got("gap")
        redis_client.xadd("v5:stream", {"event": '{"type":"new","ts":"2026-02-14T19:01:23.456Z","data":{"i":9}}'})
        await client.until_got("event", 4)
        position = client.all("position")[-1]
    assert (gap["reason"], gap["lost"]) == ("reset", None)
    assert [0, 1, 2, 9] == numbers(client.events)
    assert position["epoch"] != client.all("hello")[0]["epoch"]
    async with Client(bridge.url, since={**position, "id": client.ids[-1], "n": 1}) as client:
        await client.until_got("position")
    assert ([], []) == (client.events, client.all("gap"))


async def test_an_entry_that_is_no_event_is_delivered_as_malformed_and_stops_nobody(
    bridge: BridgeProcess, broadcaster: Broadcaster, redis_client: redis.Redis
) -> None:
    async with Client(bridge.url) as client:
        await client.until_got("position")
        redis_client.xadd("v5:stream", {"event": "{no json"})
        redis_client.xadd("v5:stream", {"other": "field"})
        redis_client.xadd("v5:stream", {"event": "{}", "by": "x:²"})
        emit(broadcaster, 1)
        await client.until_got("event", 4)
    assert [*["broadcast.malformed"] * 3, "count"] == [event["type"] for event in client.events]
    assert [1, 2, 3, 4] == [event["n"] for event in client.events]


# --- requests


async def test_subscribe_answers_with_the_filter_and_from_where_it_holds(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    emit(broadcaster, 5, type="a", seen_by=bridge)
    async with Client(bridge.url) as client:
        await client.until_got("position")
        answer = await client.ask("subscribe", {"types": ["b", "b", "c.*"]})
        emit(broadcaster, 2, first=5, type="a")
        emit(broadcaster, 2, first=7, type="c.d")
        await client.until_got("event", 7)
    assert answer == {"types": ["b", "c.*"], "id": client.ids[4]}
    assert [0, 1, 2, 3, 4, 7, 8] == numbers(client.events)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_replay_sends_the_events_and_then_its_ack(
    bridge: BridgeProcess, broadcaster: Broadcaster, transport: str
) -> None:
    emit(broadcaster, 150, seen_by=bridge)
    async with Client(bridge.url, TRANSPORTS[transport], catchup=0) as client:
        await client.until_got("position")
        answer = await client.ask("replay", {"count": 20})
        assert list(range(130, 150)) == numbers(client.events)
        assert answer == {"count": 20, "first": client.ids[0], "last": client.ids[-1]}
        answer = await client.ask("replay")
        assert (100, 120) == (answer["count"], len(client.events))
        answer = await client.ask("replay", {"since": client.ids[0], "count": 5})
        assert [131, 132, 133, 134, 135] == numbers(client.events[-5:])
        assert answer["count"] == 5
        answer = await client.ask("replay", {"types": "nothing"})
        assert answer == {"count": 0, "first": None, "last": None}
        await client.socket.emit("replay", {"count": 100})  # as the specification's page does: without a callback
        await client.until_got("event", 225)
        assert 1 == (await client.ask("replay", {"from": "1h", "to": "0s", "count": 1}))["count"]


async def test_requests_are_answered_in_their_order(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    emit(broadcaster, 30, seen_by=bridge)
    order: list[int] = []
    async with Client(bridge.url, catchup=0) as client:
        await client.until_got("position")
        done = asyncio.Event()

        def answered(i: int, _answer: object) -> None:
            order.append(i)
            if len(order) == 30:
                done.set()

        for i in range(30):
            request = ("replay", {"count": 30 - i}) if i % 2 else ("subscribe", {"types": "*"})
            await client.socket.emit(*request, callback=lambda answer, i=i: answered(i, answer))
        async with asyncio.timeout(10):
            await done.wait()
    assert list(range(30)) == order


MALFORMED: Final[list[tuple[Any, ...]]] = [
    ("replay", 5),
    ("replay", []),
    ("replay", "x"),
    ("replay", True),
    ("replay", b"\x00\x01"),
    ("replay", {"count": "100"}),
    ("replay", {"count": -1}),
    ("replay", {"count": 0}),
    ("replay", {"count": 1.5}),
    ("replay", {"count": True}),
    ("replay", {"count": {}}),
    ("replay", {"since": "yesterday"}),
    ("replay", {"since": {"id": 5}}),
    ("replay", {"since": {"n": 5}}),
    ("replay", {"since": "99999999999d"}),
    ("replay", {"since": "1-0", "from": "1-0"}),
    ("replay", {"to": "1-0-0"}),
    ("replay", {"to": 1.5}),
    ("replay", {"to": "cycle:9"}),
    ("replay", {"speed": 2}),
    ("replay", {"types": 5}),
    ("replay", {"types": [None]}),
    ("replay", {"types": ["a b"]}),
    ("subscribe",),
    ("subscribe", None),
    ("subscribe", {}),
    ("subscribe", "sense.*"),
    ("subscribe", {"types": {"a": 1}}),
    ("subscribe", {"types": ["x"] * 65}),
    ("subscribe", {"types": b"\x00"}),
    ("no.such.request",),
    ("", {}),
]


async def test_a_malformed_request_is_answered_with_an_error_and_harms_nobody(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    emit(broadcaster, 2, seen_by=bridge)
    async with Client(bridge.url) as other, Client(bridge.url) as client:
        await client.until_got("position")
        for name, *arguments in MALFORMED:
            answer = await client.ask(name, *arguments)
            assert answer["error"]["code"] in ("bad_request", "not_found"), (name, arguments, answer)
            assert answer["error"]["message"]
            await client.socket.emit(name, tuple(arguments))  # the same without a callback
        emit(broadcaster, 1, first=2)
        for each in (client, other):
            await each.until_got("event", 3)
            assert [0, 1, 2] == numbers(each.events)


RAW: Final = [
    "2[]",
    "2",
    "2{}",
    '2"x"',
    "2[5]",
    "2[null]",
    '21["disconnect",{}]',
    '21["connect",{}]',
    "21[null,{}]",
    "3999[]",
    "4",
    "9",
    "",
    "0",
    "0/admin,",
    "2/admin,1[]",
    "51-[",
    '50-["replay"]',
    '2["replay",' + "[" * 5000,
    "2" + "9" * 200 + "[]",
    '2["replay",{"count":' + "9" * 4000 + "}]",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
]


async def test_whatever_bytes_a_client_sends_it_harms_itself_alone(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    address = bridge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with Client(bridge.url) as other, aiohttp.ClientSession() as session:
        for i, text in enumerate(RAW):
            async with session.ws_connect(address) as ws:
                await ws.receive()
                await ws.send_str("40")
                for _ in range(3):
                    await ws.send_str(f"4{text}")
                await ws.send_bytes(b"\x00\xff")
                await ws.send_str('42["replay",{}]')
                emit(broadcaster, 1, first=i)
                await other.until_got("event", i + 1)
    assert list(range(len(RAW))) == numbers(other.events)


@pytest.mark.parametrize(
    "auth",
    [{"types": 5}, {"since": []}, {"since": {"id": "x"}}, {"catchup": -1}, {"catchup": "5"}, {"token": 5}],
    ids=str,
)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_malformed_handshake_is_told_why_and_not_to_come_back(
    quiet_bridge: BridgeProcess, auth: dict[str, Any], transport: str
) -> None:
    async with Client(quiet_bridge.url, TRANSPORTS[transport], **auth) as client:
        bye = await client.until_got("bye")
        await client.until_gone()
    assert (bye["code"], bye["reconnect"]) == ("bad_request", False)
    assert ": expected " in bye["reason"] or "types: " in bye["reason"]


async def test_too_many_requests_are_refused_in_their_order_and_far_too_many_end_the_viewer(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    emit(broadcaster, 1000, seen_by=bridge)
    address = bridge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as ws:
        await ws.receive()
        await ws.send_str('40{"catchup":0}')
        for i in range(100):
            await ws.send_str(f'42{i}["replay",{{"count":1000}}]')
        acks: list[tuple[int, bool]] = []
        async with asyncio.timeout(15):
            while len(acks) < 100:
                text = (await ws.receive_str())[1:]
                if text.startswith("3"):
                    number, _, rest = text[1:].partition("[")
                    acks.append((int(number), "too_many_requests" in rest))
    assert list(range(100)) == [number for number, _ in acks]
    assert {True, False} == {refused for _, refused in acks}


# --- Redis away


async def test_while_redis_is_away_a_viewer_waits_and_then_gets_everything(
    own_server: RedisServer, tmp_path: Path
) -> None:
    own_server.stop()
    bridge = BridgeProcess(own_server.url, tmp_path / "bridge.log")
    try:
        bridge.start(until="/healthz")
        assert 503 == bridge.get("/readyz")[0]
        async with Client(bridge.url) as client:
            hello = await client.until_got("hello")
            assert (hello["id"], hello["epoch"]) == (None, None)
            assert {"redis": "down"} == await client.until_got("state")
            assert "unavailable" == (await client.ask("replay"))["error"]["code"]
            assert ["x"] == (await client.ask("subscribe", {"types": "x"}))["types"]
            own_server.start()
            await client.until_got("position")
            assert {"redis": "up"} == client.all("state")[-1]
            bridge.wait_for("/readyz")
        own_server.stop()
        bridge.wait_for("/readyz", status=503)
        async with Client(bridge.url) as client:
            await client.until_got("position")
            assert {"redis": "down"} == client.all("state")[-1]
        async with Client(bridge.url, since="1-0") as client:
            await client.until_got("position")
    finally:
        bridge.stop(signal.SIGKILL)
    assert "Traceback" not in bridge.log.read_text()


async def test_a_place_that_only_an_absent_redis_could_serve_is_refused_for_now(
    own_server: RedisServer, tmp_path: Path
) -> None:
    with own_server.client() as client:
        for i in range(100):
            client.xadd("v5:stream", {"event": f'{{"type":"x","ts":"2026-02-14T19:01:23.456Z","data":{{"i":{i}}}}}'})
    with serving(own_server.url, tmp_path, BROADCAST_RING_EVENTS_MAX="10") as bridge:
        own_server.stop()
        bridge.wait_for("/readyz", status=503)
        async with Client(bridge.url, since="1-0") as viewer:
            bye = await viewer.until_got("bye")
            await viewer.until_gone()
        assert (bye["code"], bye["reconnect"]) == ("unavailable", True)
        assert "the log cannot be read just now" == bye["reason"]
        async with Client(bridge.url) as viewer:  # history as far as the ring has it
            await viewer.until_got("position")
            refused = (await viewer.ask("replay", {"count": 50}))["error"]
            assert ("unavailable", "the log cannot be read just now") == (refused["code"], refused["message"])
        assert list(range(90, 100)) == numbers(viewer.events)


# --- its name


def test_session_ids_begin_with_the_name_of_the_bridge(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_NAME="Left_2") as bridge:
        status, opening = bridge.get("/socket.io/?EIO=4&transport=polling")
    assert 200 == status
    assert json.loads(opening[1:])["sid"].startswith("Left_2-")


# --- the end


async def test_sigterm_says_good_bye_and_to_come_back(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    clients = [Client(bridge.url, transports) for transports in TRANSPORTS.values()]
    stream = EventStream(bridge.url)
    async with clients[0], clients[1], clients[2], stream:
        for client in clients:
            await client.until_got("position")
        took_s = await asyncio.to_thread(bridge.stop)
        for client in clients:
            bye = await client.until_got("bye")
            assert (bye["code"], bye["reconnect"]) == ("shutdown", True)
            await client.until_gone()
        frames = []
        while frame := await stream.next():
            frames.append(frame["event"])
    assert "bye" == frames[-1]
    assert took_s < 4


async def test_sigterm_ends_in_time_whoever_does_not_read(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    stalled = await _stalled_websocket(bridge)
    stalled_stream = _stalled_request(bridge, "/events")
    async with Client(bridge.url, ["polling"]) as polling, EventStream(bridge.url) as stream:
        await polling.until_got("position")
        for _ in range(40):
            broadcaster.emit("big", {"text": "x" * 60_000})
        await asyncio.to_thread(broadcaster.flush)
        await stream.messages(1)
        took_s = await asyncio.to_thread(bridge.stop)
        await polling.until_got("bye")
    stalled.close()
    stalled_stream.close()
    assert took_s < 8


async def test_a_client_that_does_not_read_costs_the_others_nothing(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    stalled = [await _stalled_websocket(bridge) for _ in range(5)]
    before = bridge.resident_kib()
    async with Client(bridge.url, catchup=0) as client:
        await client.until_got("position")
        for i in range(600):
            broadcaster.emit("big", {"i": i, "text": "x" * 20_000})
        await client.until_got("event", 600)
    assert list(range(600)) == numbers(client.events)
    # The ring takes 12 MB of it and the encoded form some more; five queues of it all would be 60 MB.
    assert bridge.resident_kib() - before < 60_000
    for each in stalled:
        each.close()


async def test_viewers_that_are_gone_leave_nothing_behind(bridge: BridgeProcess, broadcaster: Broadcaster) -> None:
    emit(broadcaster, 10, seen_by=bridge)
    before = bridge.descriptors()
    for transports in [*TRANSPORTS.values()] * 3:
        async with Client(bridge.url, transports) as client:
            await client.until_got("position")
    for _ in range(3):
        async with EventStream(bridge.url) as stream:
            await stream.messages(10)
    for _ in range(5):
        (await _stalled_websocket(bridge)).close()
    deadline = time.monotonic() + 15
    while bridge.descriptors() > before:
        assert time.monotonic() < deadline, f"{bridge.descriptors()} descriptors, {before} before"
        await asyncio.sleep(0.1)


async def test_a_probe_that_breaks_off_does_not_starve_the_polling_client(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    async with Client(bridge.url, ["polling"]) as client:
        await client.until_got("position")
        address = f"{bridge.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket&sid={client.socket.eio.sid}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address):
            pass
        emit(broadcaster, 3)
        await client.until_got("event", 3)
    assert [0, 1, 2] == numbers(client.events)


async def _stalled_websocket(bridge: BridgeProcess) -> socket.socket:
    """A client that connects and never reads again."""
    connection = _stalled_request(
        bridge,
        "/socket.io/?EIO=4&transport=websocket",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    )
    await asyncio.sleep(0.1)
    connection.sendall(b"\x81\x82\x00\x00\x00\x0040")
    await asyncio.sleep(0.1)
    return connection


def _stalled_request(bridge: BridgeProcess, path: str, headers: str = "") -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", bridge.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{bridge.port}\r\n{headers}\r\n".encode())
    return connection


# --- HTTP


async def test_health_is_told_apart_from_readiness(quiet_bridge: BridgeProcess) -> None:
    assert (200, '{"healthy":true,"reasons":[]}') == quiet_bridge.get("/healthz")
    assert (200, '{"ready":true,"reasons":[]}') == quiet_bridge.get("/readyz")


async def test_the_event_stream_gives_the_same_and_resumes_by_last_event_id(
    bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    emit(broadcaster, 60, seen_by=bridge)
    async with EventStream(bridge.url) as stream:
        assert 200 == stream.response.status
        assert "text/event-stream" in stream.response.headers["Content-Type"]
        hello = await stream.next()
        assert hello is not None
        assert "hello" == hello["event"]
        found = await stream.messages(50)
        emit(broadcaster, 5, first=60)
        found += await stream.messages(5)
    assert list(range(10, 65)) == numbers(found)
    headers = {"Last-Event-ID": found[20]["id"]}
    async with EventStream(bridge.url, path="/events?since=0&types=count", headers=headers) as stream:
        assert found[21:] == await stream.messages(34)
    async with EventStream(bridge.url, path="/events?since=0&types=nothing") as stream:
        frames = [await stream.next() for _ in range(3)]
    # A filtered EventSource resumes from where the log is, not from the last event that it saw.
    assert (("position", found[-1]["id"]) == (frames[-1] or {})["event"] and (frames[-1] or {})["id"]) or frames[-1]


@pytest.mark.parametrize(
    "query", ["types=a%20b", "since=yesterday", "catchup=x", "catchup=%C2%B2", "catchup=" + "9" * 5000, "catchup=-1"]
)
async def test_a_malformed_stream_request_is_a_problem_document(quiet_bridge: BridgeProcess, query: str) -> None:
    status, body = quiet_bridge.get(f"/events?{query}")
    assert (400, True) == (status, '"code":"bad_request"' in body)


@pytest.mark.parametrize("query", ["types=b,a.*,a.x,-a.y", "types=-a.y&types=b&types=a.*"])
async def test_the_event_stream_says_which_filter_it_has_understood_and_from_where(
    quiet_bridge: BridgeProcess, query: str
) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{quiet_bridge.url}/events?{query}") as response:
        lines = [(await response.content.readline()).decode() for _ in range(2)]
    hello = json.loads(lines[1].removeprefix("data: "))
    assert ("event: hello\n", ["a.*", "b", "-a.y"]) == (lines[0], hello["types"])
    assert hello["id"]


async def test_a_head_request_for_the_stream_ends(quiet_bridge: BridgeProcess) -> None:
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit) as session, session.head(quiet_bridge.url + "/events") as response:
        assert 200 == response.status


PATHS: Final = ["/", "/client.js", "/healthz", "/readyz", "/events", "/static/x", "/nothing"]
POLL: Final = "/socket.io/?EIO=4&transport=polling"


@pytest.mark.parametrize("path", [*PATHS, POLL])
async def test_a_foreign_host_or_origin_is_refused_on_every_route(quiet_bridge: BridgeProcess, path: str) -> None:
    for headers, code in (
        ({"Host": "evil.example"}, "forbidden_host"),
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, "forbidden_host"),
        ({"Origin": "https://evil.example"}, "forbidden_origin"),
        ({"Origin": "null"}, "forbidden_origin"),
        ({"Origin": "http://[::1"}, "forbidden_origin"),
    ):
        status, body = quiet_bridge.get(path, headers)
        assert (403, True) == (status, code in body), (path, headers, body)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}], ids=str)
async def test_a_foreign_host_or_origin_gets_no_websocket(quiet_bridge: BridgeProcess, headers: dict[str, str]) -> None:
    address = quiet_bridge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(address, headers=headers)
    assert 403 == refused.value.status


async def test_listed_origins_may_connect_and_read(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_ORIGINS="https://site.example") as bridge:
        async with aiohttp.ClientSession() as session:
            headers = {"Origin": "https://site.example"}
            async with session.get(bridge.url + POLL, headers=headers) as response:
                assert (200, "https://site.example") == (
                    response.status,
                    response.headers["Access-Control-Allow-Origin"],
                )
            address = bridge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
            async with session.ws_connect(address, headers={**headers, "Host": "site.example"}) as ws:
                assert (await ws.receive_str()).startswith("0")


# --- who may read


async def test_a_bridge_for_other_machines_wants_to_be_told_who_may_read() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broadcast", "serve", "--host", "0.0.0.0", "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environment("redis://127.0.0.1:1"),
    )
    assert 1 == done.returncode
    assert "BROADCAST_SECRET" in done.stderr
    assert "BROADCAST_ANONYMOUS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def closed_bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path, BROADCAST_SECRET=SECRET) as process:
        yield process


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_with_a_secret_a_token_is_needed(closed_bridge: BridgeProcess, transport: str) -> None:
    stale = issue_token(SECRET, subject="x", types=None, ttl_s=-60)
    other = issue_token(SECRET[::-1], subject="x", types=None, ttl_s=60)
    for token, code, reconnect in (
        (None, "unauthorized", False),
        ("nonsense", "unauthorized", False),
        (other, "unauthorized", False),
        (stale, "expired", True),
    ):
        auth = {} if token is None else {"token": token}
        async with Client(closed_bridge.url, TRANSPORTS[transport], **auth) as client:
            bye = await client.until_got("bye")
            await client.until_gone()
        assert (code, reconnect) == (bye["code"], bye["reconnect"])
        assert "bye" == client.names[0] and not client.events
    assert 401 == closed_bridge.get("/events")[0]


async def test_a_token_limits_what_is_seen_whatever_is_asked(
    closed_bridge: BridgeProcess, broadcaster: Broadcaster
) -> None:
    for i in range(20):
        broadcaster.emit("public" if i % 2 else "private", {"i": i})
    broadcaster.flush()
    closed_bridge.wait_until_caught_up()
    token = issue_token(SECRET, subject="x", types="public", ttl_s=60)
    async with Client(closed_bridge.url, token=token, types="*") as client:
        await client.until_got("position")
        await client.ask("subscribe", {"types": "*"})
        assert 10 == (await client.ask("replay", {"types": "*"}))["count"]
        assert 10 == (await client.ask("replay", {"since": "0", "types": ["private", "public"]}))["count"]
        emit(broadcaster, 1, first=20, type="private")
        emit(broadcaster, 1, first=21, type="public")
        await client.until_got("event", 31)
    assert {"public"} == {event["type"] for event in client.events}
    async with EventStream(closed_bridge.url, headers={"Authorization": f"Bearer {token}"}) as stream:
        assert {"public"} == {event["type"] for event in await stream.messages(11)}


async def test_a_token_that_ends_ends_the_viewer(closed_bridge: BridgeProcess) -> None:
    token = issue_token(SECRET, subject="x", types=None, ttl_s=2)
    async with Client(closed_bridge.url, token=token) as client:
        bye = await client.until_got("bye")
    assert ("expired", True) == (bye["code"], bye["reconnect"])


async def test_more_viewers_than_allowed_are_told_to_come_back(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_MAX_CONNECTIONS="1") as bridge:
        async with Client(bridge.url) as first:
            await first.until_got("position")
            # At the handshake, with a status that says "later": stock clients come back after it.
            for transport in ("websocket", "polling"):
                with pytest.raises(socketio.exceptions.ConnectionError):
                    await Client(bridge.url, [transport]).__aenter__()
            status, body = bridge.get("/socket.io/?EIO=4&transport=polling")
            assert (503, True) == (status, "too many connections" in body), body
            status, body = bridge.get("/events")
            assert (503, "too_many_connections") == (status, json.loads(body)["code"])
            assert bridge.get("/healthz")[0] == 200


def test_a_misspelt_anonymous_does_not_pass_without_a_word(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_ANONYMOUS="reed") as bridge:
        log = bridge.log.read_text()
    assert "all is `read`" in log and "reed" in log


def test_no_part_of_a_redis_account_stands_in_the_log(tmp_path: Path) -> None:
    place = f"127.0.0.1:{free_port()}"
    url = f"redis+sentinel://mind:hush-1@{place}/kai/0?sentinel_username=asks&sentinel_password=hush-2@hush-3"
    bridge = BridgeProcess(url, tmp_path / "bridge.log").start(until="/healthz")
    bridge.stop()
    log = bridge.log.read_text()
    assert place in log and "sentinel_password=" in log
    assert "hush" not in log


def test_it_is_reached_by_the_names_that_it_is_given(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_HOSTS="bridge-a,Bridge-B.internal") as bridge:
        for host, status in (("bridge-a", 200), ("bridge-b.internal:5001", 200), ("bridge-c", 403)):
            assert status == bridge.get("/healthz", {"Host": host})[0]
