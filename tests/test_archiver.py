"""The archiver between a real stream and a real PostgreSQL: every event once, in order, whatever is done to either."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from broadcast.consumers import archiver, store
from broadcast.consumers.archiver import Archiver
from broadcast.consumers.store import Store
from broadcast.errors import SettingError
from broadcast.log.archiving import Archiving, archive_key
from broadcast.log.position import START, Position
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings
from tests.archivers import (
    PATIENCE_S,
    STREAM,
    add,
    append,
    archive_once,
    archiving,
    ask,
    is_consistent,
    numbers,
    settings_of,
    stored,
)
from tests.archives import database
from tests.bridges import emitter_to
from tests.postgresql import PostgresqlServer, running_postgresql
from tests.servers import RedisServer

PLAIN: dict[str, Any] = {"type": "x", "ts": "2026-02-14T19:01:23.456Z", "cycle": 1, "day": 1, "data": {}}


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


async def delivered(server: RedisServer) -> list[dict[str, Any]]:
    """What a reader of the stream gets."""
    reader = StreamReader(server.url, STREAM)
    try:
        entries, _ = await reader.range(Position(START), count=10_000)
    finally:
        await reader.aclose()
    return [entry.event for entry in entries]


async def test_what_is_archived_is_what_a_reader_of_the_stream_gets(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        add(client, 0, 40)
        append(client, PLAIN)
        append(client, {**PLAIN, "by": "liar:1", "mood": {"a": "ü\\n\t"}, "cycle": "forty", "day": None})
        append(client, {**PLAIN, "type": "tab\ttype\\", "data": {"text": 'a "b"\n\\'}}, by="for\\eign\t:x")
        append(client, b"{no json", by="mind:41")
        client.xadd(STREAM, {"other": "field"})
        append(client, {**PLAIN, "ts": "2026-02-14T21:01:23.456789+02:00"}, by="mind:42")
    work = await archive_once(valkey_server, url)
    assert await delivered(valkey_server) == stored(url)
    assert 46 == work.archiver.progress.events
    assert [(b"{no json", "mind:41"), (b"other=field", None)] == [
        (bytes(raw), by) for raw, by in ask(url, "SELECT raw, by FROM parked ORDER BY id_ms, id_seq")
    ]
    assert [("mind", 42)] == ask(url, "SELECT name, last_seq FROM producers ORDER BY name")
    assert is_consistent(url)


async def test_it_goes_on_where_it_ended_and_follows_what_comes(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        add(client, 0, 1200)
        await archive_once(valkey_server, url)
        add(client, 1200, 10)
        async with archiving(valkey_server, url) as work:
            await work.until_stored(10)
            add(client, 1210, 10)
            await work.until_stored(20)
        told = Archiving.of_fields(client.hgetall(archive_key(STREAM)))
    assert list(range(1220)) == numbers(stored(url))
    assert list(range(1, 1221)) == [event["n"] for event in stored(url)]
    assert told is not None and (told.holder, told.n) == (work.archiver.holder, 1220)


async def test_without_a_database_or_with_another_stream_in_it_the_error_says_what_to_do(
    valkey_server: RedisServer, url: str
) -> None:
    with pytest.raises(SettingError, match="DATABASE_URL is not set"):
        Archiver(Settings(redis_url=valkey_server.url))
    with valkey_server.client() as client:
        add(client, 0, 1)
    await archive_once(valkey_server, url)
    with pytest.raises(SettingError, match="holds the events of the stream 'v5:stream', not of 'other'"):
        await Archiver(settings_of(valkey_server, url, stream="other")).run()
    ask(url, "INSERT INTO broadcast_migrations (name) VALUES ('9999_future.sql')")
    with pytest.raises(SettingError, match="newer version"):
        await Archiver(settings_of(valkey_server, url)).run()


@pytest.mark.parametrize(
    "made", ["TABLE events ()", "TABLE types ()", "INDEX events_of_type ON other (a)", "TYPE gaps AS ENUM ()"]
)
async def test_a_database_that_is_somebody_elses_is_refused_and_left_as_it_was(
    valkey_server: RedisServer, url: str, made: str
) -> None:
    ask(url, "CREATE TABLE other (a int)")
    ask(url, f"CREATE {made}")
    with pytest.raises(SettingError, match=r"not ours \(\w+ \"(events|types|events_of_type|gaps)\" already exists\)"):
        async with asyncio.timeout(PATIENCE_S):
            await Archiver(settings_of(valkey_server, url)).run()
    assert [(None,)] == ask(url, "SELECT to_regclass('broadcast_migrations')")


# --- exactly once


async def test_events_that_were_appended_again_are_archived_once(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        add(client, 0, 30)
        add(client, 10, 30)
        add(client, 0, 5, producer="other")
        await archive_once(valkey_server, url)
        # A later run knows from the database what the first had.
        add(client, 35, 10)
        append(client, PLAIN, by="zero:0")
        append(client, PLAIN, by="zero:0")
        work = await archive_once(valkey_server, url)
    assert [*range(40), *range(5), *range(40, 45)] == numbers(stored(url))
    assert 6 == work.archiver.progress.repeats
    assert 51 == len(stored(url))
    assert is_consistent(url)


async def test_who_starts_takes_over_and_who_was_fenced_off_waits_until_the_other_is_silent(
    valkey_server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SILENT_S", 1.0)
    monkeypatch.setattr(archiver, "STANDBY_S", 0.1)
    monkeypatch.setattr(archiver, "HOLD_S", 0.2)
    with valkey_server.client() as client:
        async with archiving(valkey_server, url) as first:
            add(client, 0, 10)
            await first.until_stored(10)
            async with archiving(valkey_server, url) as second:
                add(client, 10, 10)
                await second.until_stored(10)
                # Longer than it takes to be called silent: a quiet log is no silent archiver.
                await asyncio.sleep(1.5)
                assert first.said("another archiver")
                add(client, 20, 10)
                await second.until_stored(20)
            await first.until(lambda: not first.archiver.progress.error)
            add(client, 30, 10)
            await first.until_stored(20)
    assert list(range(40)) == numbers(stored(url))


async def test_two_that_begin_at_once_with_nothing_archived_share_no_event(
    valkey_server: RedisServer, url: str
) -> None:
    with valkey_server.client() as client:
        async with archiving(valkey_server, url) as one, archiving(valkey_server, url) as other:
            for first in range(0, 100, 10):
                add(client, first, 10)
                await asyncio.sleep(0.02)
            await one.until(lambda: one.archiver.progress.events + other.archiver.progress.events >= 100)
    assert list(range(100)) == numbers(stored(url))


async def test_a_holder_that_stands_still_in_its_transaction_is_ended_by_who_takes_over(
    valkey_server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CLAIM_LOCK_TIMEOUT_MS", 300)
    with valkey_server.client() as client:
        add(client, 0, 10)
        await archive_once(valkey_server, url)
        holder = ask(url, "SELECT holder FROM checkpoint")[0][0]
        stopped = psycopg.connect(url, application_name=f"broadcast-{holder}")
        stopped.execute("UPDATE checkpoint SET heard_at = now()")
        add(client, 10, 10)
        await archive_once(valkey_server, url)
        with pytest.raises(psycopg.OperationalError):
            stopped.execute("SELECT 1")
        stopped.close()
    assert list(range(20)) == numbers(stored(url))


async def test_postgresql_and_redis_may_fall_at_any_time(own_server: RedisServer) -> None:
    emitter = emitter_to(own_server.url)
    stop = asyncio.Event()

    async def emit() -> int:
        number = 0
        while not stop.is_set():
            for _ in range(20):
                emitter.emit("x", {"i": number})
                number += 1
            await asyncio.sleep(0.02)
        return number

    with running_postgresql() as server:
        async with archiving(own_server, server.url) as work:
            emitting = asyncio.create_task(emit())
            for number in (signal.SIGKILL, signal.SIGINT):
                await work.until_stored(work.archiver.progress.events + 200)
                await asyncio.to_thread(server.restart, number)
                await work.until_stored(work.archiver.progress.events + 200)
                await asyncio.to_thread(own_server.restart, signal.SIGKILL)
            stop.set()
            emitted = await emitting
            assert await asyncio.to_thread(emitter.flush, 20)
            await work.until(lambda: numbers(stored(server.url))[-1:] == [emitted - 1])
        emitter.close(1)
        assert list(range(emitted)) == numbers(stored(server.url))
        assert is_consistent(server.url)
    assert work.said("PostgreSQL:") and work.said("archiving again")
    assert work.said("Redis cannot be read") and work.said("Redis can be read again")


# --- gaps, and logs that change


async def test_a_lost_tail_that_is_appended_again_is_archived_once(
    own_server: RedisServer, url: str, tmp_path: Path
) -> None:
    emitter = emitter_to(own_server.url)

    def emit(first: int, count: int) -> None:
        for i in range(first, first + count):
            emitter.emit("x", {"i": i})
        assert emitter.flush(10)

    async with archiving(own_server, url) as work:
        await asyncio.to_thread(emit, 0, 50)
        await work.until_stored(50)
        await asyncio.to_thread(own_server.copy_to, tmp_path / "older")
        await asyncio.to_thread(emit, 50, 50)
        await work.until_stored(100)
        await asyncio.to_thread(own_server.fall_back_to, tmp_path / "older")
        await asyncio.to_thread(emit, 100, 10)
        await work.until_stored(110)
    emitter.close(1)
    assert list(range(110)) == numbers(stored(url))
    assert 50 == work.archiver.progress.repeats
    epochs = ask(url, "SELECT epoch, name, parent FROM epochs ORDER BY epoch")
    assert 2 == len(epochs) and epochs[0][1] == epochs[1][2]
    # Nothing that the archive had is lost, so nobody is told of a gap.
    assert [("rewound", None, True)] == ask(url, "SELECT reason, lost, announced FROM gaps")
    assert is_consistent(url)


async def test_another_log_under_the_same_key_is_another_epoch(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        async with archiving(valkey_server, url) as work:
            add(client, 0, 10)
            await work.until_stored(10)
            client.flushall()
            add(client, 0, 10, producer="next")
            await work.until_stored(20)
            # Emptied, and nothing in it for a while, over a restart.
            client.flushall()
            await asyncio.sleep(0.5)
        add(client, 10, 5, producer="next")
        await archive_once(valkey_server, url)
    assert [*range(10), *range(10), *range(10, 15)] == numbers(stored(url))
    assert [(1,), (2,), (3,)] == ask(url, "SELECT DISTINCT epoch FROM events ORDER BY epoch")
    assert [("reset",), ("reset",)] == ask(url, "SELECT reason FROM gaps")
    per_log = "SELECT epoch, count(*) FROM events WHERE type LIKE 'x.%' GROUP BY epoch ORDER BY epoch"
    assert [(1, 10), (2, 10), (3, 5)] == ask(url, per_log)


async def test_what_was_trimmed_before_it_was_archived_is_a_gap_that_the_log_tells_of(
    valkey_server: RedisServer, url: str
) -> None:
    with valkey_server.client() as client:
        add(client, 0, 10)
        await archive_once(valkey_server, url)
        add(client, 10, 50)
        client.xtrim(STREAM, maxlen=20, approximate=False)
        async with archiving(valkey_server, url) as work:
            await work.until(lambda: ask(url, "SELECT 1 FROM gaps WHERE announced"))
            await work.until_stored(21)
    events = stored(url)
    assert [*range(10), *range(40, 60)] == numbers(events)
    assert "broadcast.gap" == events[-1]["type"]
    told = {"after": events[9]["id"], "before": events[10]["id"], "lost": 30, "reason": "trimmed"}
    assert told == events[-1]["data"]
    row = "SELECT epoch, after_ms || '-' || after_seq, before_ms || '-' || before_seq, lost, reason FROM gaps"
    assert [(1, told["after"], told["before"], 30, "trimmed")] == ask(url, row)
    assert work.said("gap: ")


async def test_a_log_without_emitters_of_ours_gets_its_name_later(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        client.execute_command("ACL", "SETUSER", "reading", "on", ">word", "~*", "+@all", "-hsetnx", "-hset", "-eval")
        settings = Settings(redis_url=valkey_server.url.replace("//", "//reading:word@"), database_url=url)
        append(client, PLAIN)
        await Archiver(settings, is_once=True).run()
        assert [("",)] == ask(url, "SELECT name FROM epochs")
        append(client, PLAIN)
        await Archiver(settings, is_once=True).run()
        await archive_once(valkey_server, url)
        name = client.hget("{v5:stream}:log", "epoch")
        client.execute_command("ACL", "DELUSER", "reading")
        append(client, PLAIN)
        await archive_once(valkey_server, url)
    assert name is not None
    assert [(name.decode(),)] == ask(url, "SELECT name FROM epochs")
    assert 3 == len(stored(url))


# --- poison


@pytest.mark.parametrize("poisons", [(500,), (0, 1, 333, 999), range(0, 1000, 1)], ids=["one", "several", "all"])
async def test_what_postgresql_refuses_is_parked_and_the_rest_goes_on(
    valkey_server: RedisServer, url: str, poisons: Any
) -> None:
    # Longer than an index of PostgreSQL takes, and random enough that it cannot be made shorter.
    long = "".join(chr(0x4E00 + i * 7919 % 20000) for i in range(3000))
    count = 1000 if len(poisons) < 1000 else 40
    with valkey_server.client() as client:
        for i in range(count):
            poison: dict[str, Any] = {"type": long} if i % 2 else {"data": {"i": "\0"}}
            append(client, {**PLAIN, "data": {"i": i}, **(poison if i in poisons else {})}, by=f"mind:{i + 1}")
    work = await archive_once(valkey_server, url)
    refused = [i for i in poisons if i < count]
    events = stored(url)
    assert refused == [i for i, event in enumerate(events) if event["type"] == "broadcast.malformed"]
    assert [i for i in range(count) if i not in refused] == numbers(events)
    assert [f"mind:{i + 1}" for i in refused] == [
        by for (by,) in ask(url, "SELECT by FROM parked ORDER BY id_ms, id_seq")
    ]
    for raw, error in ask(url, "SELECT raw, error FROM parked"):
        assert orjson.loads(bytes(raw))["type"] in ("x", long)
        assert "U+0000" in error or "index row" in error
    assert len(refused) == work.archiver.progress.parked
    assert is_consistent(url)


async def test_an_id_that_no_column_holds_is_parked_alone(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        append(client, PLAIN, entry_id="5-1")
        append(client, PLAIN, entry_id="5-18446744073709551615")
        append(client, PLAIN, entry_id="253402300799999-0")
        append(client, PLAIN, entry_id="9223372036854775807-0")
        append(client, PLAIN, by="mind:1", entry_id="18446744073709551614-7")
        await archive_once(valkey_server, url)
        append(client, PLAIN, entry_id="18446744073709551615-7")
        await archive_once(valkey_server, url)
    assert ["5-1", "253402300799999-0"] == [event["id"] for event in stored(url)]
    parked = [f"{ms}-{seq}" for ms, seq in ask(url, "SELECT id_ms, id_seq FROM parked ORDER BY id_ms, id_seq")]
    assert [
        "5-18446744073709551615",
        "9223372036854775807-0",
        "18446744073709551614-7",
        "18446744073709551615-7",
    ] == parked


# --- killed


@pytest.mark.parametrize("how", ["before", pytest.param("during", marks=pytest.mark.chaos)])
def test_killed_at_each_exchange_with_postgresql_it_has_every_event_once(
    valkey_server: RedisServer, url: str, how: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mortal_archiver", valkey_server.url, url, how],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )
    assert "" == done.stderr
    exchanges, appended = map(int, done.stdout.split())
    assert exchanges > 20
    assert list(range(appended)) == numbers(stored(url))
    assert is_consistent(url)


@pytest.mark.chaos
async def test_archivers_that_come_and_go_under_load_share_every_event(
    valkey_server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SILENT_S", 0.5)
    monkeypatch.setattr(archiver, "STANDBY_S", 0.1)
    monkeypatch.setattr(archiver, "HOLD_S", 0.2)
    chance = random.Random(7)
    with valkey_server.client() as client:
        appended = 0
        async with AsyncExitStack() as stack:
            for _ in range(60):
                # Some of it again, as after a rewind.
                add(client, max(0, appended - 3), 30)
                appended = max(0, appended - 3) + 30
                if chance.random() < 0.2:
                    await stack.enter_async_context(archiving(valkey_server, url))
                elif chance.random() < 0.1:
                    await stack.aclose()
                elif chance.random() < 0.1:
                    ask(
                        url,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'archiver-'",
                    )
                await asyncio.sleep(0.05)
        await archive_once(valkey_server, url)
    assert list(range(appended)) == numbers(stored(url))
    assert is_consistent(url)


async def test_it_comes_back_more_and_more_rarely_to_a_database_that_was_never_there(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "BACKOFF_FIRST_S", 0.02)
    tries: list[float] = []

    async def refuse(_: Store) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(Store, "open", refuse)
    async with archiving(valkey_server, "postgresql://127.0.0.1:1/nowhere") as work:
        await work.until(lambda: len(tries) >= 5)
    pauses = [after - before for before, after in pairwise(tries)]
    assert all(pause >= 0.02 * 2**n for n, pause in enumerate(pauses)), pauses
