"""Reading the stream of a real server: bounds, pages, and a tail that survives whatever happens to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from broadcast.log.entry import Entry
from broadcast.log.position import START, EntryId, Gap, Position, Seen
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from tests.bridges import emitter_to
from tests.servers import RedisServer

STREAM: Final = "v5:stream"
PATIENCE_S: Final = 40


def add(client: redis.Redis, count: int, *, first: int = 0, **options: Any) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + count):
        event = f'{{"type":"x","ts":"2026-02-14T19:01:23.456Z","cycle":1,"day":1,"data":{{"i":{i}}}}}'
        pipe.xadd(STREAM, {"event": event}, **options)
    pipe.execute()


def numbers(entries: list[Entry]) -> list[int]:
    return [entry.event["data"]["i"] for entry in entries]


class Tail:
    """A tail that is read in the background, and what it gave."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.changed = asyncio.Event()

    @property
    def entries(self) -> list[Entry]:
        return [entry for item in self.items if isinstance(item, list) for entry in item]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    def links(self, kind: type) -> int:
        return sum(isinstance(item, kind) for item in self.items)

    async def read(self, reader: StreamReader, position: Position | None) -> None:
        async for item in reader.tail(position):
            self.items.append(item)
            self.changed.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_has(self, count: int) -> None:
        await self.until(lambda: len(self.entries) >= count)


@asynccontextmanager
async def tailing(
    server: RedisServer, position: Position | None = None, *, renews_epoch: bool = True
) -> AsyncIterator[Tail]:
    reader = StreamReader(server.url, STREAM, renews_epoch=renews_epoch)
    tail = Tail()
    task = asyncio.create_task(tail.read(reader, position))
    try:
        await tail.until(lambda: tail.items)
        yield tail
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await reader.aclose()


@asynccontextmanager
async def reading(server: RedisServer) -> AsyncIterator[StreamReader]:
    reader = StreamReader(server.url, STREAM)
    try:
        yield reader
    finally:
        await reader.aclose()


# --- pages


async def test_bounds_of_a_stream_that_is_not_there_is_empty_and_trimmed(any_server: RedisServer) -> None:
    with any_server.client() as client:
        client.flushall()
        async with reading(any_server) as reader:
            bounds = await reader.bounds()
            assert (None, START, 0, 0, None) == (bounds.first, bounds.last, bounds.added, bounds.length, bounds.epoch)
            add(client, 10)
            client.xtrim(STREAM, maxlen=4, approximate=False)
            bounds = await reader.bounds()
            assert (10, 4, 6) == (bounds.added, bounds.length, bounds.trimmed)
            client.xtrim(STREAM, maxlen=0, approximate=False)
            emptied = await reader.bounds()
            assert (None, bounds.last, 10, 10) == (emptied.first, emptied.last, emptied.added, emptied.trimmed)


async def test_pages_are_in_order_and_numbered_where_the_stream_s_count_reaches_them(any_server: RedisServer) -> None:
    with any_server.client() as client:
        client.flushall()
        add(client, 100)
        client.xtrim(STREAM, maxlen=50, approximate=False)
    async with reading(any_server) as reader:
        newest, bounds = await reader.newest(10)
        assert (list(range(90, 100)), list(range(91, 101))) == (numbers(newest), [entry.n for entry in newest])
        assert bounds.last == newest[-1].id
        assert list(range(85, 90)) == numbers(await reader.older(newest[0].id, count=5))
        page, gap = await reader.range(Position(START), count=10)
        assert (list(range(50, 60)), list(range(51, 61))) == (numbers(page), [entry.n for entry in page])
        page, gap = await reader.range(Position(START, 0), count=10)
        assert Gap(START, page[0].id, 50, "trimmed") == gap
        page, gap = await reader.range(Position(page[-1].id, 60), count=10, until=newest[0].id)
        assert (list(range(60, 70)), list(range(61, 71)), None) == (numbers(page), [entry.n for entry in page], gap)
        page, _ = await reader.range(Position(newest[-3].id), count=10)
        assert [99, 100] == [entry.n for entry in page]


