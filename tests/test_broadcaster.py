"""emit(): never raises, never waits, and what it hands over is an event that every reader accepts."""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import broadcast
from broadcast import Broadcaster
from broadcast.emitter import broadcaster as broadcaster_module
from broadcast.emitter import cutting as cutting_module
from broadcast.emitter.broadcaster import NESTED_MAX
from broadcast.emitter.forkmark import FORK_MARK, PidMark
from broadcast.event import decode
from broadcast.settings import Settings
from tests.servers import RedisServer, free_port
from tests.test_sanitize import ANY_TEXT, EVILS, LEAVES, PARIAHS, TREES

EVENT_BYTES = 8192


def payloads_of(emitter: Broadcaster) -> list[bytes]:
    return emitter._buffer.take(events_max=10**6, bytes_max=10**9)


def only_event(emitter: Broadcaster) -> Any:
    [payload] = payloads_of(emitter)
    return json.loads(payload)


def events_in(server: RedisServer) -> list[Any]:
    with server.client() as client:
        read: Any = client.xrange("v5:stream")
    return [json.loads(fields[b"event"]) for _, fields in read]


@pytest.fixture
def lonely() -> Iterator[Broadcaster]:
    """Nobody listens where it sends, and no thread takes anything out of its buffer."""
    emitter = Broadcaster(settings=Settings(redis_url=f"redis://127.0.0.1:{free_port()}", event_bytes_max=EVENT_BYTES))
    emitter._sender.running = True
    yield emitter
    emitter._sender.running = False


def assert_valid(payload: bytes, *, bytes_max: int = EVENT_BYTES) -> None:
    assert len(payload) <= bytes_max
    event = orjson.loads(payload)
    assert list(event) == ["type", "ts", "cycle", "day", "data"]
    assert type(event["type"]) is str
    assert type(event["data"]) is dict
    assert type(event["cycle"]) in (int, str)
    assert b"\\u0000" not in payload.replace(b"\\\\", b"")
    assert decode(payload) == event


# --- what an event is


def test_an_event_looks_like_the_specifications(lonely: Broadcaster) -> None:
    lonely.set_cycle(42, 1551)
    before = datetime.datetime.now(datetime.UTC)
    event = lonely.emit("sense.project", {"sense": "pain", "projection": "Pain: identity_crisis"})
    after = datetime.datetime.now(datetime.UTC)
    assert event == {
        "type": "sense.project",
        "ts": event["ts"],
        "cycle": 42,
        "day": 1551,
        "data": {"sense": "pain", "projection": "Pain: identity_crisis"},
    }
    moment = datetime.datetime.fromisoformat(event["ts"])
    assert before - datetime.timedelta(milliseconds=1) <= moment <= after
    assert len(event["ts"]) == 24
    assert only_event(lonely) == event


def test_the_returned_event_holds_the_callers_own_dict(lonely: Broadcaster) -> None:
    data = {"a": 1, "when": datetime.datetime.now(datetime.UTC)}
    assert lonely.emit("x", data)["data"] is data


def test_what_changes_after_emit_changes_no_event(lonely: Broadcaster) -> None:
    data: dict[str, Any] = {"list": [1]}
    lonely.emit("x", data)
    data["list"].append(2)
    assert only_event(lonely)["data"] == {"list": [1]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, {}),
        ({}, {}),
        ([1], {"value": [1]}),
        ("text", {"value": "text"}),
        (0, {"value": 0}),
        (float("nan"), {"value": None}),
        ({"a": float("inf")}, {"a": None}),
        ({1: 2}, {"1": 2}),
        ({"x": {1}}, {"x": [1]}),
    ],
)
def test_data_is_always_an_object(lonely: Broadcaster, data: object, expected: dict[str, Any]) -> None:
    event = lonely.emit("x", data)
    assert type(event["data"]) is dict
    assert only_event(lonely)["data"] == expected


