"""`GET /history` over all tiers: a real PostgreSQL, a real Valkey, and a bridge in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast.bridge import exports
from broadcast.bridge.app import Bridge
from broadcast.filters import parse_filter
from tests.archives import database
from tests.pasts import TYPES, World, ask, bridge_over, make_world
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer


def without_n(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "n"}


class Reader:
    """A bridge over a world, asked from tests that are no coroutines."""

    def __init__(self, runner: asyncio.Runner, bridge: Bridge, world: World) -> None:
        self.runner = runner
        self.bridge = bridge
        self.world = world

    def walk(self, **query: Any) -> list[dict[str, Any]]:
        return self.runner.run(self._walk(query))

    def lines(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.runner.run(ask(self.bridge, "/history", {"Accept": "application/x-ndjson"}, **query))
        assert 200 == answer.status and "application/x-ndjson" == answer.headers["content-type"], answer.body
        assert not answer.body or answer.body.endswith(b"\n")
        return [without_n(orjson.loads(line)) for line in answer.body.splitlines()]

    async def _walk(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = await ask(self.bridge, "/history", **query, cursor=cursor)
            assert 200 == answer.status, answer.body
            assert len(answer.json["events"]) <= query.get("limit", 100)
            found += map(without_n, answer.json["events"])
            cursor = answer.json["next"]
            if cursor is None:
                return found


@pytest.fixture(params=[0, 1, 2])
def reader(
    request: pytest.FixtureRequest, postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> Iterator[Reader]:
    with database(postgresql_server) as url, asyncio.Runner() as runner:
        world = make_world(request.param, url, valkey_server)
        context = bridge_over(valkey_server, url)
        bridge = runner.run(context.__aenter__())
        yield Reader(runner, bridge, world)
        runner.run(context.__aexit__(None, None, None))


def test_pages_and_lines_of_any_question_are_the_log(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    log = reader.world.log

    @settings(max_examples=40)
    @given(
        begin=st.none() | st.integers(0, len(log) - 1),
        end=st.none() | st.integers(0, len(log) - 1),
        types=st.sampled_from((None, "sense.*", "-sense.*", "cycle.start,error", "nothing.at.all", *TYPES)),
        limit=st.sampled_from((9, 23, 50, 161)),
        order=st.sampled_from(("asc", "desc")),
        by_time=st.booleans(),
    )
    def ask_it(begin: int | None, end: int | None, types: str | None, limit: int, order: str, by_time: bool) -> None:
        edge = "ts" if by_time else "id"
        since = None if begin is None else log[begin][edge]
        until = None if end is None else log[end][edge]
        wanted = parse_filter(types).matches
        if by_time:
            expected = [e for e in log if (since or "") <= e["ts"] <= (until or "~")]
        else:
            expected = log[0 if begin is None else begin + 1 : len(log) if end is None else end + 1]
        expected = [e for e in expected if wanted(e["type"])]
        found = reader.walk(since=since, until=until, types=types, limit=limit, order=order)
        assert found == (expected if order == "asc" else expected[::-1])

        lines = reader.lines(since=since, until=until, types=types, order=order)
        assert lines == found

    monkeypatch.setattr(exports, "SLICE_EVENTS", 20)
    ask_it()
