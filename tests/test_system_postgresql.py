"""The archive on the system's PostgreSQL, where that is of another version than the wheel's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from broadcast.cli.stats import stats
from broadcast.consumers.eraser import Eraser
from broadcast.log.erasure import Erasure
from tests.archivers import add, append, archive_once, is_consistent, settings_of, stored
from tests.archives import database
from tests.pasts import ask, bridge_over
from tests.postgresql import PostgresqlServer, postgresql_programs, running_postgresql, system_programs
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def system_postgresql() -> Iterator[PostgresqlServer]:
    programs = system_programs()
    if programs is None or programs == postgresql_programs():
        pytest.skip("the system has no PostgreSQL of its own; that of the wheel is in all the other tests")
    with running_postgresql(programs=programs) as server:
        yield server


async def test_what_is_archived_there_is_read_counted_and_erased(
    system_postgresql: PostgresqlServer, valkey_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with database(system_postgresql) as url, valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e1")
        add(client, 0, 300)
        append(client, b'{"type":"x.0","ts":"2026-02-14T19:01:23.456Z","data":{"a":"\\u0000"}}', "mind:301")
        work = await archive_once(valkey_server, url)
        assert 301 == work.archiver.progress.events
        assert await asyncio.to_thread(is_consistent, url)
        settings = settings_of(valkey_server, url)

        async with bridge_over(valkey_server, url, ring_events_max=10) as bridge:
            page = (await ask(bridge, "/history", types="x.1", limit=1000)).json["events"]
            lines = await ask(bridge, "/history", {"Accept": "application/x-ndjson"})
            day: dict[str, Any] = {"since": "2026-02-14", "until": "2026-02-15", "bucket": "1h"}
            counted = (await ask(bridge, "/history", **day)).json
        assert list(range(1, 300, 3)) == [event["data"]["i"] for event in page]
        assert 301 == lines.body.count(b"\n") == counted["extent"]["events"]
        assert 300 == sum(bucket["types"].get(f"x.{i}", 0) for bucket in counted["buckets"] for i in range(3))
        await stats(settings, since=None, until=None, as_json=True)
        assert '"broadcast.malformed"' in capsys.readouterr().out

        erasure = Erasure.asked(ids=(), types="x.2", since=None, until=None, now=datetime.now(UTC))
        async with Eraser(settings, erasure) as eraser:
            await eraser.count()
            await eraser.erase()
        left = await asyncio.to_thread(stored, url)
        changed = [event["type"] for event in left if event["type"] in ("broadcast.blank", "x.2")]
        assert ["broadcast.blank"] * 100 == changed
        assert await asyncio.to_thread(is_consistent, url)
