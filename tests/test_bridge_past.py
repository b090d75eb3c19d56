"""What only the archive has, over the wire: a real bridge on a real Valkey and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broadcast import Broadcaster
from tests.archivers import archive_once
from tests.archives import database
from tests.bridges import IGNORE_CLIENT, BridgeProcess, Client, EventStream, serving
from tests.postgresql import PostgresqlServer, running_postgresql
from tests.servers import RedisServer

pytestmark = IGNORE_CLIENT
EVENTS = 1200
KEPT = 200


def live_a_life(broadcaster: Broadcaster, server: RedisServer, url: str) -> list[str]:
    """A log that is archived up to its last hundred; the stream holds the last two hundred. The ids of all."""
    for i in range(EVENTS - 100):
        broadcaster.emit("x", {"i": i})
    broadcaster.flush()
    asyncio.run(archive_once(server, url))
    for i in range(EVENTS - 100, EVENTS):
        broadcaster.emit("x", {"i": i})
    broadcaster.flush()
    with server.client() as client:
        rows: Any = client.xrange("v5:stream")
        client.xtrim("v5:stream", maxlen=KEPT, approximate=False)
    return [row[0].decode() for row in rows]


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


async def come(bridge: BridgeProcess, since: object, count: int) -> Client:
    """A viewer that has had so many events, and has left."""
    async with Client(bridge.url, since=since) as client:
        await client.until_got("event", count)
        await client.until_got("position")
        return client


async def stream(bridge: BridgeProcess, count: int, query: str, **headers: str) -> list[dict[str, Any]]:
    async with EventStream(bridge.url, path=f"/events{query}", headers=headers) as events:
        return await events.messages(count)


def test_viewers_of_each_kind_begin_in_the_archive_and_see_one_log(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str, tmp_path: Path
) -> None:
    ids = live_a_life(broadcaster, valkey_server, url)
    with serving(valkey_server.url, tmp_path, DATABASE_URL=url, BROADCAST_RING_EVENTS_MAX="50") as bridge:
        client = asyncio.run(come(bridge, {"id": ids[9], "n": 10}, EVENTS - 10))
        assert list(range(10, EVENTS)) == numbers(client.events)
        assert list(range(11, EVENTS + 1)) == [event["n"] for event in client.events]
        assert "gap" not in client.names
        assert numbers(client.events) == numbers(asyncio.run(stream(bridge, EVENTS - 10, f"?since={ids[9]}")))
        back = asyncio.run(stream(bridge, EVENTS - 10, "?since=1m", **{"Last-Event-ID": ids[9]}))
        assert numbers(client.events) == numbers(back)
        assert list(range(EVENTS)) == numbers(asyncio.run(stream(bridge, EVENTS, "?since=1h")))
        asyncio.run(_replay_in_time(bridge, ids))


async def _replay_in_time(bridge: BridgeProcess, ids: list[str]) -> None:
    async with Client(bridge.url, catchup=0) as client:
        await client.until_got("position")
        began = time.monotonic()
        answer = await client.ask("replay", {"since": ids[EVENTS - 400], "speed": 0.5, "idle_s": 0.3})
        assert {"replay": "r1", "speed": 0.5, "idle_s": 0.3} == answer
        await client.until_got("replay.event", 20)
        paused = await client.ask("replay.control", {"replay": "r1", "action": "pause"})
        assert paused["state"] == "paused"
        await client.ask("replay.control", {"replay": "r1", "action": "resume", "speed": 64})
        end = await client.until_got("replay.end")
        assert {"replay": "r1", "count": 399} == end
        assert time.monotonic() - began > 0.5
        events = client.all("replay.event")
        assert list(range(EVENTS - 399, EVENTS)) == numbers([event["event"] for event in events])
        assert not client.events
        over = await client.ask("replay.control", {"replay": "r1", "action": "pause"})
        assert over["error"]["code"] == "not_found"


def test_when_postgresql_is_gone_viewers_have_what_they_always_had_and_soon(
    broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    with running_postgresql() as server:
        ids = live_a_life(broadcaster, valkey_server, server.url)
        with serving(valkey_server.url, tmp_path, DATABASE_URL=server.url) as bridge:
            asyncio.run(come(bridge, {"id": ids[9], "n": 10}, EVENTS - 10))
            server.stop(signal.SIGKILL)
            began = time.monotonic()
            # From another place: the pages behind the first one are still at hand.
            client = asyncio.run(come(bridge, {"id": ids[19], "n": 20}, KEPT))
            assert list(range(EVENTS - KEPT, EVENTS)) == numbers(client.events)
            assert [EVENTS - KEPT - 20] == [gap["lost"] for gap in client.all("gap")]
            assert len(asyncio.run(stream(bridge, 50, ""))) == 50
            assert time.monotonic() - began < 10


def test_who_comes_without_a_place_is_told_of_what_was_trimmed_before_it_was_archived(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str, tmp_path: Path
) -> None:
    for i in range(200):
        broadcaster.emit("x", {"i": i})
        if i == 99:
            broadcaster.flush()
            asyncio.run(archive_once(valkey_server, url))
    broadcaster.flush()
    with valkey_server.client() as client:
        client.xtrim("v5:stream", maxlen=20, approximate=False)

    async def look(bridge: BridgeProcess) -> tuple[list[int | None], list[int]]:
        async with Client(bridge.url, catchup=50, types="x") as client:
            await client.until_got("position")
            shown = [(name, data) for name, data in client.got if name in ("event", "gap")]
            order = [data["data"]["i"] if name == "event" else None for name, data in shown]
            return order, [gap["lost"] for gap in client.all("gap")]

    with serving(valkey_server.url, tmp_path, DATABASE_URL=url, BROADCAST_RING_EVENTS_MAX="10") as bridge:
        expected = ([*range(70, 100), None, *range(180, 200)], [80])
        assert expected == asyncio.run(look(bridge)), "between the archive and the stream"
        asyncio.run(archive_once(valkey_server, url))
        assert expected == asyncio.run(look(bridge)), "in the archive, whose archiver has noted it"


async def test_what_passed_while_the_bridge_stood_still_is_read_where_it_went(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str, tmp_path: Path
) -> None:
    """Its ring, which is larger than all of this, lacks what the stream had lost when it looked again."""
    with serving(valkey_server.url, tmp_path, DATABASE_URL=url) as bridge:
        async with Client(bridge.url, catchup=0) as before:
            await before.until_got("position")
            for i in range(100):
                broadcaster.emit("x", {"i": i})
            await before.until_got("event", 100)
            os.kill(bridge.pid, signal.SIGSTOP)
            await asyncio.to_thread(live_on, broadcaster, valkey_server, url)
            os.kill(bridge.pid, signal.SIGCONT)
            await before.until(lambda: EVENTS - 1 in numbers(before.events[-1:]))
            (gap,) = before.all("gap")
            assert ("trimmed", EVENTS - len(before.events)) == (gap["reason"], gap["lost"])
            assert gap["lost"] > 100
            answer = await before.ask("replay", {"count": 1000})
            assert (1000, None) == (answer["count"], answer.get("gaps"))
            assert list(range(EVENTS - 1000, EVENTS)) == numbers(before.events[-1000:])
        client = await come(bridge, before.events[9], EVENTS - 10)
        assert (list(range(10, EVENTS)), []) == (numbers(client.events), client.all("gap"))
        status, body = await asyncio.to_thread(bridge.get, "/history?since=1h&limit=1000")
        assert (200, list(range(1000))) == (status, numbers(json.loads(body)["events"]))
        status, body = await asyncio.to_thread(bridge.get, "/history?order=desc&limit=1000")
        assert (200, list(range(EVENTS - 1000, EVENTS))[::-1]) == (status, numbers(json.loads(body)["events"]))


def live_on(broadcaster: Broadcaster, server: RedisServer, url: str) -> None:
    for i in range(100, EVENTS):
        broadcaster.emit("x", {"i": i})
    broadcaster.flush()
    asyncio.run(archive_once(server, url))
    with server.client() as client:
        client.xtrim("v5:stream", maxlen=KEPT, approximate=False)
