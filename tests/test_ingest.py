"""`POST /events`: for producers that are not Python; once, whatever breaks, with the limits of `emit()`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gzip
import io
import json
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from broadcast.bridge.posted import EVENTS_MAX, PostedError, parse_events, parse_key
from broadcast.errors import RequestError
from broadcast.testing import capture
from tests.bridges import BridgeProcess, serving
from tests.programs import Command
from tests.servers import RedisServer, free_port
from tests.viewers import raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"


def token_for(subject: str = "lamp", **more: Any) -> str:
    return issue_token(SECRET, **{"subject": subject, "types": None, "ttl_s": 600, "emit": True, **more})


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    more = {
        "BROADCAST_SECRET": SECRET,
        "BROADCAST_REDACT": "password,/sk-[a-z]{8}/",
        "BROADCAST_LIMITS": "often.*=2/h",
        "BROADCAST_EVENT_BYTES_MAX": "8192",
    }
    with serving(shared_server.url, tmp_path_factory.mktemp("ingest"), constants=None, **more) as process:
        yield process


async def post(
    bridge: BridgeProcess, body: Any, *, key: str | None = None, token: str | None = None, kind: str = JSON, **more: str
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token_for() if token is None else token}", "Content-Type": kind, **more}
    headers |= {} if key is None else {"Idempotency-Key": key}
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{bridge.url}/events", data=data, headers=headers) as answer,
    ):
        return answer.status, json.loads(await answer.read())


def entries(server: RedisServer) -> list[dict[str, Any]]:
    """All that is in the log, as it stands there."""
    with server.client() as client:
        rows: Any = client.xrange("v5:stream")
    return [
        {**json.loads(fields[b"event"]), "id": entry_id.decode(), "by": fields.get(b"by", b"").decode()}
        for entry_id, fields in rows
    ]


# --- what goes in


async def test_one_event_a_list_and_lines_are_in_the_log_in_their_order_when_they_are_answered(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    full = {"type": "sense.light", "data": {"lux": 7}, "ts": "2026-02-14T20:01:23+01:00", "cycle": 42, "day": 1551}
    status, one = await post(bridge, full)
    _, more = await post(bridge, [{"type": "a", "data": [1]}, {"type": "b"}, {"type": "c", "data": "text"}])
    lines = b'{"type":"d"}\n\n{"type":"e","data":null}\r\n'
    _, last = await post(bridge, lines, kind=f"{LINES}; charset=utf-8")
    found = entries(valkey_server)
    assert 202 == status
    assert [event["id"] for event in found] == one["ids"] + more["ids"] + last["ids"]
    assert ["sense.light", "a", "b", "c", "d", "e"] == [event["type"] for event in found]
    assert [{"lux": 7}, {"value": [1]}, {}, {"value": "text"}, {}, {}] == [event["data"] for event in found]
    assert ("2026-02-14T19:01:23.000Z", 42, 1551) == (found[0]["ts"], found[0]["cycle"], found[0]["day"])
    assert {"type", "ts", "cycle", "day", "data", "id", "by"} == set(found[1])


async def test_viewers_get_what_was_posted(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        channel = client.pubsub()
        channel.subscribe("v5:events")
        async with raw_viewer(bridge.url, "websocket", token=token_for(), catchup=0) as viewer:
            await viewer.until("position")
            _, answer = await post(bridge, {"type": "door.bell", "data": {"i": 1}}, key="ring")
            await viewer.until_event(1)
        told: Any = None
        while told is None or told["type"] != "message":
            told = channel.get_message(timeout=5)
        channel.close()
    assert answer["ids"] == [event["id"] for event in viewer.events[-1:]]
    assert json.loads(told["data"]).items() <= viewer.events[-1].items()


async def test_what_emit_does_to_data_is_done_here_too(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    data = {"password": "hunter2", "deep": {"note": "the key is sk-abcdefgh, keep it"}, "nul": "a\x00b", "n": 1e400}
    text = json.dumps(data).replace("Infinity", "1").encode()
    await post(bridge, b'{"type":"t\\u0000x","data":' + text + b"}")
    await post(bridge, {"type": "x" * 400, "data": {"long": "y" * 20_000, "short": "z"}})
    first, second = entries(valkey_server)
    assert "hunter2" not in json.dumps(first) and "sk-abcdefgh" not in json.dumps(first)
    assert "\x00" not in first["type"] + first["data"]["nul"]
    assert len(json.dumps(second)) < 9_000
    assert ("z", ["text"]) == (second["data"]["short"], second["data"]["broadcast.cut"])
    with capture() as events:
        Broadcaster(redact=["password", "/sk-[a-z]{8}/"]).emit("t", json.loads(text))
    assert events[0]["data"] == first["data"]


async def test_a_limit_withholds_and_the_answer_says_which(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    # One may come at once, and a repeat counts for nothing.
    body = [{"type": "often.x", "data": {"i": i}} for i in range(3)] + [{"type": "rare"}]
    _, first = await post(bridge, body, key="limited")
    _, again = await post(bridge, body, key="limited")
    assert [False, True, True, False] == [entry_id is None for entry_id in first["ids"]]
    assert first == again
    assert ["often.x", "rare"] == [event["type"] for event in entries(valkey_server)]


# --- who may


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("", 401, "unauthorized"),
        ("nonsense", 401, "unauthorized"),
        (token_for(emit=False), 403, "forbidden"),
        (token_for(emit=False, is_admin=True), 403, "forbidden"),
        (token_for(emit="tool.*"), 403, "forbidden"),
        (token_for(ttl_s=-1), 401, "expired"),
    ],
)
async def test_only_a_token_that_may_emits_and_only_its_types(
    bridge: BridgeProcess, valkey_server: RedisServer, token: str, status: int, code: str
) -> None:
    body = [{"type": "tool.x"}, {"type": "sense.x"}]
    answered, problem = await post(bridge, body, token=token)
    assert (status, code) == (answered, problem["code"])
    assert [] == entries(valkey_server)


async def test_what_the_package_itself_says_is_not_for_others_to_say(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    status, problem = await post(bridge, [{"type": "a"}, {"type": "broadcast.lost"}])
    assert (403, 1, "type") == (status, problem["index"], problem["field"])
    assert [] == entries(valkey_server)


async def test_a_cookie_does_not_emit(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    status, _ = await post(bridge, {"type": "a"}, token="", Cookie=f"broadcast_token={token_for()}")
    assert 401 == status
    status, _ = await post(bridge, {"type": "a"}, Origin="https://evil.example")
    assert 403 == status
    assert [] == entries(valkey_server)


# --- exactly once


async def test_the_same_key_and_body_are_answered_alike_and_appended_once(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    body = [{"type": "a", "data": {"i": i}} for i in range(50)]
    key = str(uuid.uuid4())
    answers = await asyncio.gather(*(post(bridge, body, key=key) for _ in range(8)))
    assert 1 == len({json.dumps(answer) for answer in answers})
    renewed = await post(bridge, body, key=f'"{key}"', token=token_for())
    assert renewed == answers[0]
    assert answers[0][1]["ids"] == [event["id"] for event in entries(valkey_server)]
    assert 50 == len({event["by"] for event in entries(valkey_server)})
    other_body = await post(bridge, body[:-1], key=key)
    assert (422, "conflict") == (other_body[0], other_body[1]["code"])
    other_subject = await post(bridge, body[:1], key=key, token=token_for("other"))
    assert 202 == other_subject[0]
    without_key = [await post(bridge, body[:1]) for _ in range(2)]
    assert without_key[0] != without_key[1]
    assert 53 == len(entries(valkey_server))


async def test_another_body_under_a_key_that_is_forgotten_is_news_to_every_reader(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    async with raw_viewer(bridge.url, "websocket", token=token_for(), catchup=0) as viewer:
        await viewer.until("position")
        for value in (1, 2):
            assert 202 == (await post(bridge, {"type": "a", "data": {"i": value}}, key="monday"))[0]
            with valkey_server.client() as client:
                (kept,) = client.scan_iter("{v5:stream}:ingest:*")
                client.delete(kept)  # its ten minutes are over
        await viewer.until_event(2)
    assert 2 == len({event["by"] for event in entries(valkey_server)})


async def test_what_a_repeat_appends_is_what_the_first_try_let_pass(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    # As if a limit had withheld the second, and the first try had come as far as the first.
    body = [{"type": "a", "data": {"i": i}} for i in range(3)]
    await post(bridge, body, key="half")
    with valkey_server.client() as client:
        (kept,) = client.scan_iter("{v5:stream}:ingest:*")
        answer: Any = client.get(kept)
        digest, _, ids = answer.decode().split("\n")
        client.set(kept, f"{digest}\n101\n{ids.split()[0]}", px=60_000)
    status, again = await post(bridge, body, key="half")
    assert (202, [True, False, True]) == (status, [entry_id is not None for entry_id in again["ids"]])
    assert [0, 1, 2, 2] == [event["data"]["i"] for event in entries(valkey_server)]


async def test_a_token_emits_no_more_than_its_share(shared_server: RedisServer, tmp_path: Path) -> None:
    more = {"BROADCAST_SECRET": SECRET, "BROADCAST_EMIT_EVENTS_PER_MINUTE": "600"}
    with serving(shared_server.url, tmp_path, constants=None, **more) as own:
        before, token = len([event for event in entries(shared_server) if event["type"] == "a"]), token_for()
        first = await post(own, [{"type": "a"}] * 990, token=token)
        second = await post(own, [{"type": "a"}] * 200, token=token)
        other = await post(own, [{"type": "a"}], token=token_for("another"))
    assert (202, 429, 202) == (first[0], second[0], other[0])
    assert "too_many_requests" == second[1]["code"]
    assert 991 == len([event for event in entries(shared_server) if event["type"] == "a"]) - before


async def test_a_repeat_is_known_to_another_bridge_when_the_first_was_killed_and_redis_restarted(
    own_server: RedisServer, tmp_path: Path
) -> None:
    body = [{"type": "a", "data": {"i": i}} for i in range(5)]
    with serving(own_server.url, tmp_path, BROADCAST_SECRET=SECRET) as bridge:
        # As if the answer had been lost on its way: the bridge is killed as soon as the events are in the log.
        _, answer = await post(bridge, body, key="k")
        bridge.stop(signal.SIGKILL)
        own_server.restart()
        bridge.port = free_port()
        bridge.start()
        assert (202, answer) == await post(bridge, body, key="k")
    assert 5 == len(entries(own_server))


@pytest.mark.chaos
async def test_a_repeat_finds_its_answer_through_kills_of_bridges_and_a_restart_of_redis(
    own_server: RedisServer, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        serving(own_server.url, folders[0], BROADCAST_SECRET=SECRET) as a,
        serving(own_server.url, folders[1], BROADCAST_SECRET=SECRET) as b,
    ):
        stop = asyncio.Event()
        done: dict[str, list[str]] = {}

        async def produce(name: str) -> None:
            number = 0
            while not stop.is_set():
                body = [{"type": "x", "data": {"name": name, "i": number}}, {"type": "y", "data": {}}]
                key = f"{name}-{number}"
                for bridge in (a, b) * 200:  # until it is answered, by whichever bridge
                    try:
                        status, answer = await post(bridge, body, key=key)
                    except (aiohttp.ClientError, OSError):
                        status = 0
                    if status == 202:
                        done[key] = answer["ids"]
                        break
                    assert status in (0, 503), answer
                    await asyncio.sleep(0.02)
                number += 1

        producing = [asyncio.create_task(produce(f"p{i}")) for i in range(4)]
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # Redis ends in order: what it had not yet written to its file, a kill would take with it.
            for hit, number in ((a, signal.SIGKILL), (own_server, signal.SIGTERM), (b, signal.SIGKILL)):
                await asyncio.sleep(0.3)
                await loop.run_in_executor(pool, hit.restart, number)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*producing)
    found = {event["id"]: event for event in entries(own_server)}
    named = [(event["data"]["name"], event["data"]["i"]) for event in found.values() if event["type"] == "x"]
    assert len(named) == len(set(named)) == len(done) > 20
    assert all(found[ids[0]]["data"]["i"] == int(key.partition("-")[2]) for key, ids in done.items())


async def test_what_was_begun_with_a_token_that_is_revoked_meanwhile_is_not_appended(
    bridge: BridgeProcess, valkey_server: RedisServer, command: Command
) -> None:
    token, body = token_for("revoked in the middle"), b'{"type": "late", "data": {}}'
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    head = f"Authorization: Bearer {token}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}"
    writer.write(f"POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}\r\n\r\n".encode() + body[:5])
    await writer.drain()
    assert 0 == command("token", "revoke", "-", text=token, redis_url=valkey_server.url, BROADCAST_SECRET=SECRET)[0]
    async with asyncio.timeout(10):
        while (await post(bridge, {"type": "late"}, token=token))[0] != 401:
            await asyncio.sleep(0.05)
    before = len(entries(valkey_server))

    writer.write(body[5:])
    answered = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert b" 401 " in answered.partition(b"\r\n")[0] and b'"code":"revoked"' in answered
    assert before == len(entries(valkey_server))


async def test_while_redis_is_away_or_full_nothing_is_promised_and_nothing_half_done(
    own_server: RedisServer, tmp_path: Path
) -> None:
    body = [{"type": "a", "data": {"i": i}} for i in range(10)]
    with serving(own_server.url, tmp_path, BROADCAST_SECRET=SECRET) as bridge, own_server.client() as client:
        client.config_set("maxmemory", "1mb")
        status, problem = await post(bridge, body, key="k")
        assert (503, "unavailable") == (status, problem["code"])
        assert "the log cannot be written just now" == problem["detail"]
        assert [] == entries(own_server)
        own_server.stop(signal.SIGKILL)
        headers = {"Authorization": f"Bearer {token_for()}", "Content-Type": JSON}
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{bridge.url}/events", data=b'{"type":"a"}', headers=headers) as answer:
                problem = json.loads(await answer.read())
            assert (503, "unavailable", True) == (answer.status, problem["code"], "Retry-After" in answer.headers)
            assert "the log cannot be written just now" == problem["detail"]
        log = bridge.log.read_text()
        assert "the log cannot be written just now" in log and "OOM" in log, "why, is for whoever runs it"
        own_server.start()
        status = 503
        while status == 503:
            status, told = await post(bridge, body, key="k")
        assert (202, 10, 10) == (status, len(told["ids"]), len(entries(own_server)))


# --- what is refused


@pytest.mark.parametrize(
    ("body", "index", "field"),
    [
        (b"", 0, None),
        (b"{", 0, None),
        (b"7", 0, None),
        (b'["a"]', 0, None),
        (b'[{"type":"a"},7]', 1, None),
        (b'[{"type":"a"},{"data":{}}]', 1, "type"),
        (b'{"type":""}', 0, "type"),
        (b'{"type":["a"]}', 0, "type"),
        (b'{"type":"a","ts":"yesterday"}', 0, "ts"),
        (b'{"type":"a","ts":7}', 0, "ts"),
        (b'{"type":"a","cycle":"1"}', 0, "cycle"),
        (b'{"type":"a","cycle":1.5}', 0, "cycle"),
        (b'{"type":"a","day":true}', 0, "day"),
        (b'{"type":"a","day":99999999999999999999999}', 0, "day"),
        (b'{"type":"a","id":"1-0"}', 0, "id"),
        (b'{"type":"a","dat":{}}', 0, "dat"),
    ],
)
def test_what_is_no_event_is_named_by_index_and_field(body: bytes, index: int, field: str | None) -> None:
    with pytest.raises(PostedError) as refused:
        parse_events(body, JSON)
    assert {"index": index, "field": field} == refused.value.more
    assert refused.value.message.startswith(f"events[{index}]{'' if field is None else f'.{field}'}: ")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(RequestError, match="Content-Type: expected application/json or application/x-ndjson"):
        parse_events(b'{"type":"a"}', kind)


def test_a_body_of_line_ends_alone_is_read_at_once() -> None:
    began_s = time.process_time()
    with pytest.raises(RequestError, match="expected 1 to 1000, got none"):
        parse_events(b"\n" * (1024 * 1024), LINES)
    assert time.process_time() - began_s < 0.03


@pytest.mark.parametrize("body", [b"[]", b"\n\n"])
def test_no_event_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="expected 1 to 1000, got none"):
        parse_events(body, JSON if body == b"[]" else LINES)


def test_lines_are_counted_as_the_producer_counts_them() -> None:
    with pytest.raises(PostedError) as refused:
        parse_events(b'{"type":"a"}\n{"type":"b"}\n{"type"', LINES)
    assert 2 == refused.value.more["index"]


FIELDS: Final = st.sampled_from(["type", "data", "ts", "cycle", "more"])
VALUES: Final = st.none() | st.booleans() | st.integers() | st.text(max_size=9)


@given(st.binary(max_size=30) | st.lists(st.dictionaries(FIELDS, VALUES, max_size=3), max_size=3).map(json.dumps))
def test_any_bytes_are_events_or_refused(body: bytes | str) -> None:
    for kind in (JSON, LINES):
        try:
            events = parse_events(body.encode() if isinstance(body, str) else body, kind)
        except RequestError as error:
            assert error.code.name in ("bad_request", "too_large")
        else:
            assert all(event.type for event in events)


@pytest.mark.parametrize("key", ["", '""', "a b", "é", "a\n", "x" * 256])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(RequestError, match="Idempotency-Key: expected 1 to 255 visible"):
        parse_key(key)
    assert (None, "a", "a") == (parse_key(None), parse_key("a"), parse_key('"a"'))


async def test_a_body_that_is_too_large_or_hidden_is_refused_and_the_next_one_is_taken(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    assert 413 == (await post(bridge, b" " * (1024 * 1024 + 1)))[0]
    assert 413 == (await post(bridge, [{"type": "a"}] * (EVENTS_MAX + 1)))[0]
    bomb = gzip.compress(b" " * 10_000_000)
    assert 400 == (await post(bridge, bomb, **{"Content-Encoding": "gzip"}))[0]
    assert 400 == (await post(bridge, b"{}" * 400_000, kind=LINES))[0]
    status, answer = await post(bridge, [{"type": "a", "data": {"i": i}} for i in range(EVENTS_MAX)])
    assert (202, EVENTS_MAX, EVENTS_MAX) == (status, len(answer["ids"]), len(entries(valkey_server)))
    async with aiohttp.ClientSession() as session:

        async def chunks() -> Any:
            for _ in range(40):
                yield b" " * 65_536

        headers = {"Authorization": f"Bearer {token_for()}", "Content-Type": JSON}
        with pytest.raises(aiohttp.ClientError):  # answered, and cut, before it is through
            async with session.post(f"{bridge.url}/events", data=chunks(), headers=headers) as response:
                assert 413 == response.status
                raise aiohttp.ClientError
