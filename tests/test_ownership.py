"""The archive of one stream is none for whoever reads another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives import database, fill
from tests.pasts import BEGAN_MS, append, ask, bridge_over, event
from tests.postgresql import PostgresqlServer
from tests.programs import Command
from tests.servers import RedisServer

EVENTS = [event(BEGAN_MS + at, 0, f"p:{at + 1}", "cycle.start", ts_ms=BEGAN_MS + at, cycle=at) for at in range(5)]


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """The archive of `v5:stream`."""
    with database(postgresql_server) as url:
        fill(url, EVENTS)
        yield url


async def test_a_bridge_gives_nothing_of_another_streams_archive(url: str, valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        append(client, EVENTS[4])
        client.rename("v5:stream", "mind2")
    async with bridge_over(valkey_server, url, stream="mind2") as bridge:
        pages = await ask(bridge, "/history")
        lines = await ask(bridge, "/history", {"Accept": "application/x-ndjson"}, order="desc")
        counts = await ask(bridge, "/history", bucket="1m")
        assert [EVENTS[4]["id"]] == [each["id"] for each in pages.json["events"]]
        assert 1 == len(lines.body.splitlines())
        assert (1, 1) == (counts.json["extent"]["events"], counts.json["extent"]["cycles"])
        assert [4] == [each["cycle"] for each in (await ask(bridge, "/cycles")).json["cycles"]]
        assert 404 == (await ask(bridge, "/cycles", cycle=2)).status
        assert 404 == (await ask(bridge, f"/cycles/{EVENTS[2]['id']}")).status
    async with bridge_over(valkey_server, url) as bridge:
        assert len(EVENTS) == len((await ask(bridge, "/history")).json["events"])


@pytest.mark.parametrize("arguments", [("stats",), ("export", "-"), ("import",)])
def test_a_command_says_whose_archive_it_is(
    command: Command, url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    dump = tmp_path / "life.jsonl"
    assert 0 == command("export", str(dump), "--database-url", url)[0]
    files = (str(dump),) if arguments == ("import",) else ()
    asked = (*arguments, *files, "--database-url", url)
    code, out, err = command(*asked, BROADCAST_STREAM="mind2")
    assert (1, "") == (code, out)
    assert "holds the events of the stream 'v5:stream', not of 'mind2'" in err
    assert 0 == command(*asked)[0]
