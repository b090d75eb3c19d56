"""A range that names a cycle stays the same from page to page, though a new run comes to the same number meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge import exports
from broadcast.bridge.app import Bridge
from broadcast.bridge.exports import Export, Exports
from broadcast.bridge.history_requests import parse_place, parse_question, write_cursor
from broadcast.bridge.requests import utc_now
from broadcast.bridge.tiers import Tiers
from broadcast.log.position import EntryId, Position
from tests.archives import database, fill
from tests.pasts import BEGAN_MS, append, ask, bridge_over, event
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer

CYCLES = range(1, 9)
EVENTS = 10


def run_of(began_ms: int, name: str) -> list[dict[str, Any]]:
    """Eight cycles of ten events, each of which begins with its `cycle.start`."""
    events: list[dict[str, Any]] = []
    for at in range(len(CYCLES) * EVENTS):
        ms, kind = began_ms + at * 100, "note" if at % EVENTS else "cycle.start"
        events.append(event(ms, 0, f"{name}:{at + 1}", kind, ts_ms=ms, cycle=CYCLES[at // EVENTS]))
    return events


def ids_of(events: list[dict[str, Any]], first: int, last: int) -> list[str]:
    return [each["id"] for each in events if first <= each["cycle"] <= last]


@pytest.fixture
def first_run(postgresql_server: PostgresqlServer, valkey_server: RedisServer) -> Iterator[tuple[str, list[Any]]]:
    """The archive of one run, and its events: five of its cycles are archived, and the stream has its last five."""
    with database(postgresql_server) as url, valkey_server.client() as client:
        events = run_of(BEGAN_MS, "one")
        fill(url, events[: 5 * EVENTS])
        client.hset("{v5:stream}:log", "epoch", "e1")
        for each in events[3 * EVENTS :]:
            append(client, each)
        yield url, events


async def run_anew(bridge: Bridge, server: RedisServer) -> None:
    """A new run comes to all these numbers, and the bridge has seen it."""
    began_ms = BEGAN_MS + 3_600_000 * (1 + len(bridge.fanout.ring))
    with server.client() as client:
        made = run_of(began_ms, f"run-{began_ms}")
        for each in made:
            append(client, each)
    async with asyncio.timeout(10):
        while str(bridge.fanout.head.id) != made[-1]["id"]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(("since", "until"), [(2, 2), (4, 7), (5, 5), (8, 8), (None, 3), (7, None)])
async def test_pages_and_lines_stay_with_the_run_that_they_began_with(
    first_run: tuple[str, list[Any]],
    valkey_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    since: int | None,
    until: int | None,
    order: str,
) -> None:
    monkeypatch.setattr(exports, "SLICE_EVENTS", 4)
    url, events = first_run
    expected = ids_of(events, since or 1, until or 8)[:: 1 if order == "asc" else -1]
    named = {"since": since, "until": until}
    query: dict[str, Any] = {name: f"cycle:{number}" for name, number in named.items() if number is not None}
    query["order"] = order
    async with bridge_over(valkey_server, url) as bridge:
        reading = await begun(bridge, query)
        answer = await ask(bridge, "/history", **query, limit=4)
        found = [each["id"] for each in answer.json["events"]]
        lines: list[str] = []
        async for chunk in reading.chunks():
            lines += [orjson.loads(line)["id"] for line in chunk.splitlines()]
            if len(lines) <= 4:
                await run_anew(bridge, valkey_server)
        await reading.aclose()
        # What has no end, forwards, goes on into what came since.
        is_open = until is None and order == "asc"
        while answer.json["next"] is not None and not (is_open and len(found) >= len(expected)):
            answer = await ask(bridge, "/history", **query, limit=4, cursor=answer.json["next"])
            assert 200 == answer.status, answer.body
            found += [each["id"] for each in answer.json["events"]]
        again = await ask(bridge, "/history", since=write_cursor(Position(EntryId(BEGAN_MS, 0), epoch="e1")), limit=1)
    length = len(expected) if is_open else None
    assert expected == found[:length]
    assert expected == lines[:length]
    assert [events[1]["id"]] == [each["id"] for each in again.json["events"]]


async def begun(bridge: Bridge, query: dict[str, str]) -> Export:
    question = parse_question(query, now=utc_now())
    return await Exports(Tiers(bridge.fanout, bridge.archive)).begin(question, question.matches, holder="x")


EPOCHS = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20)
IDS = st.builds(EntryId, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
PLACES = st.builds(Position, IDS, epoch=EPOCHS)


@given(PLACES, st.none() | PLACES, st.none() | PLACES)
def test_what_next_says_reads_back_as_it_was_written(
    at: Position, since: Position | None, until: Position | None
) -> None:
    query = {"since": "cycle:5", "until": "cycle:7"}
    asked = parse_question(query, now=utc_now())
    asked = replace(asked, since=replace(asked.since, start=since), until=replace(asked.until, start=until))
    told = write_cursor(at, asked)
    read = parse_question({**query, "cursor": told}, now=utc_now())
    assert (at, since, until) == (read.cursor, read.since.start, read.until.start)
    assert at == parse_place("id", told) == parse_question({"since": told}, now=utc_now()).since.position
    plain = parse_question({"cursor": told}, now=utc_now())
    assert (at, None, None) == (plain.cursor, plain.since.start, plain.until.start)
