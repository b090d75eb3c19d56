"""How much room an archiver has: the stream's maxlen raised within a budget, and what doctor and /readyz say of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from broadcast.consumers.headroom import wanted_maxlen
from broadcast.log.archiving import Archiving, archive_key, room
from broadcast.log.position import START, Bounds, EntryId
from tests.archivers import STREAM, add, archive_once, archiving
from tests.archives import database
from tests.bridges import serving
from tests.postgresql import PostgresqlServer
from tests.programs import Command
from tests.servers import RedisServer

LOG = "{v5:stream}:log"
MIB = 1024 * 1024


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


@pytest.mark.parametrize(
    ("held", "ours", "budget_bytes", "maxmemory_bytes", "expected"),
    [
        (None, None, 256 * MIB, 0, 268_435),
        (None, None, 256 * MIB, 400 * MIB, 104_857),  # a quarter of what Redis may take
        (None, None, 1 * MIB, 0, 10_000),  # never less than the emitters would keep
        (50_000, None, 256 * MIB, 0, None),  # a person's own
        (50_000, 268_435, 256 * MIB, 0, None),  # set by a person after an archiver
        (268_435, 268_435, 250 * MIB, 0, None),  # hardly another one
        (268_435, 268_435, 128 * MIB, 0, 134_217),
    ],
)
def test_the_maxlen_is_what_the_budget_holds_unless_a_person_has_set_one(
    held: int | None, ours: int | None, budget_bytes: int, maxmemory_bytes: int, expected: int | None
) -> None:
    assert expected == wanted_maxlen(
        held=held,
        ours=ours,
        least=10_000,
        budget_bytes=budget_bytes,
        maxmemory_bytes=maxmemory_bytes,
        entry_bytes=1000,
    )


def told(**more: Any) -> Archiving:
    given: dict[str, Any] = {"holder": "a", "at_ms": 10_000, "epoch": "e", "id": EntryId(5, 1), "n": 70, "rate": 2.0}
    return Archiving(**{**given, "error": "", **more})


@pytest.mark.parametrize(
    ("archiving", "now_ms", "expected"),
    [
        (told(), 11_000, (30, 970, 485.0, True)),
        (told(rate=0.0), 11_000, (30, 970, None, True)),
        (told(n=-950), 11_000, (1050, -50, 0.0, True)),
        (told(), 25_001, (30, 970, 485.0, False)),
        (told(n=None), 11_000, (None, None, None, True)),
        (told(epoch="another"), 11_000, (None, None, None, True)),
    ],
)
def test_room_is_what_may_come_before_the_checkpoint_s_next_entry_is_trimmed(
    archiving: Archiving, now_ms: int, expected: tuple[Any, ...]
) -> None:
    bounds = Bounds(None, START, 100, 50, "e")
    found = room(archiving, bounds, maxlen=1000, now_ms=now_ms)
    assert expected == (found.lag_events, found.events, found.s, found.is_heard)


def test_what_an_archiver_tells_is_read_as_it_was_written_and_nonsense_as_nothing() -> None:
    for word in (told(), told(id=None, n=None, error="PostgreSQL: away")):
        fields = {name.encode(): value.encode() for name, value in word.as_fields().items()}
        assert word == Archiving.of_fields(fields)
    assert Archiving.of_fields({}) is None
    assert Archiving.of_fields({**told().as_fields(), "n": "many"}) is None


async def test_an_archiver_makes_room_and_leaves_a_person_s_maxlen_alone(valkey_server: RedisServer, url: str) -> None:
    with valkey_server.client() as client:
        add(client, 0, 1000)
        async with archiving(valkey_server, url, archive_stream_bytes_max=4 * MIB) as work:
            await work.until(lambda: client.hget(LOG, "maxlen"))
            raised = int(client.hget(LOG, "maxlen") or 0)
            taken = client.memory_usage(STREAM) / 1000
        assert abs(raised - 4 * MIB / taken) < 0.2 * raised
        assert raised > 10_000
        client.hset(LOG, "maxlen", 20_000)
        async with archiving(valkey_server, url) as work:
            add(client, 1000, 1)
            await work.until_stored(1)
        assert b"20000" == client.hget(LOG, "maxlen")


async def test_doctor_says_up_to_where_the_archive_is_and_how_much_room_is_left(
    valkey_server: RedisServer, url: str, command: Command
) -> None:
    with valkey_server.client() as client:
        add(client, 0, 5)
        _, out, _ = command("doctor", redis_url=valkey_server.url, DATABASE_URL=url)
        assert "nobody archives: run `broadcast archive`" in out
        async with archiving(valkey_server, url) as work:
            await work.until_stored(5)
            await work.until(lambda: client.hget(archive_key(STREAM), "n") == b"5")
            await work.until(lambda: client.hget(LOG, "maxlen"))
        raised = int(client.hget(LOG, "maxlen") or 0)
        add(client, 5, 3)
        code, out, _ = command("doctor", redis_url=valkey_server.url)
        assert f"3 events behind, room for {raised - 3:,} more" in out
        assert "trims it" not in out
        client.hset(archive_key(STREAM), "at_ms", int(time.time() * 1000) - 3_600_000)
        _, out, _ = command("doctor", redis_url=valkey_server.url)
        assert f"last heard of 1 h ago; run `broadcast archive`. It has raised the stream's maxlen to {raised:,}" in out
        client.hset(archive_key(STREAM), mapping={"at_ms": int(time.time() * 1000), "error": "PostgreSQL: away"})
        client.hset(LOG, "maxlen", 1)
        code, out, _ = command("doctor", redis_url=valkey_server.url)
        assert 1 == code
        assert "its archiver waits: PostgreSQL: away" in out
        assert "2 of them are trimmed already" in out


async def test_readyz_says_how_far_the_archive_is_and_is_ready_whatever_that_is(
    valkey_server: RedisServer, url: str, tmp_path: Path
) -> None:
    with valkey_server.client() as client:
        add(client, 0, 5)
        work = await archive_once(valkey_server, url)
        add(client, 5, 2)
        client.hset(archive_key(STREAM), "error", "PostgreSQL: away")
    with serving(valkey_server.url, tmp_path) as bridge:
        status, body = bridge.get("/readyz")
    archive = orjson.loads(body)["archive"]
    position = work.archiver.progress.position
    assert position is not None
    assert 200 == status
    assert (str(position.id), 2, "PostgreSQL: away") == (archive["id"], archive["lag_events"], archive["error"])
    assert archive["room_events"] > 9_000