# --- the tail


async def test_the_tail_begins_at_the_end_or_behind_a_position(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        add(client, 1200)
        async with tailing(valkey_server) as live, tailing(valkey_server, Position(START)) as whole:
            add(client, 5, first=1200)
            await live.until_has(5)
            await whole.until_has(1205)
    assert list(range(1200, 1205)) == numbers(live.entries)
    assert list(range(1205)) == numbers(whole.entries)
    assert list(range(1, 1206)) == [entry.n for entry in whole.entries]
    assert list(range(1201, 1206)) == [entry.n for entry in live.entries]
    assert [] == whole.gaps


async def test_nothing_is_missed_between_two_reads_of_a_quiet_log(valkey_server: RedisServer) -> None:
    """Were a read to begin at `$`, what comes while none waits would be lost."""
    with valkey_server.client() as client:
        async with tailing(valkey_server) as tail:
            for i in range(300):
                add(client, 1, first=i)
                if i % 10 == 0:
                    await asyncio.sleep(0.001)
            await tail.until_has(300)
        assert "$" not in str(client.slowlog_get())
    assert list(range(300)) == numbers(tail.entries)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_of_redis_makes_no_gap_and_no_double(own_server: RedisServer, number: int) -> None:
    emitter = emitter_to(own_server.url)
    async with tailing(own_server, Position(START)) as tail:
        for i in range(100):
            emitter.emit("x", {"i": i})
        assert await asyncio.to_thread(emitter.flush)
        await tail.until_has(100)
        await asyncio.to_thread(own_server.stop, number)
        for i in range(100, 200):
            emitter.emit("x", {"i": i})
        await tail.until(lambda: tail.links(LinkDown))
        await asyncio.to_thread(own_server.start)
        seen = Seen()
        await tail.until(lambda: {e.event["data"].get("i") for e in tail.entries} >= set(range(200)))
    emitter.close(1)
    once = [entry for entry in tail.entries if seen.is_new(entry.by)]
    assert list(range(200)) == numbers(once)
    assert 1 == tail.links(LinkDown)
    assert 2 <= tail.links(LinkUp)
    # kill -9 may take the last second along: then a gap says so, and what is appended again is known by its `by`.
    assert {"rewound"} >= {gap.reason for gap in tail.gaps}
    if number == signal.SIGTERM:
        assert ([], list(range(1, 201))) == (tail.gaps, [entry.n for entry in tail.entries])


async def test_what_was_trimmed_while_it_was_behind_is_counted_exactly(own_server: RedisServer) -> None:
    with own_server.client() as client:
        add(client, 10)
    async with tailing(own_server, Position(START)) as tail:
        await tail.until_has(10)
        last = tail.entries[-1].id
        await asyncio.to_thread(own_server.stop)
        own_server.start()
        own_server.stop()
        await tail.until(lambda: tail.links(LinkDown))
        # It is back before the tail looks again, and much has happened.
        own_server.start()
        with own_server.client() as client:
            add(client, 990, first=10)
            client.xtrim(STREAM, maxlen=20, approximate=False)
        await tail.until(lambda: tail.entries[-1].event["data"]["i"] == 999)
    found = numbers(tail.entries)
    lost = sum(gap.lost or 0 for gap in tail.gaps)
    assert len(found) + lost == 1000
    assert found == sorted(set(found))
    assert [i + 1 for i in found] == [entry.n for entry in tail.entries]
    if tail.gaps:
        assert last == tail.gaps[0].after


async def test_a_foreign_producer_that_trims_exactly_makes_gaps_that_add_up(valkey_server: RedisServer) -> None:
    """The reader is slower than the trimming: whatever it did not get, it was told of."""
    reader = StreamReader(valkey_server.url, STREAM, renews_epoch=True)
    got: list[Entry] = []
    gaps: list[Gap] = []
    with valkey_server.client() as client:
        add(client, 5, maxlen=10, approximate=False)
        items = reader.tail(Position(START))
        i = 5
        async with asyncio.timeout(PATIENCE_S):
            async for item in items:
                if isinstance(item, Gap):
                    gaps.append(item)
                if isinstance(item, list):
                    got += item
                if i < 600:
                    # Before each read: sometimes fewer than the stream keeps, sometimes more.
                    step = (3, 12, 9, 10, 11, 40)[i % 6]
                    add(client, step, first=i, maxlen=10, approximate=False)
                    i += step
                elif got and got[-1].event["data"]["i"] == i - 1:
                    break
        await items.aclose()
    await reader.aclose()
    assert gaps
    assert all(gap.reason == "trimmed" and gap.lost for gap in gaps)
    assert [n + 1 for n in numbers(got)] == [entry.n for entry in got]
    assert i == len(got) + sum(gap.lost or 0 for gap in gaps)
    by_id = {gap.before: gap for gap in gaps}
    for before, after in pairwise(got):
        missing = (after.n or 0) - (before.n or 0) - 1
        assert missing == (by_id[after.id].lost if after.id in by_id else 0)


async def test_flushall_is_a_reset_and_the_new_log_is_read_from_its_beginning(valkey_server: RedisServer) -> None:
    with valkey_server.client() as client:
        async with tailing(valkey_server) as tail:
            add(client, 10)
            await tail.until_has(10)
            client.flushall()
            add(client, 3, first=100)
            await tail.until_has(13)
    assert [(None, "reset")] == [(gap.lost, gap.reason) for gap in tail.gaps]
    assert [*range(10), 100, 101, 102] == numbers(tail.entries)
    assert [1, 2, 3] == [entry.n for entry in tail.entries[10:]]


async def test_an_older_copy_of_the_data_is_rewound_and_what_is_appended_again_is_known(
    own_server: RedisServer, tmp_path: Path
) -> None:
    emitter = emitter_to(own_server.url)

    def emit(first: int, count: int) -> None:
        for i in range(first, first + count):
            emitter.emit("x", {"i": i})
        assert emitter.flush(10)

    async with tailing(own_server, Position(START)) as tail:
        await asyncio.to_thread(emit, 0, 50)
        await tail.until_has(50)
        await asyncio.to_thread(own_server.copy_to, tmp_path / "older")
        await asyncio.to_thread(emit, 50, 50)
        await tail.until_has(100)
        await asyncio.to_thread(own_server.fall_back_to, tmp_path / "older")
        await tail.until(lambda: tail.gaps)
        await asyncio.to_thread(emit, 100, 10)
        await tail.until(lambda: tail.entries[-1].event["data"].get("i") == 109)
        epochs = {item.bounds.epoch for item in tail.items if isinstance(item, LinkUp)}
        async with reading(own_server) as reader:
            bounds = await reader.bounds()
    emitter.close(1)
    assert [("rewound", None)] == [(gap.reason, gap.lost) for gap in tail.gaps]
    assert tail.gaps[0].after == tail.entries[99].id
    seen = Seen()
    assert list(range(110)) == numbers([entry for entry in tail.entries if seen.is_new(entry.by)])
    # The log was marked: others that stood in the lost tail see it, too.
    assert bounds.epoch in epochs
    assert bounds.parent in epochs
    assert bounds.forked_at == tail.entries[49].id
    assert bounds.added == 110
    async with tailing(own_server, Position(tail.entries[70].id, 71, bounds.parent), renews_epoch=False) as other:
        await other.until_has(60)
    assert ["rewound"] == [gap.reason for gap in other.gaps]
    assert list(range(50, 110)) == numbers(other.entries)


async def test_redis_away_at_the_start_is_waited_for(own_server: RedisServer) -> None:
    own_server.stop()
    async with tailing(own_server, Position(EntryId(0, 0))) as tail:
        assert isinstance(tail.items[0], LinkDown)
        await asyncio.to_thread(own_server.start)
        with own_server.client() as client:
            add(client, 1)
        await tail.until_has(1)
    assert 1 == tail.links(LinkDown)
