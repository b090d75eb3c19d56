"""Archive, stream and what comes, read as one: on a real Valkey and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from broadcast import Broadcaster
from broadcast.consumers.archiver import Progress
from broadcast.consumers.recorder import Recorder
from broadcast.errors import PositionError
from broadcast.event import timestamp
from broadcast.log.archive import Archive
from broadcast.log.cancelling import end_tasks
from broadcast.log.listen import Listener
from broadcast.log.position import EntryId, Position, parse_id, parse_since
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from broadcast.log.timeline import Timeline
from broadcast.settings import Settings
from tests.archivers import archive_once, archiving
from tests.archives import database, fill
from tests.postgresql import PostgresqlServer, running_postgresql
from tests.servers import RedisServer, free_port

PATIENCE_S: Final = 20.0


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def emit(broadcaster: Broadcaster, count: int, *, first: int = 0, type: str = "x") -> None:
    for i in range(first, first + count):
        broadcaster.emit(type, {"i": i})
    assert broadcaster.flush()


@pytest.fixture
def lived(broadcaster: Broadcaster, valkey_server: RedisServer, url: str) -> str:
    """A log of 1,000 events: all but the last 300 are archived, and the stream holds the last 500."""
    emit(broadcaster, 700)
    asyncio.run(archive_once(valkey_server, url))
    emit(broadcaster, 300, first=700)
    with valkey_server.client() as client:
        client.xtrim("v5:stream", maxlen=500, approximate=False)
    return url


@asynccontextmanager
async def timeline(redis_url: str, url: str | None) -> AsyncGenerator[Timeline]:
    async with aclosing(StreamReader(redis_url, "v5:stream")) as reader:
        if url is None:
            yield Timeline(reader)
            return
        async with aclosing(Archive(url)) as archive:
            yield Timeline(reader, archive)


async def read(redis_url: str, url: str | None, since: object, until: object = None, **more: Any) -> list[Any]:
    """Numbers, and what else there was, up to the last of the thousand."""
    found: list[Any] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        timeline(redis_url, url) as line,
        aclosing(line.read(since, until, **more)) as events,
    ):
        async for event in events:
            found.append(event["data"].get("i", event))
            if found[-1] == 999:
                break
    return found


def test_from_the_oldest_the_tiers_are_one_and_a_bare_id_or_a_whole_position_goes_on_in_the_archive(
    lived: str, valkey_server: RedisServer
) -> None:
    redis_url = valkey_server.url
    assert list(range(1000)) == asyncio.run(read(redis_url, lived, "0"))
    assert list(range(1000)) == asyncio.run(read(redis_url, lived, "1h"))

    async def at(n: int) -> Any:
        async with aclosing(Archive(lived)) as archive:
            extent = await archive.extent()
            assert extent is not None
            rows = await archive.page(extent.place_of(Position(EntryId(0, 0))) or extent.end, until=extent.end, count=n)
            return rows[-1].place.id

    entry_id = asyncio.run(at(100))
    assert list(range(100, 1000)) == asyncio.run(read(redis_url, lived, str(entry_id)))
    assert list(range(100, 1000)) == asyncio.run(read(redis_url, lived, Position(entry_id, 100, _epoch(valkey_server))))


def _epoch(server: RedisServer) -> str:
    with server.client() as client:
        epoch: Any = client.hget("{v5:stream}:log", "epoch")
        return str(epoch.decode() if isinstance(epoch, bytes) else epoch)


def test_the_stream_alone_tells_what_it_lacks(lived: str, valkey_server: RedisServer) -> None:
    first, *rest = asyncio.run(read(valkey_server.url, None, {"id": "1-0", "n": 1}))
    assert first["type"] == "broadcast.gap" and first["data"]["lost"] == 499
    assert list(range(500, 1000)) == rest


def test_what_neither_tier_has_is_a_gap_and_is_counted(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str
) -> None:
    emit(broadcaster, 200)
    asyncio.run(archive_once(valkey_server, url))
    emit(broadcaster, 800, first=200)
    with valkey_server.client() as client:
        client.xtrim("v5:stream", maxlen=500, approximate=False)
    found = asyncio.run(read(valkey_server.url, url, "0"))
    gap = found.pop(200)
    assert gap["type"] == "broadcast.gap" and gap["data"]["reason"] == "trimmed" and gap["data"]["lost"] == 300
    assert [*range(200), *range(500, 1000)] == found


def test_types_and_an_end_in_each_tier(broadcaster: Broadcaster, valkey_server: RedisServer, url: str) -> None:
    for i in range(40):
        broadcaster.set_cycle(i // 10, 1)
        broadcaster.emit("cycle.start" if i % 10 == 0 else "x", {"i": i})
    broadcaster.flush()
    asyncio.run(archive_once(valkey_server, url))
    emit(broadcaster, 10, first=40, type="y")
    with valkey_server.client() as client:
        ids = [parse_id(row[0].decode()) for row in client.xrange("v5:stream")]
        client.xtrim("v5:stream", maxlen=15, approximate=False)
    redis_url = valkey_server.url

    def ask(*arguments: Any, **more: Any) -> list[Any]:
        return asyncio.run(read(redis_url, url, *arguments, **more))

    assert [10, 20, 30] == ask(str(ids[0]), str(ids[49]), types="cycle.*")
    assert list(range(5, 21)) == ask(str(ids[4]), str(ids[20])), "an end in the archive"
    assert list(range(5, 46)) == ask(str(ids[4]), str(ids[45])), "an end in the stream"
    assert list(range(50)) == ask("0", "0ms")
    assert list(range(10, 20)) == ask("cycle:1", "cycle:1")
    assert list(range(30, 50)) == ask("cycle:3", "cycle:3"), "the newest one is not over"
    with pytest.raises(PositionError, match="cycle: there is none of the number 7"):
        ask("cycle:7")


def test_a_range_of_times_holds_what_came_into_the_log_late(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str
) -> None:
    """Of a mind that could not reach Redis for an hour; in the archive, and in the stream."""
    hour_ago = timestamp(time.time_ns() - 3_600 * 10**9)
    emit(broadcaster, 5)
    with valkey_server.client() as client:
        for i in range(4):
            late = {"type": "x", "ts": hour_ago, "cycle": 0, "day": 0, "data": {"i": 100 + i}}
            client.xadd("v5:stream", {"event": json.dumps(late)})
            emit(broadcaster, 5, first=5 * i + 5)
            if i == 2:
                asyncio.run(archive_once(valkey_server, url))
        client.xtrim("v5:stream", maxlen=8, approximate=False)
    assert [100, 101, 102, 103] == asyncio.run(read(valkey_server.url, url, "2h", "30m"))
    assert [100, 101, 102, 103] == asyncio.run(read(valkey_server.url, url, "2h", "30m", types="x"))
    assert list(range(25)) == asyncio.run(read(valkey_server.url, url, "30m", "0ms"))


@pytest.mark.parametrize("has_archive", [True, False])
def test_a_past_end_ends_a_log_in_which_nothing_came_since(
    valkey_server: RedisServer, url: str, has_archive: bool
) -> None:
    archive, hour_ago_ms = url if has_archive else None, int(time.time() * 1000) - 3_600_000
    with valkey_server.client() as client:
        for i in range(5):
            event = {"type": "x", "ts": timestamp((hour_ago_ms + i) * 10**6), "cycle": 0, "day": 0, "data": {"i": i}}
            client.xadd("v5:stream", {"event": json.dumps(event)}, id=f"{hour_ago_ms + i}-0")
        if has_archive:
            asyncio.run(archive_once(valkey_server, url))

        def ask(since: object, until: object = "0ms") -> list[Any]:
            return asyncio.run(read(valkey_server.url, archive, since, until))

        assert [0, 1, 2, 3, 4] == ask("0") == ask("2h")
        assert [] == ask("10s") == ask("2s", "1s") == ask("2999-01-01T00:00:00Z") == ask(f"{hour_ago_ms + 4}-0")
        client.xtrim("v5:stream", maxlen=0)
        assert (5 if has_archive else 0) == len(ask("0"))
        assert [] == ask("10s") == ask(f"{hour_ago_ms + 4}-0")


def test_an_end_that_is_still_to_come_is_waited_for(lived: str, valkey_server: RedisServer) -> None:
    until = time.time() + 0.5
    text = f"{EntryId(int(until * 1000), 0)}"
    found = asyncio.run(read(valkey_server.url, lived, "0", text))
    assert list(range(1000)) == found


def test_what_was_archived_in_another_epoch_comes_first_and_where_it_ends_is_told_once(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str
) -> None:
    """The log began anew, and nobody can know what else the one before had; the archiver has been at work in both."""
    base = 1_771_000_000_000
    before = [
        {"type": "x", "ts": "2026-02-13T16:26:40.000Z", "cycle": 0, "day": 0, "data": {"i": i}}
        | {"id": f"{base + i}-0", "by": f"old:{i + 1}", "n": i + 1}
        for i in range(100)
    ]
    fill(url, before, epoch="old")
    emit(broadcaster, 900, first=100)
    asyncio.run(archive_once(valkey_server, url))
    place = Position(EntryId(base + 9, 0), 10, "old")
    found = asyncio.run(read(valkey_server.url, url, place))
    gap = found.pop(90)
    assert ("broadcast.gap", "reset", before[-1]["id"]) == (gap["type"], gap["data"]["reason"], gap["data"]["after"])
    assert list(range(10, 1000)) == found


def test_an_archive_of_another_stream_is_none(lived: str, valkey_server: RedisServer) -> None:
    import psycopg

    with psycopg.connect(lived, autocommit=True) as connection:
        connection.execute("UPDATE checkpoint SET stream = 'other'")
    assert list(range(500, 1000)) == asyncio.run(read(valkey_server.url, lived, "0"))


def test_what_was_archived_and_is_appended_again_behind_the_checkpoint_comes_once(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str
) -> None:
    """Even where the reader itself began behind the first of the two."""
    other = Broadcaster(settings=Settings(redis_url=valkey_server.url))
    emit(other, 10)
    with valkey_server.client() as client:
        again: Any = client.xrange("v5:stream")
        emit(broadcaster, 690, first=10)
        asyncio.run(archive_once(valkey_server, url))
        for _, fields in again:
            client.xadd("v5:stream", fields)
        emit(broadcaster, 300, first=700)
        client.xtrim("v5:stream", maxlen=500, approximate=False)
    assert list(range(1000)) == asyncio.run(read(valkey_server.url, url, "0"))
    since = Position(parse_id(again[-1][0].decode()), 10, _epoch(valkey_server))
    assert list(range(10, 1000)) == asyncio.run(read(valkey_server.url, url, since))
    other.close()


def test_a_reader_that_dawdles_finds_in_the_archive_what_the_stream_has_lost_meanwhile(
    broadcaster: Broadcaster, valkey_server: RedisServer, url: str
) -> None:
    def go_on(first: int) -> None:
        emit(broadcaster, 200, first=first)
        asyncio.run(archive_once(valkey_server, url))
        with valkey_server.client() as client:
            client.xtrim("v5:stream", maxlen=20, approximate=False)

    async def dawdle() -> list[Any]:
        found: list[Any] = []
        coming = {200: 400, 590: 600, 800: 800}
        async with (
            asyncio.timeout(PATIENCE_S),
            timeline(valkey_server.url, url) as line,
            aclosing(line.read("0")) as events,
        ):
            async for event in events:
                found.append(event["data"].get("i", event))
                if len(found) in coming:
                    await asyncio.to_thread(go_on, coming[len(found)])
                if found[-1] == 999:
                    break
        return found

    go_on(0)
    go_on(200)
    assert list(range(1000)) == asyncio.run(dawdle())


def test_a_script_and_the_recorder_go_on_from_the_archive(
    lived: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", lived)
    with Listener(since="30d", redis_url=valkey_server.url) as events:
        assert list(range(1000)) == [next(events)["data"]["i"] for _ in range(1000)]
    path = tmp_path / "log.jsonl"

    async def record(until: int) -> None:
        recorder = Recorder(path)
        task = asyncio.create_task(recorder.run(redis_url=valkey_server.url))
        async with asyncio.timeout(PATIENCE_S):
            while recorder.written < until:
                await asyncio.sleep(0.01)
        await end_tasks(task)
        recorder.close()

    asyncio.run(record(1000))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:51]))  # the first one names the log
    asyncio.run(record(950))
    assert lines == path.read_bytes().splitlines(keepends=True)


def test_postgresql_killed_in_the_middle_is_waited_for_and_told_once(
    broadcaster: Broadcaster, valkey_server: RedisServer
) -> None:
    with running_postgresql() as server:
        emit(broadcaster, 1000)
        asyncio.run(archive_once(valkey_server, server.url))
        with valkey_server.client() as client:
            client.xtrim("v5:stream", maxlen=100, approximate=False)

        async def go_on() -> tuple[list[int], list[Any]]:
            numbers: list[int] = []
            links: list[Any] = []
            back: asyncio.Task[Any] | None = None
            async with asyncio.timeout(60), timeline(valkey_server.url, server.url) as line:
                since = parse_since("0", now=_now())
                async with aclosing(line.follow(since)) as items:
                    async for item in items:
                        if isinstance(item, LinkDown | LinkUp):
                            links.append(item)
                            if isinstance(item, LinkDown) and back is None:
                                back = asyncio.create_task(asyncio.to_thread(server.start))
                        elif isinstance(item, list):
                            numbers += [each.event["data"]["i"] for each in item]
                            if len(numbers) == 500:
                                server.stop(9)
                            if len(numbers) >= 1000:
                                break
            assert back is not None
            await back
            return numbers, links

        numbers, links = asyncio.run(go_on())
        assert list(range(1000)) == numbers
        assert [LinkDown] == [type(link) for link in links]
        assert links[0].tier == "the archive"


def test_without_postgresql_a_stream_that_is_whole_is_read_and_what_may_lie_before_it_is_told(
    broadcaster: Broadcaster, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.log.archive.CONNECT_TIMEOUT_S", 0.3)
    nothing = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    emit(broadcaster, 1000)
    for since in ("0", "1h"):
        first, *rest = asyncio.run(read(valkey_server.url, nothing, since, "0ms"))
        assert ("broadcast.gap", None) == (first["type"], first["data"]["lost"])
        assert list(range(1000)) == rest


def test_without_postgresql_what_the_stream_has_lost_is_waited_for_and_that_is_logged(
    lived: str, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("broadcast.log.archive.CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")

    async def wait() -> None:
        async with aclosing(Listener(since="1h", redis_url=valkey_server.url).events()) as events, asyncio.timeout(1.5):
            await anext(events)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    (said,) = [record.getMessage() for record in caplog.records if record.name == "broadcast"]
    assert said.startswith("the archive cannot be read") and said.endswith("waiting")


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


async def _seam_under_load(server: RedisServer, url: str, *, runs: int, rate: int) -> None:
    """Readers that begin at any place while events come, are archived, and leave the stream as soon as they are."""
    numbers = iter(range(10**9))
    emitter = Broadcaster(settings=Settings(redis_url=server.url))
    chance = random.Random(runs)

    async def live(progress: Callable[[], Progress]) -> None:
        began = time.monotonic()
        with server.client() as client:
            while True:
                while (i := next(numbers)) < (time.monotonic() - began) * rate:
                    emitter.emit("x", {"i": i})
                emitter.emit("x", {"i": i})
                if (at := progress().position) is not None:
                    await asyncio.to_thread(client.xtrim, "v5:stream", minid=str(at.id), approximate=False)
                await asyncio.sleep(0.02)

    async with archiving(server, url) as work, timeline(server.url, url) as line:
        living = asyncio.create_task(live(lambda: work.archiver.progress))
        try:
            await work.until_stored(3 * rate)
            for _ in range(runs):
                since = f"{chance.uniform(0.0, 5.0):.3f}s"
                goal = work.archiver.progress.events + rate // 2
                async with asyncio.timeout(PATIENCE_S):
                    found = await _read_up_to(line, since, goal, chance)
                assert list(range(found[0], found[0] + len(found))) == found, since
        finally:
            await end_tasks(living)
            await asyncio.to_thread(emitter.close)


async def _read_up_to(line: Timeline, since: str, goal: int, chance: random.Random) -> list[int]:
    """The numbers of a reader that dawdles now and then; in the place of a gap, the gap."""
    found: list[int] = []
    async with aclosing(line.read(since)) as events:
        async for event in events:
            found.append(event["data"].get("i", event))
            if found[-1] >= goal:
                break
            if len(found) % 97 == 0:
                await asyncio.sleep(chance.uniform(0, 0.01))
    return found


def test_every_id_once_and_in_order_at_the_seam_under_load(valkey_server: RedisServer, url: str) -> None:
    asyncio.run(_seam_under_load(valkey_server, url, runs=6, rate=1000))


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_every_id_once_and_in_order_at_the_seam_two_hundred_times(valkey_server: RedisServer, url: str) -> None:
    asyncio.run(_seam_under_load(valkey_server, url, runs=200, rate=1000))
