"""The fence: whoever does not hold the checkpoint, or is mistaken about where it is, stores nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest

from broadcast.consumers import store
from broadcast.consumers.batch import Batch, EpochName
from broadcast.consumers.store import FencedError, Store
from broadcast.errors import SettingError
from broadcast.log.entry import decode_entry
from broadcast.log.position import START, EntryId, Position
from tests.archivers import ask, numbers, stored
from tests.archives import database
from tests.postgresql import PostgresqlServer


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def batch(first: int, count: int, *, epoch: str = "e", producer: str = "mind") -> Batch:
    made = Batch(EpochName(epoch), Position(START))
    payload = b'{"type":"x","ts":"2026-02-14T19:01:23.456Z","cycle":1,"day":1,"data":{"i":%d}}'
    made.add(
        decode_entry(b"%d-0" % (i + 1), {b"event": payload % i, b"by": b"%b:%d" % (producer.encode(), i + 1)}, i + 1)
        for i in range(first, first + count)
    )
    return made


async def opened(stack: AsyncExitStack, url: str, holder: str) -> Store:
    made = Store(url, "v5:stream", holder)
    stack.push_async_callback(made.close)
    await made.open()
    return made


async def test_who_was_fenced_off_stores_nothing_and_who_took_over_goes_on(url: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, url, "one"), await opened(stack, url, "other")
        await one.claim(at_once=True)
        assert 3 == await one.commit(batch(0, 3))
        await other.claim(at_once=True)
        assert other.checkpoint == one.checkpoint
        for attempt in (one.commit(batch(3, 3)), one.hold(), one.claim(at_once=False)):
            with pytest.raises(FencedError):
                await attempt
        assert [0, 1, 2] == numbers(stored(url))
        assert 3 == await other.commit(batch(3, 3))
        assert [*range(6)] == numbers(stored(url))


async def test_a_holder_that_is_mistaken_about_the_checkpoint_stores_nothing(url: str) -> None:
    async with AsyncExitStack() as stack:
        one = await opened(stack, url, "one")
        await one.claim(at_once=True)
        await one.commit(batch(0, 3))
        before = one.checkpoint
        await one.commit(batch(3, 3))
        one.checkpoint = before
        with pytest.raises(FencedError):
            await one.commit(batch(6, 3, producer="another"))
        assert [*range(6)] == numbers(stored(url))


@pytest.mark.parametrize("epoch", ["e", "another"])
async def test_of_two_that_find_nothing_archived_one_begins(url: str, epoch: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, url, "one"), await opened(stack, url, "other")
        await one.claim(at_once=True)
        await other.claim(at_once=True)
        await one.commit(batch(0, 3))
        with pytest.raises((FencedError, psycopg.errors.UniqueViolation)):
            await other.commit(batch(0, 3, epoch=epoch))
        assert [0, 1, 2] == numbers(stored(url))
        assert 1 == ask(url, "SELECT count(*) FROM epochs")[0][0]


async def test_an_attempt_that_fails_takes_no_number_away(url: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, url, "one"), await opened(stack, url, "other")
        await one.claim(at_once=True)
        await one.commit(batch(0, 1))
        await other.claim(at_once=True)
        anew = batch(1, 1, epoch="anew")
        for _ in range(5):
            with pytest.raises(FencedError):
                await one.commit(anew)
        await other.commit(anew)
        assert [(1, "e"), (2, "anew")] == ask(url, "SELECT epoch, name FROM epochs ORDER BY epoch")


async def test_what_was_released_or_is_silent_may_be_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, url, "one"), await opened(stack, url, "other")
        await one.claim(at_once=True)
        await one.commit(batch(0, 1))
        await one.release()
        await other.claim(at_once=False)
        with pytest.raises(FencedError):
            await one.claim(at_once=False)
        monkeypatch.setattr(store, "SILENT_S", 0.0)
        await one.claim(at_once=False)
        assert one.checkpoint is not None and EntryId(1, 0) == one.checkpoint.id


async def test_what_every_producer_had_is_known_also_beyond_what_is_remembered(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PRODUCERS_CACHED", 2)
    async with AsyncExitStack() as stack:
        one = await opened(stack, url, "one")
        await one.claim(at_once=True)
        for number in range(10):
            assert 1 == await one.commit(batch(number, 1, producer=f"mind-{number}"))
        again = batch(10, 1)
        for number in range(10):
            again.take(batch(number, 1, producer=f"mind-{number}").rows)
        assert 1 == await one.commit(again)
    assert 11 == len(stored(url))


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match="DATABASE_URL: "):
        await Store("host", "v5:stream", "one").open()


async def test_a_database_that_cannot_hold_every_text_is_refused(url: str) -> None:
    ask(url, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    latin = Store(f"{url.rpartition('/')[0]}/latin", "v5:stream", "one")
    try:
        with pytest.raises(SettingError, match="encoding is LATIN1, which cannot hold every text"):
            await latin.open()
    finally:
        await latin.close()
        ask(url, "DROP DATABASE latin")
