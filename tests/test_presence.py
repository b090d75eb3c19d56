"""A mind that is killed says nothing: its marks do, and the log says so once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.presence import Contact, Presence, Rhythm
from broadcast.log.cancelling import end_tasks
from broadcast.settings import Settings
from tests.bridges import Client, emitter_to, serving
from tests.programs import environment
from tests.servers import RedisServer

KEYS: Final = ("v5:stream", "{v5:stream}:log", "{v5:stream}:presence", "{v5:stream}:producers")
MARKS, KNOWN = KEYS[2], KEYS[3]
SCRIPT: Final = (files("broadcast.bridge") / "presence.lua").read_text("utf-8")
TS: Final = "2026-02-14T19:01:23.456Z"
QUICK: Final = Rhythm(look_s=0.1, up_after_s=0.4, down_after_s=1.0)
MIND: Final = """
import time
from broadcast import emit
from broadcast.emitter import sender
sender.BACKOFF_MAX_S = 0.1  # it has to be back before a bridge in a hurry judges it
while True:
    emit("beat")
    time.sleep(0.05)
"""


class Marks:
    """What senders would have left, and what a bridge makes of it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        client.hset(KEYS[1], "epoch", "e")

    def mark(self, producer: str, ago_ms: int) -> None:
        seconds, micros = self.client.time()
        self.client.zadd(MARKS, {producer: seconds * 1000 + micros // 1000 - ago_ms})

    def look(self, *, may_judge: bool = True) -> list[tuple[str, str]]:
        until_ms = 2**53 if may_judge else 0
        _, *said = self.client.eval(SCRIPT, 4, *KEYS, "v5:events", 10_000, TS, 9_000, 22_000, until_ms)
        words = [word.decode() for word in said]
        return list(zip(words[::2], words[1::2], strict=True))

    @property
    def log(self) -> list[Any]:
        return [json.loads(fields[b"event"]) for _, fields in self.client.xrange("v5:stream")]


@pytest.fixture
def marks(any_server: RedisServer) -> Iterator[Marks]:
    with any_server.client() as client:
        client.flushall()
        yield Marks(client)


def test_a_producer_is_up_once_it_has_lived_for_an_interval_and_down_when_it_is_missed(marks: Marks) -> None:
    marks.mark("host-a-12-0f", 12_000)
    assert [] == marks.look()
    marks.mark("host-a-12-0f", 0)
    assert [("up", "host-a-12-0f")] == marks.look()
    assert [] == marks.look()
    marks.mark("host-a-12-0f", 23_000)
    assert [] == marks.look(may_judge=False)
    assert [("down", "host-a-12-0f")] == marks.look()
    assert [] == marks.look()
    data = {"producer": "host-a-12-0f", "host": "host-a", "pid": 12}
    assert [{"state": "up", **data}, {"state": "down", **data}] == [event["data"] for event in marks.log]
    assert {"broadcast.producer"} == {event["type"] for event in marks.log}


def test_one_that_lives_shortly_is_not_spoken_of(marks: Marks) -> None:
    marks.mark("h-1-0f", 0)
    assert [] == marks.look()
    marks.mark("h-1-0f", 30_000)
    assert [] == marks.look()
    assert [] == marks.log
    assert 0 == marks.client.exists(MARKS, KNOWN)


def test_one_that_takes_its_leave_is_down_at_the_next_look(marks: Marks) -> None:
    marks.mark("h-1-0f", 12_000)
    marks.look()
    marks.mark("h-1-0f", 0)
    marks.look()
    marks.client.zadd(MARKS, {"h-1-0f": 0}, xx=True)
    assert [("down", "h-1-0f")] == marks.look()


def test_one_that_was_missed_and_comes_back_is_up_again(marks: Marks) -> None:
    said: list[tuple[str, str]] = []
    for ago_ms in (12_000, 0, 30_000, 12_000, 0):
        marks.mark("h-1-0f", ago_ms)
        said += marks.look()
    assert [("up", "h-1-0f"), ("down", "h-1-0f"), ("up", "h-1-0f")] == said


def test_what_is_said_stands_in_the_newest_cycle_and_day(marks: Marks) -> None:
    for event, expected in (
        ('{"type":"x","ts":"t","cycle":42,"day":1551,"data":{}}', (42, 1551)),
        ('{"type":"x","ts":"t","cycle":"dusk \\"1\\"","day":7,"data":{}}', ('dusk "1"', 7)),
        ("no json", (0, 0)),
        ('{"type":"x","cycle":{"a":1},"day":1.5}', (0, 0)),
    ):
        marks.client.delete("v5:stream", MARKS, KNOWN)
        marks.client.xadd("v5:stream", {"event": event, "by": "p:1"})
        marks.mark("h-1-0f", 12_000)
        marks.look()
        marks.mark("h-1-0f", 0)
        marks.look()
        newest = json.loads(marks.client.xrevrange("v5:stream", count=1)[0][1][b"event"])
        assert expected == (newest["cycle"], newest["day"])


def test_hostile_names_and_settings_make_no_broken_event(marks: Marks) -> None:
    marks.client.hset(KEYS[1], "maxlen", "many")
    for name in ('a"b-1-0f', "\x00", "-", "%s-2-0f", "x" * 10_000):
        marks.mark(name, 12_000)
    marks.look()
    for name in ('a"b-1-0f', "\x00", "-", "%s-2-0f", "x" * 10_000):
        marks.mark(name, 0)
    assert 5 == len(marks.look())
    assert {'a"b-1-0f', "\x00", "-", "%s-2-0f", "x" * 10_000} == {event["data"]["producer"] for event in marks.log}


def test_a_log_that_has_not_begun_is_left_alone(marks: Marks) -> None:
    marks.client.delete(KEYS[1])
    marks.mark("h-1-0f", 12_000)
    assert [] == marks.look()
    assert 0 == marks.client.exists("v5:stream", KNOWN)


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(-60, 60), st.booleans()), max_size=30))
def test_absence_is_judged_only_by_who_has_heard_from_redis_without_a_break(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Each step: how long was waited, by how much the server's clock ran off meanwhile, whether it answered."""
    rhythm, contact = Rhythm(), Contact(Rhythm())
    now_s, server_s = 0.0, 1e9
    unbroken_s: float | None = None
    for wait_s, off_s, is_answered in steps:
        now_s += wait_s
        server_s += max(0.0, wait_s + off_s)
        may_judge = int(server_s * 1000) <= contact.judge_until_ms(now_s)
        if may_judge:
            assert unbroken_s is not None
            assert now_s - unbroken_s >= rhythm.down_after_s
            assert wait_s + off_s <= rhythm.look_s * 3 + 0.01
        if not is_answered:
            contact.lost()
            unbroken_s = None
            continue
        is_late = wait_s + off_s > min(wait_s, rhythm.look_s * 2) + rhythm.look_s + 0.001
        contact.heard(int(server_s * 1000), now_s)
        unbroken_s = now_s if unbroken_s is None or is_late else unbroken_s


def test_a_bridge_that_hears_from_redis_all_the_time_does_judge() -> None:
    rhythm, contact = Rhythm(), Contact(Rhythm())
    for second in range(0, 60, 5):
        may_judge = 10**12 + second * 1000 <= contact.judge_until_ms(float(second))
        assert (second >= rhythm.down_after_s) == may_judge
        contact.heard(10**12 + second * 1000, float(second))


@contextmanager
def mind(url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", MIND], env=environment(url))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_killed_mind_is_missed_once_by_two_bridges(valkey_server: RedisServer) -> None:
    settings = Settings(redis_url=valkey_server.url)
    bridges = [asyncio.create_task(Presence(settings, QUICK).follow()) for _ in range(2)]
    try:
        with mind(valkey_server.url) as process:
            up = await _until_said(valkey_server, "up")
            os.kill(process.pid, signal.SIGSTOP)
            await _until_said(valkey_server, "down")
            os.kill(process.pid, signal.SIGCONT)
            await _until_said(valkey_server, "up", 2)
            process.kill()
            down = await _until_said(valkey_server, "down", 2)
            await asyncio.sleep(0.5)
    finally:
        await end_tasks(*bridges)
        assert all(bridge.cancelled() for bridge in bridges), [b.exception() for b in bridges if not b.cancelled()]
    assert ["up", "down", "up", "down"] == [event["data"]["state"] for event in _said(valkey_server)]
    assert (process.pid, up["data"]["producer"]) == (down["data"]["pid"], down["data"]["producer"])


async def test_redis_that_was_away_makes_nobody_missed(own_server: RedisServer) -> None:
    settings = Settings(redis_url=own_server.url)
    bridge = asyncio.create_task(Presence(settings, QUICK).follow())
    try:
        with mind(own_server.url):
            await _until_said(own_server, "up")
            await asyncio.to_thread(own_server.restart, away_s=1.3)
            await asyncio.sleep(1.5)
            own_server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.3)
            own_server.send_signal(signal.SIGCONT)
            await asyncio.sleep(1.5)
    finally:
        await end_tasks(bridge)
    assert "down" not in [event["data"]["state"] for event in _said(own_server)]


@pytest.mark.parametrize("more", ["+role", "+eval"])
async def test_a_bridge_that_may_not_write_goes_on_reading(own_server: RedisServer, tmp_path: Path, more: str) -> None:
    with own_server.client() as administrator:
        rules = "on >secret ~* &* +@read +@connection +multi +exec +info +role"
        administrator.execute_command("ACL", "SETUSER", "reader", *rules.split(), more)
    url = own_server.url.replace("redis://", "redis://reader:secret@")
    emitter = emitter_to(own_server.url)
    with serving(url, tmp_path) as bridge:
        async with Client(bridge.url) as client:
            emitter.emit("x")
            await client.until_got("event")
            async with asyncio.timeout(15):  # three looks
                while "may not write" not in bridge.log.read_text():
                    await asyncio.sleep(0.1)
        assert 1 == bridge.log.read_text().count("may not write")
    emitter.close(2)


def test_a_producer_that_has_lived_long_enough_marks_itself_as_gone_at_the_end(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.emitter.sender.IDLE_ASK_S", 0.2)
    emitter = emitter_to(valkey_server.url)
    emitter.emit("x")
    assert emitter.flush()
    time.sleep(0.3)
    began = time.monotonic()
    assert emitter.close(10)
    assert time.monotonic() - began < 5  # it waits for the leave, not for the time to be up
    with valkey_server.client() as client:
        assert 0 == client.zscore(MARKS, emitter.stats().producer)


def test_one_of_a_short_life_pays_nothing_for_its_leave(valkey_server: RedisServer) -> None:
    emitter = emitter_to(valkey_server.url)
    emitter.emit("x")
    assert emitter.close(2)
    with valkey_server.client() as client:
        score: Any = client.zscore(MARKS, emitter.stats().producer)
        assert score > 0


@pytest.mark.chaos
async def test_at_full_length_a_killed_mind_is_missed_within_half_a_minute(
    valkey_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with serving(valkey_server.url, tmp_path / "a") as one, serving(valkey_server.url, tmp_path / "b"):
        async with Client(one.url, types=["broadcast.producer"]) as client:
            with mind(valkey_server.url) as process:
                async with asyncio.timeout(30):
                    await _until_said(valkey_server, "up")
                process.kill()
                began = time.monotonic()
                async with asyncio.timeout(35):
                    await _until_said(valkey_server, "down")
                assert time.monotonic() - began < 30
            await client.until_got("event", 2)
        assert ["up", "down"] == [event["data"]["state"] for event in client.events]


def _said(server: RedisServer) -> list[Any]:
    with server.client() as client:
        entries: Any = client.xrange("v5:stream")
    events = [json.loads(fields[b"event"]) for _, fields in entries]
    return [event for event in events if event["type"] == "broadcast.producer"]


async def _until_said(server: RedisServer, state: str, count: int = 1) -> Any:
    async with asyncio.timeout(40):
        while len(found := [event for event in _said(server) if event["data"]["state"] == state]) < count:
            await asyncio.sleep(0.05)
    return found[-1]
