"""Forgetting: in the stream, the archive and the bridges' memory, and no cursor loses count by it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from broadcast import Broadcaster, listen
from broadcast.bridge.ring import Ring, RingEvent
from broadcast.consumers import eraser, vacuum
from broadcast.consumers.blanking import ArchiveEraser
from broadcast.consumers.eraser import Eraser, Found, Report
from broadcast.consumers.vacuum import Purged
from broadcast.errors import FilterError, PositionError
from broadcast.event import timestamp
from broadcast.log.cancelling import end_tasks
from broadcast.log.entry import decode_entry
from broadcast.log.erasure import BLANK, ERASED, Erasure
from broadcast.log.position import EntryId, Position
from broadcast.log.rewriting import StreamEraser
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings
from tests.archivers import append as add_entry
from tests.archivers import archive_once, is_consistent
from tests.archives import database, fill
from tests.bridges import Client, serving
from tests.postgresql import PostgresqlServer
from tests.programs import COMMAND, Command, environment, started, wait_until
from tests.servers import RedisServer

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECRET = "sk-secret"


def asked(**named: Any) -> Erasure:
    return Erasure.asked(now=NOW, **named)


# --- what is meant


def test_what_all_conditions_name_is_meant_and_what_tells_of_an_erasure_never_is() -> None:
    erasure = asked(ids=["5-0", "6-0"], types="error,critic.*", since="2026-01-01T00:00:00Z", until="5m")
    ts = "2026-02-01T00:00:00.000Z"
    assert erasure.covers(EntryId(5, 0), "error", ts)
    assert erasure.covers(EntryId(6, 0), "critic.verdict", ts)
    assert not erasure.covers(EntryId(7, 0), "error", ts)
    assert not erasure.covers(EntryId(5, 0), "note", ts)
    assert not erasure.covers(EntryId(5, 0), "error", "2025-12-31T23:59:59.999Z")
    assert not erasure.covers(EntryId(5, 0), "error", "2026-11-25T11:55:00.001Z")
    assert [] == [name for name in (BLANK, ERASED) if asked(types="*").covers(EntryId(5, 0), name, ts)]


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({}, PositionError),
        ({"ids": ["x"]}, PositionError),
        ({"types": "a b"}, FilterError),
        ({"since": "5-0"}, PositionError),
        ({"ids": [f"{n}-0" for n in range(1001)]}, PositionError),
    ],
)
def test_what_is_no_question_is_refused(named: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(**named)


@given(
    ids=st.frozensets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3),
    types=st.sampled_from([None, "error", "a.*,-a.b"]),
    since=st.sampled_from([None, "2026-01-01T00:00:00Z"]),
    until=st.sampled_from([None, "2026-01-02T00:00:00+01:00"]),
)
def test_what_is_told_to_the_bridges_means_the_same(
    ids: frozenset[tuple[int, int]], types: str | None, since: str | None, until: str | None
) -> None:
    named = {"ids": [f"{ms}-{seq}" for ms, seq in ids], "types": types, "since": since, "until": until}
    if any(named.values()):
        erasure = asked(**named)
        assert erasure == Erasure.from_data(json.loads(json.dumps(erasure.as_data())))


@pytest.mark.parametrize(
    "data", [{}, {"ids": 5}, {"ids": [None]}, {"types": 7}, {"from": "x"}, {"ids": ["5-0"], "until": 1}]
)
def test_what_is_no_erasure_makes_a_bridge_forget_nothing(data: dict[str, Any]) -> None:
    assert Erasure.from_data(data) is None


# --- the ring


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=20), st.integers(1, 12))
def test_a_ring_keeps_every_place_and_finds_the_rest_by_type(types: list[str], events_max: int) -> None:
    ring, twin = (Ring(events_max=events_max, bytes_max=1 << 20) for _ in range(2))
    for n, name in enumerate(types, 1):
        for each in (ring, twin):
            each.append([decode_entry(b"%d-0" % n, _fields(name), n)])
    erased = ring.erase(asked(types="b").covers)

    left = types[-events_max:]
    assert left.count("b") == erased
    assert [(event.id, event.n) for event in events_of(twin)] == [(event.id, event.n) for event in events_of(ring)]
    assert ring.bytes == sum(len(event.json) for event in events_of(ring))
    assert SECRET not in str([event.json for event in events_of(ring)])
    for wanted, name in (("a", "a"), ("b", BLANK), ("c", "c")):
        found = [event.id.ms for event in ring.newest_first(name.__eq__, until=EntryId(99, 0))]
        assert [n for n in range(len(types), len(types) - len(left), -1) if types[n - 1] == wanted] == found
    ring.append([decode_entry(b"98-0", _fields("b"), 98)] * events_max)  # and goes on trimming
    assert ["b"] * events_max == [event.type for event in events_of(ring)]


def events_of(ring: Ring) -> list[RingEvent]:
    return [item for item in ring.read(ring.start, 99) if isinstance(item, RingEvent)]


def _fields(name: str) -> dict[bytes, bytes]:
    data = {"text": SECRET} if name == "b" else {}
    event = {"type": name, "ts": "2026-02-01T00:00:00.000Z", "cycle": 1, "day": 1, "data": data}
    return {b"event": json.dumps(event).encode(), b"by": b"p:1"}


# --- the stream


def append(client: redis.Redis, stream: str, count: int, *, first: int = 1, maxlen: int | None = None) -> list[str]:
    ids = []
    for n in range(first, first + count):
        data = {"n": n, "text": SECRET if n % 10 == 0 else "harmless"}
        name = "error" if n % 10 == 0 else "note"
        event = {"type": name, "ts": f"2026-02-01T00:00:{n % 60:02d}.000Z", "cycle": n, "day": 1, "data": data}
        fields: dict[Any, Any] = {"event": json.dumps(event), "by": f"p:{n}"}
        added: Any = client.xadd(stream, fields, maxlen=maxlen, approximate=False)
        ids.append(added.decode())
    return ids


async def erase_in_stream(url: str, erasure: Erasure, stream: str = "v5:stream") -> int:
    eraser = StreamEraser(url, stream, erasure)
    try:
        await eraser.count()
        return await eraser.erase()
    finally:
        await eraser.aclose()


@pytest.mark.parametrize("maxlen", [None, 700])
def test_every_count_of_the_stream_stays_and_the_bytes_are_gone(any_server: RedisServer, maxlen: int | None) -> None:
    with any_server.client() as client:
        client.flushall()
        ids = append(client, "v5:stream", 1203, maxlen=maxlen)
        client.xgroup_create("v5:stream", "foreign", ids[-3])
        before = client.xinfo_stream("v5:stream")
        client.config_set("rdbcompression", "no")
        assert SECRET.encode() in client.dump("v5:stream")
        erased = asyncio.run(erase_in_stream(any_server.url, asked(types="error")))

        rows: Any = client.xrange("v5:stream")
        assert len([n for n in range(1204 - len(rows), 1204) if n % 10 == 0]) == erased
        after = client.xinfo_stream("v5:stream")
        for name in ("length", "last-generated-id", "entries-added", "max-deleted-entry-id"):
            assert before[name] == after[name]
        assert ids[-len(rows) :] == [row[0].decode() for row in rows]
        assert [f"p:{n}".encode() for n in range(1204 - len(rows), 1204)] == [row[1][b"by"] for row in rows]
        assert 3 - 1 == len(client.xreadgroup("foreign", "me", {"v5:stream": ">"})[0][1])
        # Not marked as deleted, as XDEL would leave them: out of what is written to disk, too.
        assert SECRET.encode() not in client.dump("v5:stream")
        assert [b"v5:stream", b"{v5:stream}:log"] == sorted(client.keys("*v5:stream*"))
        assert -1 == client.ttl("v5:stream")


async def test_a_reader_in_the_middle_of_it_misses_nothing_and_gets_nothing_twice(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        ids = append(client, "v5:stream", 40)
        reader = StreamReader(valkey_server.url, "v5:stream", renews_epoch=True)
        tail = reader.tail(Position(EntryId(0, 0)))
        got: list[Any] = []

        async def read() -> None:
            async for item in tail:
                got.append(item)

        task = asyncio.create_task(read())
        while len([item for item in got if isinstance(item, list)]) == 0:
            await asyncio.sleep(0.01)
        assert 4 == await erase_in_stream(valkey_server.url, asked(types="error"))
        ids += append(client, "v5:stream", 10, first=41)
        while sum(len(item) for item in got if isinstance(item, list)) < 50:
            await asyncio.sleep(0.01)
        await end_tasks(task)
        await reader.aclose()
    entries = [entry for item in got if isinstance(item, list) for entry in item]
    assert ids == [str(entry.id) for entry in entries]
    assert list(range(1, 51)) == [entry.n for entry in entries]
    assert not [item for item in got if type(item).__name__ == "Gap"]


async def test_two_at_once_and_events_that_flow_meanwhile(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        append(client, "v5:stream", 3000)
        client.hset("{v5:stream}:log", "epoch", "e")
        going_on = asyncio.create_task(asyncio.to_thread(append, client, "v5:stream", 1000, first=3001))
        one, other = await asyncio.gather(
            erase_in_stream(valkey_server.url, asked(types="error")),
            erase_in_stream(valkey_server.url, asked(until="2026-02-01T00:00:01.500Z", types="note,error")),
        )
        await going_on
        rows: Any = client.xrange("v5:stream")
        assert 250 <= one and other  # what both mean, one of them finds blank already
        assert [f"p:{n}".encode() for n in range(1, 4001)] == [row[1][b"by"] for row in rows]
        old = [json.loads(row[1][b"event"]) for row in rows[:3000]]
        assert not [
            event
            for event in old
            if event["type"] == "error" or (event["ts"] <= "2026-02-01T00:00:01.500Z" and event["type"] == "note")
        ]


# --- all of it


@pytest.fixture
def archive_url(postgresql_server: PostgresqlServer) -> Any:
    with database(postgresql_server) as url:
        yield url


def archived(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def delivered(client: redis.Redis) -> list[dict[str, Any]]:
    rows: Any = client.xrange("v5:stream")
    return [decode_entry(raw, fields, n).event for n, (raw, fields) in enumerate(rows, 1)]


def test_one_command_erases_in_all_tiers_and_says_what_it_did(
    valkey_server: RedisServer, archive_url: str, command: Command
) -> None:
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 40)
        fill(archive_url, delivered(client))
        with psycopg.connect(archive_url) as connection:
            connection.execute("INSERT INTO parked SELECT epoch, id_ms, id_seq, by, 'x', 'y' FROM events")
        arguments = ("erase", "--type", "error", "--database-url", archive_url)
        assert (1, "") == command(*arguments, redis_url=valkey_server.url)[:2]
        assert 4 == len([event for event in delivered(client) if event["type"] == "error"])

        code, out, err = command(*arguments, "--yes", redis_url=valkey_server.url)
        assert (0, "found     4 events in the stream, 4 in the archive\n") == (code, err)
        assert "stream    4 blanked" in out and "archive   4 blanked" in out and "broadcast record" in out

        *left, told = delivered(client)
        assert ERASED == told["type"]
        assert {"types": "error", "until": left[-1]["id"], "stream": 4, "archive": 4} == told["data"]
    assert [] == archived(archive_url, f"SELECT 1 FROM events WHERE events::text LIKE '%{SECRET}%'")
    assert [(36, "note"), (4, BLANK)] == archived(
        archive_url, "SELECT count(*), type FROM events GROUP BY type ORDER BY 1 DESC"
    )
    assert [(BLANK, 4), ("note", 36)] == archived(archive_url, "SELECT type, events FROM types ORDER BY type")
    assert [(60000, 40), (3600000, 40)] == archived(
        archive_url, "SELECT span_ms, sum(events)::int FROM counts GROUP BY 1 ORDER BY 1"
    )
    assert [] == archived(archive_url, "SELECT 1 FROM counts WHERE type = 'error'")
    assert [(36,)] == archived(archive_url, "SELECT count(*) FROM parked")
    assert [({"types": "error"}, 4)] == archived(archive_url, "SELECT asked, events FROM erasures")


def test_what_is_parked_goes_by_what_its_bytes_say_and_what_they_do_not_say_is_named(
    valkey_server: RedisServer, archive_url: str, command: Command
) -> None:
    def event(ts: str) -> dict[str, Any]:
        return {"type": "error", "ts": ts, "cycle": 1, "day": 1, "data": {"text": f"{SECRET} \0"}}

    def erase(*about: str) -> tuple[int, str, str]:
        asyncio.run(archive_once(valkey_server, archive_url))
        return command("erase", *about, "--yes", "--database-url", archive_url, redis_url=valkey_server.url)

    left = "SELECT id_ms || '-' || id_seq FROM parked ORDER BY id_ms, id_seq"
    with valkey_server.client() as client:
        at_ms = int(NOW.timestamp() * 1000)
        add_entry(client, event("2026-02-01T00:00:00Z"), entry_id=f"{at_ms}-0")
        add_entry(client, event("2026-02-01T00:00:00Z"), entry_id=f"{at_ms}-{2**63}")  # it cannot be a row
        later = add_entry(client, event("2026-03-01T00:00:00Z"))
        unread = add_entry(client, f'{{"type":"error","data":"{SECRET}'.encode())

        code, out, err = erase("--type", "error", "--from", "2026-01-01T00:00:00Z", "--to", "2026-02-02T00:00:00Z")
        assert (0, "found     2 events in the stream, 2 in the archive\n") == (code, err), out
        assert "unread" not in out, "its id tells another time"
        assert [(later,), (unread,)] == archived(archive_url, left)
        assert [(BLANK,)] == archived(archive_url, f"SELECT type FROM events WHERE id_ms = {at_ms}")
        assert is_consistent(archive_url)

        code, out, _ = erase("--type", "error")
        assert 0 == code and f"--id erases them: {unread}\n" in out
        assert [(unread,)] == archived(archive_url, left)

        code, out, err = erase("--id", unread)
        assert (0, "found     1 events in the stream, 1 in the archive\n") == (code, err)
        assert "unread" not in out and [] == archived(archive_url, left)
        assert SECRET.encode() not in client.dump("v5:stream")
    assert is_consistent(archive_url)


def test_ctrl_c_at_the_question_erases_nothing(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        append(client, "v5:stream", 10)
        ours, theirs = pty.openpty()
        erasing = subprocess.Popen(
            [*COMMAND, "erase", "--type", "error"],
            env=environment(valkey_server.url),
            stdin=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        assert erasing.stderr is not None
        said = b""
        while b"[y/N]" not in said:
            said += os.read(erasing.stderr.fileno(), 4096)
        erasing.send_signal(signal.SIGINT)
        assert 130 == erasing.wait(20)
        assert b"nothing was erased" in erasing.stderr.read()
        erasing.stderr.close()
        os.close(ours)
        assert "error" in [event["type"] for event in delivered(client)]


def test_an_erasure_that_is_cut_off_says_so(valkey_server: RedisServer, archive_url: str, tmp_path: Path) -> None:
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 10)
        fill(archive_url, delivered(client))
    arguments = ("erase", "--type", "error", "--yes", "--database-url", archive_url)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'broadcast-erase' AND wait_event_type = 'Lock'"
    with psycopg.connect(archive_url) as other:
        other.execute("SELECT 1 FROM events FOR UPDATE")
        with started(*arguments, folder=tmp_path, redis_url=valkey_server.url) as erasing:
            wait_until(lambda: bool(archived(archive_url, waiting)))
            erasing.send_signal(signal.SIGTERM)
            assert 143 == erasing.wait(20)
    assert "cut off: some of it may be erased" in (tmp_path / "err").read_text()


def test_two_logs_are_not_taken_for_one(valkey_server: RedisServer, archive_url: str, command: Command) -> None:
    with valkey_server.client() as client:
        append(client, "v5:stream", 10)
        fill(archive_url, delivered(client), epoch="e1")
        client.hset("{v5:stream}:log", "epoch", "e2")
        arguments = ("erase", "--type", "error", "--yes", "--database-url", archive_url)
        code, _, err = command(*arguments, redis_url=valkey_server.url)
        assert 1 == code and "REDIS_URL and DATABASE_URL name two logs" in err
        assert 1 == len([event for event in delivered(client) if event["type"] == "error"])
    assert [(1,)] == archived(archive_url, "SELECT events FROM types WHERE type = 'error'")


async def test_what_the_archiver_held_just_then_is_erased_once_it_has_written_it(
    valkey_server: RedisServer, archive_url: str
) -> None:
    settings = Settings(redis_url=valkey_server.url, database_url=archive_url)
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 30)
        read_before = delivered(client)
        await asyncio.to_thread(fill, archive_url, read_before[:10])
        async with Eraser(settings, asked(types="error")) as eraser:
            assert Found(3, 1) == await eraser.count()
            erasing = asyncio.create_task(eraser.erase())
            while (await asyncio.to_thread(delivered, client))[-1]["type"] != ERASED:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(fill, archive_url, read_before[10:])
            done = await erasing
        told = [event["data"]["archive"] for event in delivered(client) if event["type"] == ERASED]
    assert [1, 2] == told, "a bridge may have read the late ones meanwhile"
    assert Report(3, 3, True, done.redis_files, "vacuumed") == done
    assert [] == archived(archive_url, "SELECT 1 FROM events WHERE type = 'error'")


async def test_what_a_run_did_that_came_no_further_is_cleaned_by_the_next_one(
    valkey_server: RedisServer, archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eraser, "ARCHIVER_WAIT_S", 0.1)
    settings = Settings(redis_url=valkey_server.url, database_url=archive_url)
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 40)
        await asyncio.to_thread(fill, archive_url, delivered(client))
        with psycopg.connect(archive_url) as connection:
            connection.execute("INSERT INTO parked SELECT epoch, id_ms, id_seq, by, 'x', data::text FROM events")
            connection.execute("ANALYZE")
        async with Eraser(settings, asked(types="error")) as first:
            assert Found(4, 4) == await first.count()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(StreamEraser, "purge", _fail)
                with pytest.raises(OSError):
                    await first.erase()
        assert SECRET in str(archived(archive_url, NOTED))
        await _still(client)
        for _ in range(2):  # and where nothing was found at all
            done = await _erased(settings, asked(types="error", since="2026-02-01T00:00:00Z", until="5m"))
            assert (0, 0, "vacuumed") == (done.stream, done.archive, done.archive_pages)
            assert "append-only file is being written anew" in done.redis_files
            assert SECRET not in str(archived(archive_url, NOTED))
            await _still(client)


NOTED = "SELECT stavalues1::text, stavalues2::text, starelid::regclass::text FROM pg_statistic WHERE stakind1 > 0"


async def _fail(_: StreamEraser) -> str:
    raise OSError("fell over")


async def _still(client: redis.Redis) -> None:
    async with asyncio.timeout(10):
        while True:
            facts: Any = client.info("persistence")
            if not facts["aof_rewrite_in_progress"] and not facts["rdb_bgsave_in_progress"]:
                return
            await asyncio.sleep(0.02)


async def test_both_files_of_redis_are_written_anew(any_server: RedisServer) -> None:
    with any_server.client() as client:
        before: Any = client.config_get("save")
        client.config_set("save", "3600 1")
        try:
            append(client, "v5:stream", 10)
            await _still(client)
            done = await _erased(Settings(redis_url=any_server.url), asked(types="error"))
        finally:
            client.config_set("save", before["save"])
            await _still(client)
    assert "its append-only file is being written anew; its snapshot is being written anew" == done.redis_files


@pytest.mark.parametrize("is_gone", [False, True])
async def test_what_the_stream_holds_no_more_is_erased_in_the_archive(
    valkey_server: RedisServer, archive_url: str, is_gone: bool
) -> None:
    settings = Settings(redis_url=valkey_server.url, database_url=archive_url)
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 20)
        await asyncio.to_thread(fill, archive_url, delivered(client))
        _ = client.delete("v5:stream") if is_gone else client.xtrim("v5:stream", maxlen=0, approximate=False)
        done = await _erased(settings, asked(types="error"))
        told = delivered(client)[-1]
    assert (0, 2, True) == (done.stream, done.archive, done.has_passed)
    assert ("until" in told["data"]) == (not is_gone)
    assert [] == archived(archive_url, "SELECT 1 FROM events WHERE type = 'error'")


async def test_an_archive_that_has_nothing_yet_has_not_come_past_it(
    valkey_server: RedisServer, archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eraser, "ARCHIVER_WAIT_S", 0.1)
    settings = Settings(redis_url=valkey_server.url, database_url=archive_url)
    await asyncio.to_thread(fill, archive_url, [])
    with valkey_server.client() as client:
        append(client, "v5:stream", 10)
    assert not (await _erased(settings, asked(types="error"))).has_passed


async def test_a_range_of_times_finds_what_came_late_and_what_is_far_ahead_of_its_id(archive_url: str) -> None:
    week_s = 7 * 86400
    begin_s = 1_771_000_000

    def one(number: int, at_s: float, ts_s: float) -> dict[str, Any]:
        ts = timestamp(int(ts_s * 1_000_000_000))
        return {"type": "note", "ts": ts, "cycle": 1, "day": 1, "data": {"n": number}, "id": f"{int(at_s * 1000)}-0"}

    there = [one(n, begin_s + n * week_s, begin_s + n * week_s) for n in range(4)]
    there.insert(3, one(9, begin_s + 2 * week_s + 3600, begin_s + week_s))  # long in a mind's buffer
    there.insert(1, one(8, begin_s + 3600, begin_s + week_s))  # by a clock that is ahead
    await asyncio.to_thread(fill, archive_url, there)
    hour = [timestamp((begin_s + week_s + shift) * 1_000_000_000) for shift in (-1, 1)]
    for times, expected in (((*hour,), 3), ((hour[1], None), 2)):
        work = ArchiveEraser(archive_url, asked(since=times[0], until=times[1]))
        work.epoch, work.end = "e1", EntryId(2**62, 0)
        assert expected == await work.count()
        assert expected == await work.erase()
        assert Purged("vacuumed", is_done=True) == await work.purge()
    assert [(0,)] == archived(archive_url, "SELECT data->'n' FROM events WHERE type = 'note' ORDER BY id_ms")
    assert is_consistent(archive_url)


def test_bytes_that_a_snapshot_keeps_are_not_said_to_be_gone(
    valkey_server: RedisServer, archive_url: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "RETRY_S", 0.1)
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 40)
        fill(archive_url, delivered(client))
        arguments = ("erase", "--type", "error", "--yes", "--database-url", archive_url)
        with psycopg.connect(archive_url) as dumping:
            dumping.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            dumping.execute("SELECT count(*) FROM gaps")
            code, out, _ = command(*arguments, redis_url=valkey_server.url)
            assert 1 == code and "4 blanked; not clean yet: a snapshot that is open" in out
        fill(archive_url, delivered(client)[-1:])
        code, out, _ = command(*arguments, redis_url=valkey_server.url)
        assert 0 == code and "0 blanked; vacuumed\n" in out, out


def test_whoever_may_not_vacuum_is_told_so(
    valkey_server: RedisServer, archive_url: str, postgresql_server: PostgresqlServer, command: Command
) -> None:
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        append(client, "v5:stream", 40)
        fill(archive_url, delivered(client))
    with psycopg.connect(archive_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        try:
            owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest")
            url = psycopg.conninfo.make_conninfo(archive_url, user="guest", password="guest")
            code, out, err = command(
                "erase", "--type", "error", "--yes", "--database-url", url, redis_url=valkey_server.url
            )
        finally:
            owner.execute("DROP OWNED BY guest; DROP ROLE guest")
    assert 1 == code and "not vacuumed (permission denied to" in out and "pg_statistic" not in out, (out, err)


async def test_a_bridge_forgets_at_once_and_its_viewers_count_on(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path) as bridge, emitting(valkey_server) as emitter:
        for n in range(6):
            emitter.emit("error" if n % 2 else "note", {"text": SECRET if n % 2 else "", "n": n})
        assert emitter.flush(5)
        async with Client(bridge.url) as before:
            await before.until_got("event", 6)
            await _erased(Settings(redis_url=valkey_server.url), asked(types="error"))
            emitter.emit("note", {"n": 6})
            await before.until_got("event", 8)
            assert [ERASED, "note"] == [event["type"] for event in before.events[-2:]]
            async with Client(bridge.url) as after:
                await after.until_got("event", 8)
    assert list(range(1, 9)) == [event["n"] for event in after.events] == [event["n"] for event in before.events]
    assert ["note", BLANK] * 3 + [ERASED, "note"] == [event["type"] for event in after.events]
    assert SECRET not in str(after.events)


@pytest.mark.parametrize("pattern", [r"/\b[0-9]{13}\b/", "/[unclosed/"])
async def test_what_a_mind_hides_hides_nothing_of_an_erasure(
    valkey_server: RedisServer, tmp_path: Path, pattern: str
) -> None:
    with valkey_server.client() as client, serving(valkey_server.url, tmp_path) as bridge:
        meant = append(client, "v5:stream", 10)[-1]
        async with Client(bridge.url) as viewer:
            await viewer.until_got("event", 10)
            settings = Settings(redis_url=valkey_server.url, redact=(pattern,), event_bytes_max=20)
            await _erased(settings, asked(ids=[meant]))
            await viewer.until_got("event", 11)
            assert [meant] == viewer.events[-1]["data"]["ids"]
        async with Client(bridge.url) as after:
            await after.until_got("event", 11)
    assert BLANK == after.events[-2]["type"] and SECRET not in str(after.events)


async def test_where_it_cannot_be_announced_nothing_is_erased(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eraser, "Broadcaster", lambda **_: 1 / 0)
    with valkey_server.client() as client:
        append(client, "v5:stream", 10)
        with pytest.raises(ZeroDivisionError):
            await _erased(Settings(redis_url=valkey_server.url), asked(types="error"))
        assert "error" in [event["type"] for event in delivered(client)]


@contextlib.contextmanager
def emitting(server: RedisServer) -> Iterator[Broadcaster]:
    emitter = Broadcaster(settings=Settings(redis_url=server.url))
    yield emitter
    emitter.close(5)


async def _erased(settings: Settings, erasure: Erasure) -> Report:
    async with Eraser(settings, erasure) as eraser:
        await eraser.count()
        return await eraser.erase()


def test_a_reader_in_python_gets_blanks(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        append(client, "v5:stream", 10)
    done = asyncio.run(_erased(Settings(redis_url=valkey_server.url), asked(types="error")))
    assert (1, None, True) == (done.stream, done.archive, done.has_passed)
    with listen(since="0", redis_url=valkey_server.url) as events:
        got = [next(events) for _ in range(11)]
    assert [BLANK, ERASED] == [event["type"] for event in got[-2:]]
    assert "p:10" == got[-2]["by"] and {"reason": "erased"} == got[-2]["data"]