def test_what_unfolds_into_an_object_is_returned_as_it_was_sent(lonely: Broadcaster) -> None:
    from tests.test_sanitize import Sense

    event = lonely.emit("x", Sense("pain", [1]))
    assert event["data"] == {"name": "pain", "values": [1]}
    assert only_event(lonely) == event


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        ("", ""),
        (None, "None"),
        (7, "7"),
        (True, "True"),
        (["a"], "['a']"),
        (b"x", "b'x'"),
        ("a\x00\ud800", "a\ufffd\\ud800"),
        ("x" * 100_000, "x" * 256 + "… (99,744 more characters)"),
    ],
)
def test_the_type_is_always_a_text(lonely: Broadcaster, event_type: Any, expected: str) -> None:
    lonely.emit(event_type, {"a": 1})
    assert only_event(lonely)["type"] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", (1, 2)),
        ("nothing", (1, 0)),
        ("float", (3, "four")),
        ("huge", ("1" + "0" * 30, "<int of 16,610 bits>")),
        ("long", ("<class 'object'>", "\ufffd" * 64 + "… (99,936 more characters)")),
    ],
)
def test_odd_cycles_and_days_cost_no_event(lonely: Broadcaster, name: str, expected: tuple[Any, Any]) -> None:
    given_values: dict[str, tuple[Any, Any]] = {
        "plain": (1, 2),
        "nothing": (True, None),
        "float": (3.0, "four"),
        "huge": (10**30, 10**5000),
        "long": (object, "\x00" * 100_000),
    }
    lonely.set_cycle(*given_values[name])
    event = lonely.emit("x")
    assert (event["cycle"], event["day"]) == expected
    assert only_event(lonely) == event


# --- whatever comes


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=300)
@given(st.text() | ANY_TEXT | LEAVES, TREES, LEAVES, LEAVES)
@example("x", {"a": "\\u0000 is no NUL"}, 1, 1)
@example("x", {"a": ["\x00"]}, 1, 1)
@example("x" * 10_000, {"a": "é" * 10_000}, 1, 1)
@example("\x01" * 10_000, {"\x01" * 300: "\x01" * 10_000}, "\x01" * 99, "\x01" * 99)
@example("x", ["\x01" * 500] * 500, 1, 1)
@example("x", list(range(100_000)), 1, 1)
@example("x", {str(i): {} for i in range(20_000)}, 1, 1)
def test_emit_survives_a_storm(lonely: Broadcaster, event_type: Any, data: Any, cycle: Any, day: Any) -> None:
    lonely.set_cycle(cycle, day)
    event = lonely.emit(event_type, data)
    assert list(event) == ["type", "ts", "cycle", "day", "data"]
    [payload] = payloads_of(lonely)
    assert_valid(payload)
    assert lonely.stats().dropped == dict.fromkeys(lonely.stats().dropped, 0)


@pytest.mark.parametrize("name", [*EVILS, *PARIAHS])
def test_a_hostile_object_is_an_event_like_any_other(lonely: Broadcaster, name: str) -> None:
    make = {**EVILS, **PARIAHS}[name]
    hostile: Any = make()
    lonely.emit("bare", hostile)
    lonely.emit(hostile, {"deep": [hostile]})
    lonely.set_cycle(hostile, hostile)
    lonely.emit("in the cycle")
    with lonely.cycle(hostile, hostile):
        pass
    payloads = payloads_of(lonely)
    assert len(payloads) == 5
    for payload in payloads:
        assert_valid(payload)


@pytest.mark.parametrize("event_bytes_max", [0, 100, 4096, 5000, 65_536, 10**9])
@pytest.mark.parametrize("unit", ["x", "é", "\x01", '"', "\U0001f600"])
def test_no_event_is_larger_than_it_may_be_and_what_was_cut_is_said(event_bytes_max: int, unit: str) -> None:
    emitter = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1", event_bytes_max=event_bytes_max))
    emitter._sender.running = True
    bound = min(max(4096, event_bytes_max), 1_000_000)
    for data in (
        {"a": unit * 2_000_000},
        {"a": [unit * 100] * 20_000},
        {unit * 100 + str(i): i for i in range(20_000)},
    ):
        emitter.emit(unit * 1000, data)
        [payload] = payloads_of(emitter)
        assert_valid(payload, bytes_max=bound)
        assert orjson.loads(payload)["data"]["broadcast.cut"]
        assert len(payload) >= 400


