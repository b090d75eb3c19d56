"""What an archive needs beside its events: partitions made ahead, retention that never holds up a reader for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from broadcast.consumers import connection, keeper
from broadcast.consumers.blanking import ArchiveEraser
from broadcast.consumers.keeper import Keeper
from broadcast.log.cancelling import end_tasks
from broadcast.log.erasure import Erasure
from broadcast.log.partitions import WEEK_MS, detach, detached, make, name_of, older_than, week_of
from broadcast.settings import Settings
from tests.archivers import Work, append, archive_once, archiving, ask, is_consistent, settings_of, stored
from tests.archives import database, fill
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer

PARTITIONS = (
    "SELECT relname FROM pg_class JOIN pg_inherits ON oid = inhrelid WHERE inhparent = 'events'::regclass ORDER BY 1"
)


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def event(at_ms: int, number: int) -> dict[str, Any]:
    from broadcast.event import timestamp

    return {"type": "x", "ts": timestamp(at_ms * 1_000_000), "cycle": 1, "day": 1, "data": {"i": number}}


def weeks_ago(count: int) -> int:
    return int(time.time() * 1000) - count * WEEK_MS


def partitions(url: str) -> list[str]:
    return [name for (name,) in ask(url, PARTITIONS)]


async def test_this_week_and_the_next_two_are_there_before_they_are_needed_and_others_when_they_are(
    valkey_server: RedisServer, url: str
) -> None:
    with valkey_server.client() as client:
        for number, at_ms in enumerate((weeks_ago(300), weeks_ago(300) + 1, weeks_ago(2), weeks_ago(0))):
            append(client, event(at_ms, number), entry_id=f"{at_ms}-0")
        async with archiving(valkey_server, url) as work:
            await work.until_stored(4)
            expected = [name_of(week_of(weeks_ago(count))) for count in (300, 2, 0, -1, -2)]
            await work.until(lambda: partitions(url) == expected)
    assert 4 == len(stored(url))


async def test_a_partition_that_somebody_drops_is_made_again(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        async with archiving(valkey_server, url) as work:
            append(client, event(weeks_ago(0), 0))
            await work.until_stored(1)
            await work.until(lambda: len(partitions(url)) == 3)
            ask(url, f"DROP TABLE {name_of(week_of(weeks_ago(0)))}")
            append(client, event(weeks_ago(0), 1))
            await work.until_stored(2)
    assert [1] == [each["data"]["i"] for each in stored(url)]


async def test_what_is_older_than_is_kept_goes_while_events_are_written(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        for number, age in enumerate((60, 55, 53, 40, 1)):
            at_ms = weeks_ago(age)
            append(client, event(at_ms, number), by=f"mind-{age}:1", entry_id=f"{at_ms}-0")
        append(client, b"no event", entry_id=f"{weeks_ago(1) + 1}-0")
        await archive_once(valkey_server, url)
        async with archiving(valkey_server, url, keep_s=52 * 7 * 86400) as work:
            for number in range(5, 25):
                append(client, event(weeks_ago(0), number))
                await asyncio.sleep(0.01)
            await work.until_stored(20)
            await work.until(lambda: work.said(f"dropped {name_of(week_of(weeks_ago(53)))}"))
    assert [3, 4, *range(5, 25)] == [each["data"]["i"] for each in stored(url) if "i" in each["data"]]
    assert is_consistent(url)
    assert [("mind-1",), ("mind-40",)] == ask(url, "SELECT name FROM producers ORDER BY name")


async def test_a_long_read_puts_a_drop_off_and_holds_up_no_batch(
    valkey_server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOCK_TIMEOUT_MS", 200)
    monkeypatch.setattr(keeper, "RETRY_S", 0.3)
    with valkey_server.client() as client:
        append(client, event(weeks_ago(9), 0), entry_id=f"{weeks_ago(9)}-0")
        await archive_once(valkey_server, url)
        with psycopg.connect(url) as reading:
            reading.execute("SELECT count(*) FROM events")  # its transaction stays open
            async with archiving(valkey_server, url, keep_s=7 * 86400) as work:
                await work.until(lambda: work.said("was not looked after"))
                append(client, event(weeks_ago(0), 1))
                await work.until_stored(1)
                assert 2 == len(stored(url))
                reading.rollback()
                await work.until(lambda: work.said("dropped"))
    assert [1] == [each["data"]["i"] for each in stored(url)]


async def test_what_fails_is_tried_again_after_a_pause_though_something_is_to_be_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.2)
    notes: list[str] = []
    settings = Settings(database_url="postgresql://127.0.0.1:1/nowhere")
    work = asyncio.create_task(Keeper(settings, "me", keep_s=None, on_note=notes.append).run())
    await asyncio.sleep(0.5)
    await end_tasks(work)
    assert 1 <= len(notes) <= 3


async def test_the_week_that_takes_long_to_count_goes_all_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT_MS", 250)
    at_ms = weeks_ago(9)
    await asyncio.to_thread(fill, url, [{**event(at_ms, 0), "id": f"{at_ms}-0"}])
    notes: list[str] = []
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute(f"LOCK TABLE {name_of(week_of(at_ms))}".encode())
        keeping = Keeper(Settings(database_url=url), "me", keep_s=7 * 86400, on_note=notes.append)
        work = asyncio.create_task(keeping.run())
        await asyncio.sleep(0.6)
        await other.rollback()
        async with asyncio.timeout(10):
            while not notes:
                await asyncio.sleep(0.01)
        await end_tasks(work)
    assert notes[0].startswith("dropped"), notes
    assert [] == ask(url, "SELECT * FROM counts")


async def test_what_is_erased_while_a_week_is_dropped_counts_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old_ms, ids = weeks_ago(9), []
    events = [{**event(at_ms, at_ms), "id": f"{at_ms}-0"} for at_ms in (old_ms, old_ms + 1, weeks_ago(0))]
    await asyncio.to_thread(fill, url, events)
    ids = [each["id"] for each in events[:2]]
    execute: Any = psycopg.AsyncConnection.execute

    async def interrupted(self: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        if "DROP TABLE" in str(query) and ids:
            eraser = ArchiveEraser(url, Erasure.asked(ids=ids, now=datetime.now(UTC)))
            ids.clear()
            eraser.epoch, eraser.end = "e1", None
            await eraser.erase()
        return await execute(self, query, *arguments, **more)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", interrupted)
    notes: list[str] = []
    work = asyncio.create_task(Keeper(Settings(database_url=url), "me", keep_s=7 * 86400, on_note=notes.append).run())
    async with asyncio.timeout(10):
        while not notes:
            await asyncio.sleep(0.01)
    await end_tasks(work)
    assert notes[0].startswith("dropped") and not ids, notes
    assert [("x", 1)] == ask(url, "SELECT type, events FROM types")


async def test_a_drop_that_was_cut_off_is_finished_and_a_type_that_lives_stays(url: str) -> None:
    old_ms = weeks_ago(9)
    await asyncio.to_thread(fill, url, [{**event(at_ms, 0), "id": f"{at_ms}-0"} for at_ms in (old_ms, weeks_ago(0))])
    ask(url, "UPDATE types SET events = 0")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        async with other.transaction():
            await detach(other, name_of(week_of(old_ms)))
        await make(other, [week_of(old_ms)])  # and something came into that week again
        work = asyncio.create_task(Keeper(Settings(database_url=url), "me", keep_s=None, on_note=print).run())
        async with asyncio.timeout(10):
            while await detached(other):
                await asyncio.sleep(0.01)
        await end_tasks(work)
    assert name_of(week_of(old_ms)) in partitions(url)
    assert [("x",)] == ask(url, "SELECT type FROM types")


async def test_partitions_are_made_while_others_are_read_and_by_two_at_once(url: str) -> None:
    from broadcast.log.migrate import migrate

    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as one,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as other,
        await psycopg.AsyncConnection.connect(url) as reading,
    ):
        await migrate(one)
        await make(one, [1])
        await reading.execute("SELECT * FROM events")
        async with asyncio.timeout(10):
            await asyncio.gather(make(one, range(5)), make(other, range(5)))
        assert [name_of(week) for week in range(5)] == partitions(url)
        await reading.rollback()
        assert [name_of(0), name_of(1)] == await older_than(one, 3 * WEEK_MS)


async def test_one_that_runs_once_drops_what_is_too_old_and_announces_what_was_not(
    valkey_server: RedisServer, url: str
) -> None:
    with valkey_server.client() as client:
        for number, age in enumerate((13, 0)):
            append(client, event(weeks_ago(age), number), entry_id=f"{weeks_ago(age)}-0")
        await archive_once(valkey_server, url)
        ask(url, "INSERT INTO gaps (epoch, after_ms, after_seq, lost, reason) VALUES (1, 1, 0, 5, 'trimmed')")
        work = Work(settings_of(valkey_server, url), keep_s=30 * 86400, is_once=True)
        await work.archiver.run()
        assert "broadcast.gap" in str(client.xrevrange("v5:stream", count=1))
    assert work.archiver.is_over
    assert [1] == [each["data"]["i"] for each in stored(url)]
    assert name_of(week_of(weeks_ago(13))) not in partitions(url)
    assert [(True,)] == ask(url, "SELECT announced FROM gaps")
