"""Reading the archive on a real PostgreSQL: pages in order, the delivered form, what an id or a name means."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import orjson
import psycopg
import pytest

from broadcast.errors import UnreachableError
from broadcast.filters import parse_filter
from broadcast.log.archive import Archive, Archived, Extent, Place
from broadcast.log.position import START, EntryId, Position
from broadcast.log.seam import Seam
from tests.archives import database, fill
from tests.postgresql import PostgresqlServer

BEGAN_MS = 1_771_000_000_000
WEEK_MS = 7 * 24 * 3600 * 1000


def event(at: int, event_type: str = "sense.project", *, step_ms: int = 1000, **more: Any) -> dict[str, Any]:
    ms = BEGAN_MS + at * step_ms
    ts = _iso(ms)
    place = {"id": f"{ms}-0", "by": f"mind:{at + 1}", "n": at + 1}
    return {"type": event_type, "ts": ts, "cycle": at, "day": 1, "data": {"at": at}, **place, **more}


def _iso(ms: int) -> str:
    from broadcast.event import timestamp

    return timestamp(ms * 1_000_000)


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


async def read(url: str, *, page: int, types: str | None = None) -> list[Archived]:
    async with aclosing(Archive(url)) as archive:
        extent = await archive.extent()
        assert extent is not None
        matches = None if types is None else parse_filter(types).matches
        place, found = Place(1, START), []
        while rows := await archive.page(place, until=extent.end, count=page, matches=matches):
            found += rows
            place = rows[-1].place
        return found


def test_an_empty_database_has_no_extent(url: str) -> None:
    async def look() -> Extent | None:
        async with aclosing(Archive(url)) as archive:
            return await archive.extent()

    assert asyncio.run(look()) is None


def test_pages_across_weeks_give_every_event_once_in_order_and_in_the_delivered_form(url: str) -> None:
    events = [event(at, step_ms=WEEK_MS // 3) for at in range(20)]
    fill(url, events)
    assert [orjson.loads(row.json) for row in asyncio.run(read(url, page=3))] == events


def test_what_fits_no_column_comes_back_as_it_was(url: str) -> None:
    events = [
        event(0, session={"a": [1, "ü", None]}, cycle="forty", day=None),
        event(1, cycle=2**70, mood='"\\\n'),
        event(2, 'odd"type\\', cycle=1.5, data={"text": 'a "quoted" \\ back\nslash \x01 \u2028', "float": 1e300}),
    ]
    del events[1]["by"], events[1]["n"]
    fill(url, events)
    assert [orjson.loads(row.json) for row in asyncio.run(read(url, page=10))] == events


def test_a_filter_gives_its_types_alone(url: str) -> None:
    events = [event(at, ("sense.project", "state.mood", "error")[at % 3]) for at in range(30)]
    fill(url, events)
    wanted = [e for e in events if e["type"] != "state.mood"]
    assert [orjson.loads(row.json) for row in asyncio.run(read(url, page=4, types="-state.*"))] == wanted


def test_a_later_log_follows_an_earlier_one_though_its_ids_are_smaller(url: str) -> None:
    fill(url, [event(at) for at in range(5)], epoch="first")
    later = [event(at - 3, by=f"other:{at + 1}") for at in range(5)]
    fill(url, later, epoch="second", parent="first")
    found = [orjson.loads(row.json) for row in asyncio.run(read(url, page=2))]
    assert found == [*(event(at) for at in range(5)), *later]


def test_a_position_is_found_by_its_log_or_by_its_time(url: str) -> None:
    fill(url, [event(at) for at in range(5)], epoch="first")
    fill(url, [event(at) for at in range(10, 15)], epoch="second")

    async def look() -> Extent | None:
        async with aclosing(Archive(url)) as archive:
            return await archive.extent()

    extent = asyncio.run(look())
    assert extent is not None
    at = [EntryId(BEGAN_MS + n * 1000, 0) for n in range(20)]
    assert extent.place_of(Position(at[12], epoch="first")) == Place(1, at[12])
    assert extent.place_of(Position(at[3])) == Place(1, at[3])
    assert extent.place_of(Position(at[12])) == Place(2, at[12])
    assert extent.place_of(Position(at[3], epoch="unheard of")) is None
    assert extent.position() == Position(at[14], 15, "second")


def test_a_schema_in_the_address_is_heeded_and_nothing_is_written(url: str) -> None:
    """Several minds in one database: each has a schema of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA kai")
    of_kai = f"{url}?options=-csearch_path%3Dkai"
    fill(of_kai, [event(at) for at in range(3)])

    async def look(address: str) -> Extent | None:
        async with aclosing(Archive(address)) as archive:
            with pytest.raises(UnreachableError, match="read-only"):
                async with archive.snapshot() as connection:
                    await connection.execute("CREATE TABLE letters (a int)")
            return await archive.extent()

    assert asyncio.run(look(url)) is None
    extent = asyncio.run(look(of_kai))
    assert extent is not None and 3 == extent.n


def test_a_page_of_large_events_ends_at_so_many_bytes_and_goes_on_in_the_same_snapshot(url: str) -> None:
    """What is five bytes in the log may be three hundred on its way: 40 events of a few kilobytes are 24 MiB."""
    fill(url, [event(at, data={"big": [1e300] * 2000}) for at in range(40)])
    assert list(range(1, 41)) == [row.n for row in asyncio.run(read(url, page=500))]

    async def look() -> list[int]:
        async with aclosing(Archive(url)) as archive:
            seam = Seam(archive, "v5:stream")
            sizes: list[int] = []
            at: Position | Place = Position(START)
            while True:
                page = await seam.page(at, count=500)
                assert page is not None
                rows = [row for piece in page.pieces if isinstance(piece, list) for row in piece]
                sizes.append(sum(len(row.json) for row in rows))
                if page.is_last:
                    assert [("mind", 40)] == page.producers
                    return sizes
                at = page.end

    sizes = asyncio.run(look())
    assert sum(sizes) > 20 * 2**20 and max(sizes) < 9 * 2**20


def test_numbers_that_no_log_has_cost_nothing(url: str) -> None:
    """Older versions took one away with every attempt that failed."""
    fill(url, [event(at) for at in range(10)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT nextval(pg_get_serial_sequence('epochs', 'epoch')) FROM generate_series(1, 20000)"
        ).fetchall()
    fill(url, [event(at) for at in range(10, 20)], epoch="e2")

    async def look() -> list[int | None]:
        async with asyncio.timeout(10):
            return [row.n for row in await read(url, page=500)]

    assert list(range(1, 21)) == asyncio.run(look())
