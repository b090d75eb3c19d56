"""Long ranges as lines of JSON: whole values, bounded, few at a time, and gone with their client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import psycopg
import pytest

from broadcast.bridge import exporting, exports
from broadcast.bridge.access import Access, issue_token
from broadcast.bridge.app import Bridge
from broadcast.bridge.door import CUT
from broadcast.bridge.exports import Export, Exports
from broadcast.bridge.history_requests import parse_question
from broadcast.bridge.requests import utc_now
from broadcast.bridge.tiers import Tiers
from broadcast.consumers.eraser import Eraser
from broadcast.errors import RequestError
from broadcast.log import slices
from broadcast.log.erasure import BLANK, Erasure
from broadcast.log.questions import DELIVERED
from broadcast.settings import Settings
from tests.archives import database, fill
from tests.pasts import BEGAN_MS, ask, bridge_over, event
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer

LINES = {"Accept": "application/x-ndjson"}
HOSTILE = (
    '"',
    "\\",
    "\\.",
    "\\n",
    "\n\\.\n",
    "\x01",
    "\x02",
    "\x01\x02,\t\r\n",
    "\u2028",
    "ü🧠",
    "",
    "\\u0000",
    "'",
    "{}",
)


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def hostile(count: int, *, size: int = 0) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for at in range(count):
        text, ms = HOSTILE[at % len(HOSTILE)], BEGAN_MS + at * 1000
        made = event(
            ms, 0, f"{text}:{at + 1}", f"type{text}", ts_ms=ms, cycle=at, **{text: [text, at]}, more="x" * size
        )
        events.append({**made, "field": text} if at % 3 == 0 else made)
    return events


async def export(bridge: Bridge, **query: str) -> Export:
    question = parse_question(query, now=utc_now())
    return await Exports(Tiers(bridge.fanout, bridge.archive)).begin(question, question.matches, holder="x")


async def test_the_lines_are_the_values_whatever_they_hold(url: str, valkey_server: RedisServer) -> None:
    events = hostile(3 * len(HOSTILE))
    await asyncio.to_thread(fill, url, events)
    async with bridge_over(valkey_server, url) as bridge:
        answer = await ask(bridge, "/history", LINES)
    assert answer.body.count(b"\n") == len(events)
    assert events == [orjson.loads(line) for line in answer.body.split(b"\n")[:-1]]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_slice_that_grows_too_large_is_cut_and_gone_on_behind(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(slices, "SLICE_BYTES_MAX", 40_000)
    monkeypatch.setattr(slices, "CHUNK_BYTES", 8_000)
    events = hostile(150, size=3_000)
    await asyncio.to_thread(fill, url, events)
    async with bridge_over(valkey_server, url) as bridge:
        reading = await export(bridge, order=order)
        sizes = [len(chunk) async for chunk in reading.chunks()]
        await reading.aclose()
        answer = await ask(bridge, "/history", LINES, order=order)
    assert max(sizes) < 20_000
    found = [orjson.loads(line)["id"] for line in answer.body.split(b"\n")[:-1]]
    assert [e["id"] for e in events][:: 1 if order == "asc" else -1] == found


async def test_there_are_so_many_at_once_and_one_more_is_refused(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "TURN_TIMEOUT_S", 0.05)
    await asyncio.to_thread(fill, url, hostile(3))
    async with bridge_over(valkey_server, url) as bridge:
        every = Exports(Tiers(bridge.fanout, bridge.archive))
        question = parse_question({}, now=utc_now())
        begun = [await every.begin(question, question.matches, holder=f"{i // 2}") for i in range(exports.EXPORTS_MAX)]
        with pytest.raises(RequestError, match="of yours"):
            await every.begin(question, question.matches, holder="0")
        with pytest.raises(RequestError) as refused:
            await every.begin(question, question.matches, holder="other")
        assert ("too_many_requests", 429) == (refused.value.code.name, refused.value.code.http_status)
        await begun[0].aclose()
        await begun[0].aclose()  # gives back its place once
        begun[0] = await every.begin(question, question.matches, holder="0")
        with pytest.raises(RequestError):
            await every.begin(question, question.matches, holder="other")
        for each in begun:
            await each.aclose()


async def test_it_ends_with_the_token_it_was_asked_for_with(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SLICE_EVENTS", 2)
    await asyncio.to_thread(fill, url, hostile(20))
    secret = "0123456789abcdef0123456789abcdef"
    revoked: set[str] = set()
    access = Access(Settings(secret=secret), revoked.__contains__)
    grant = access.grant(issue_token(secret, subject="kai", types=None, ttl_s=60))
    async with bridge_over(valkey_server, url) as bridge:
        question, every = parse_question({}, now=utc_now()), Exports(Tiers(bridge.fanout, bridge.archive))
        ended = partial(access.refuse_ended, grant)
        reading = await every.begin(question, question.matches, holder="kai", refuse_ended=ended)
        had = 0
        with pytest.raises(RequestError) as refused:
            async for chunk in reading.chunks():
                had += chunk.count(b"\n")
                revoked.add(grant.token_id or "")
        await reading.aclose()
    assert ("revoked", 2) == (refused.value.code.name, had)
    with pytest.raises(RequestError, match="expired"):
        access.refuse_ended(replace(grant, expires_at=time.time() - 1))


async def test_who_waits_for_its_client_holds_no_connection(url: str, valkey_server: RedisServer) -> None:
    await asyncio.to_thread(fill, url, hostile(20))
    async with bridge_over(valkey_server, url) as bridge:
        reading = [await export(bridge) for _ in range(6)]
        taken = [each.chunks() for each in reading]
        for chunks in taken:
            assert await anext(chunks)
        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'broadcast-bridge' AND state <> 'idle'"
            ).fetchone()
        assert row == (0,)
        for chunks, each in zip(taken, reading, strict=True):
            await chunks.aclose()
            await each.aclose()


async def test_a_client_that_leaves_ends_its_query(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SLICE_EVENTS", 2)
    slow = f"CASE WHEN id_ms >= {BEGAN_MS + 2000} THEN pg_sleep(30)::text ELSE '' END || "
    monkeypatch.setattr(slices, "DELIVERED", slow + DELIVERED)
    await asyncio.to_thread(fill, url, hostile(5))
    gone = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        del message

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async with bridge_over(valkey_server, url) as bridge:
        response = exporting.ExportResponse(await export(bridge), {})
        answering = asyncio.create_task(response({"type": "http"}, receive, send))
        began = time.monotonic()
        while not _sleeping(url):
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.02)
        gone.set()
        await asyncio.wait_for(answering, 5)
        assert not _sleeping(url)


async def test_a_client_that_takes_nothing_is_cut(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "STALLED_S", 0.1)
    await asyncio.to_thread(fill, url, hostile(5))
    cut = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async with bridge_over(valkey_server, url) as bridge:
        response = exporting.ExportResponse(await export(bridge), {})
        await asyncio.wait_for(response({"type": "http", CUT: cut.set}, receive, send), 10)
    assert cut.is_set()


def _sleeping(url: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%pg_sleep%' AND state = 'active'"
        ).fetchone()
        return row != (0,)


async def test_what_is_erased_while_its_client_takes_its_time_is_not_given_any_more(
    url: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SLICE_EVENTS", 20)
    there = [
        event(BEGAN_MS + at, 0, f"p:{at + 1}", "b" if at % 2 else "a", ts_ms=BEGAN_MS + at, cycle=1, i=at)
        for at in range(80)
    ]
    await asyncio.to_thread(fill, url, there)
    erasure = Erasure.asked(types="b", now=utc_now())
    async with bridge_over(valkey_server, url) as bridge:
        rests = []
        for reading in (await export(bridge), await export(bridge, types="b")):
            chunks = reading.chunks()
            await anext(chunks)
            await asyncio.sleep(0.2)  # the next slice is read
            rests.append((reading, chunks))
        async with Eraser(Settings(redis_url=valkey_server.url, database_url=url), erasure) as eraser:
            await eraser.count()
            await eraser.erase()
        while bridge.fanout.ring.first_event() is None:  # the log says that it is erased
            await asyncio.sleep(0.01)
        lines = [[orjson.loads(line) async for chunk in chunks for line in chunk.splitlines()] for _, chunks in rests]
        for reading, _ in rests:
            await reading.aclose()
    assert [BLANK if at % 2 else "a" for at in range(20, 80)] == [line["type"] for line in lines[0]][:60]
    assert [] == lines[1]