def test_what_fits_is_not_cut_although_it_needs_care(lonely: Broadcaster) -> None:
    data = {"text": "x" * 6000, "when": datetime.date(2026, 2, 14)}
    lonely.emit("x", data)
    assert only_event(lonely)["data"] == {"text": "x" * 6000, "when": "2026-02-14"}


def test_a_long_text_does_not_crowd_out_the_rest(lonely: Broadcaster) -> None:
    lonely.emit("error", {"traceback": "x" * 10**6, "message": "why"})
    data = only_event(lonely)["data"]
    assert data["message"] == "why"
    assert data["broadcast.cut"] == ["text"]
    assert len(data["traceback"]) > 1000


def test_an_object_that_emits_while_it_is_read_is_heard_where_it_is_plain(lonely: Broadcaster) -> None:
    class Chatty:
        def __str__(self) -> str:
            lonely.emit("inner", {"n": 1})
            lonely.emit("inner", {"me": self})
            return "done"

    lonely.emit("outer", {"x": Chatty()})
    events = [json.loads(payload) for payload in payloads_of(lonely)]
    plain = {"type": "inner", "data": {"n": 1}}
    told = [{"type": event["type"], "data": event["data"]} for event in events]
    inner, outer = {"type": "inner", "data": {"me": "done"}}, {"type": "outer", "data": {"x": "done"}}
    assert told == [*[plain] * NESTED_MAX, *[inner] * (NESTED_MAX - 1), outer]
    assert lonely.stats().dropped["nested"] == 1
    lonely.emit("after", {"x": object})
    assert len(payloads_of(lonely)) == 1


def test_an_event_that_nobody_can_read_is_still_told(lonely: Broadcaster, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(cutting_module, "sanitize_data", fail)
    lonely.emit("x", {"a": object()})
    assert only_event(lonely)["data"] == {"broadcast.cut": ["unreadable"]}
    monkeypatch.setattr(broadcaster_module, "encode", fail)
    assert lonely.emit("y", {"a": 1})["type"] == "y"
    assert lonely.stats().dropped["unencodable"] == 1


def test_a_clock_that_is_off_costs_no_exception(lonely: Broadcaster, monkeypatch: pytest.MonkeyPatch) -> None:
    for now_ns in (-(10**18), 0, 10**19, 10**24):
        monkeypatch.setattr("broadcast.emitter.broadcaster.time_ns", lambda now_ns=now_ns: now_ns)
        assert lonely.emit("x")["type"] == "x"


def test_a_log_of_the_future_or_the_past_keeps_its_order(lonely: Broadcaster, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = []
    for now_ns in (10**18, 10**18 - 10**9, 10**18 + 5 * 10**6):
        monkeypatch.setattr("broadcast.emitter.broadcaster.time_ns", lambda now_ns=now_ns: now_ns)
        stamps.append(lonely.emit("x")["ts"])
    assert stamps == ["2001-09-09T01:46:40.000Z", "2001-09-09T01:46:39.000Z", "2001-09-09T01:46:40.005Z"]


def test_no_environment_makes_the_first_emit_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "nonsense")
    monkeypatch.setenv("BROADCAST_SECRET", "short")
    monkeypatch.setenv("BROADCAST_EVENT_BYTES_MAX", "many")
    emitter = Broadcaster()
    emitter._sender.running = True
    assert emitter.emit("x")["type"] == "x"
    assert [problem.partition(":")[0] for problem in emitter.stats().problems] == [
        "REDIS_URL",
        "BROADCAST_EVENT_BYTES_MAX",
    ]


# --- into the log


def test_what_was_emitted_is_in_the_stream_and_on_the_channel(
    broadcaster: Broadcaster, valkey_server: RedisServer
) -> None:
    with valkey_server.client() as client:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe("v5:events")
        pubsub.get_message(timeout=1)
        event = broadcaster.emit("state.mood", {"old": "calm", "new": "ünruhig"})
        assert broadcaster.flush()
        message: Any = pubsub.get_message(timeout=5)
        pubsub.close()
    assert events_in(valkey_server) == [event]
    heard = json.loads(message["data"])
    assert heard.pop("by") == f"{broadcaster.stats().producer}:1"
    assert heard.pop("id")
    assert heard == event


def test_eight_threads_keep_each_their_order(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    def emit(thread: int) -> None:
        for i in range(500):
            broadcaster.emit("x", {"thread": thread, "i": i})

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broadcaster.flush(20)
    events = events_in(valkey_server)
    for number in range(8):
        assert [event["data"]["i"] for event in events if event["data"]["thread"] == number] == list(range(500))
    assert broadcaster.stats().appended == 4000


def test_channel_and_stream_may_have_other_names(valkey_server: RedisServer) -> None:
    emitter = Broadcaster(valkey_server.url, "mine:events", "mine:stream")
    emitter.emit("x")
    assert emitter.close(5)
    with valkey_server.client() as client:
        assert client.xlen("mine:stream") == 1
        assert client.exists("{mine:stream}:log") == 1
        assert client.exists("v5:stream") == 0


def test_an_address_of_valkey_will_do(valkey_server: RedisServer) -> None:
    emitter = Broadcaster(valkey_server.url.replace("redis://", "valkey://"))
    emitter.emit("x")
    assert emitter.close(5)


# --- flush, close, stats


def test_flush_of_nothing_is_done_at_once(lonely: Broadcaster) -> None:
    assert lonely.flush(0)


def test_flush_gives_up_in_time(lonely: Broadcaster) -> None:
    lonely._sender.running = False
    lonely.emit("x")
    for timeout_s in (0, -1, float("nan"), 0.2):
        began = time.monotonic()
        assert not lonely.flush(timeout_s)
        assert time.monotonic() - began < 2
    lonely._sender.stop()


def test_flush_may_be_called_again_and_by_several_threads(broadcaster: Broadcaster) -> None:
    for _ in range(200):
        broadcaster.emit("x")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(broadcaster.flush(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert broadcaster.flush(0)


def test_flush_in_the_senders_own_thread_does_not_wait_for_itself(
    broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = []
    connect = broadcaster._connect

    def connect_and_flush() -> Any:
        answers.append(broadcaster.flush(30))
        return connect()

    monkeypatch.setattr(broadcaster._sender, "_connect", connect_and_flush)
    broadcaster.emit("x")
    assert broadcaster.flush(10)
    assert answers == [False]


def test_after_close_events_are_counted_and_nothing_else(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    broadcaster.emit("before")
    assert broadcaster.close()
    assert broadcaster.emit("after")["type"] == "after"
    assert broadcaster.close()
    assert [event["type"] for event in events_in(valkey_server)] == ["before"]
    stats = broadcaster.stats()
    assert (stats.emitted, stats.dropped["closed"]) == (1, 1)


def test_a_closed_broadcaster_ends_its_thread_and_its_connection(broadcaster: Broadcaster) -> None:
    broadcaster.emit("x")
    assert broadcaster.close()
    deadline = time.monotonic() + 5
    while broadcaster._sender.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not broadcaster._sender.running
    assert broadcaster._sender._connection is None


def test_stats_tell_what_happened(broadcaster: Broadcaster) -> None:
    fresh = broadcaster.stats()
    assert (fresh.emitted, fresh.appended, fresh.connects, fresh.append_ms) == (0, 0, 0, None)
    broadcaster.emit("x", {"a": 1})
    assert broadcaster.flush()
    stats = broadcaster.stats()
    assert (stats.emitted, stats.appended, stats.buffered, stats.buffered_bytes) == (1, 1, 0, 0)
    assert (stats.connects, stats.unpublished, stats.last_error) == (1, 0, None)
    assert stats.append_ms is not None
    assert stats.producer.split("-")[-2] == str(os.getpid())
    with pytest.raises(TypeError):
        stats.dropped["buffer_full"] = 1  # type: ignore[index]


def test_without_a_page_that_the_kernel_wipes_the_process_id_tells_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = PidMark()
    assert mark[0] == 1
    monkeypatch.setattr(os, "getpid", lambda: 12345)
    assert mark[0] == 0
    mark[0] = 1
    assert mark[0] == 1


def test_a_fork_that_python_does_not_see_is_noticed_by_the_wiped_mark(
    broadcaster: Broadcaster, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under uWSGI, whose children may come without hooks: what is buffered is the parent's, and so is its name."""
    broadcaster.emit("parent")
    assert broadcaster.flush()
    parent, parents_sender = broadcaster.stats().producer, broadcaster._sender
    monkeypatch.setattr(os, "getpid", lambda: 12345)
    FORK_MARK[0] = 0
    assert broadcaster.flush()
    broadcaster.emit("child")
    assert broadcaster.flush()
    for sender in (parents_sender, broadcaster._sender):
        sender.stop()
    child = broadcaster.stats()
    assert child.producer != parent
    assert "-12345-" in child.producer
    assert (child.emitted, child.appended) == (1, 1)
    with valkey_server.client() as client:
        read: Any = client.xrange("v5:stream")
    assert [fields[b"by"].decode() for _, fields in read] == [f"{parent}:1", f"{child.producer}:1"]


def test_memory_is_bounded_while_redis_is_away(lonely: Broadcaster) -> None:
    emitter = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1", buffer_bytes_max=100_000))
    emitter._sender.running = True
    for i in range(20_000):
        emitter.emit("x", {"i": i})
    stats = emitter.stats()
    assert stats.buffered_bytes <= 100_000
    assert stats.emitted == stats.buffered + stats.dropped["buffer_full"] == 20_000


# --- the module's own functions


@pytest.fixture
def fresh_global(monkeypatch: pytest.MonkeyPatch, valkey_server: RedisServer) -> Iterator[None]:
    monkeypatch.setattr(broadcaster_module, "_global", {})
    monkeypatch.setenv("REDIS_URL", valkey_server.url)
    yield
    broadcast.get_broadcaster().close(1)


@pytest.mark.usefixtures("fresh_global")
def test_the_modules_functions_use_one_broadcaster(valkey_server: RedisServer) -> None:
    broadcast.set_cycle(7, 9)
    event = broadcast.emit("x", {"a": 1})
    with broadcast.cycle(10, "night"):
        broadcast.emit("y")
    assert broadcast.flush()
    assert broadcast.stats().emitted == 4
    assert events_in(valkey_server)[0] == event
    assert [(e["type"], e["cycle"], e["day"]) for e in events_in(valkey_server)] == [
        ("x", 7, 9),
        ("cycle.start", 8, 10),
        ("y", 8, 10),
        ("cycle.end", 8, 10),
    ]


@pytest.mark.usefixtures("fresh_global")
def test_all_threads_get_the_same_broadcaster() -> None:
    found: list[Broadcaster] = []
    barrier = threading.Barrier(8)

    def get() -> None:
        barrier.wait()
        found.append(broadcast.get_broadcaster())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_even_a_broadcaster_that_cannot_be_made_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Broadcaster:
        raise MemoryError

    monkeypatch.setattr(broadcast, "get_broadcaster", fail)
    assert broadcast.emit("x", [1]) == {"type": "x", "ts": "", "cycle": 0, "day": 0, "data": [1]}
    assert SimpleNamespace(**broadcast.emit("x")).data == {}


@pytest.mark.parametrize("mine", [5, "text", {"text": 1}, [{"a": 1}], None])
def test_a_minds_own_field_of_the_name_that_tells_of_cuts_is_kept(lonely: Broadcaster, mine: Any) -> None:
    sent = lonely.emit("x", {"broadcast.cut": mine, "odd": object})
    assert mine == decode(lonely._buffer.take(events_max=1, bytes_max=10**6)[0])["data"]["broadcast.cut"]
    assert "x" == sent["type"]
