"""Lines of COPY: whatever JSON an event holds comes back from the archive as the same JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcast.consumers.batch import Batch, EpochName
from broadcast.consumers.rows import COLUMNS, ID_MS_MAX, row_of
from broadcast.log.archive import DELIVERED
from broadcast.log.entry import Entry, decode_entry
from broadcast.log.migrate import migrate
from broadcast.log.position import START, Position
from tests.archives import database
from tests.postgresql import PostgresqlServer

# What PostgreSQL cannot hold is parked, which has its own test.
TEXTS = st.text(st.characters(exclude_characters="\0", categories=("L", "N", "P", "S", "Z", "Cc", "Cf")), max_size=20)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["\\", "\\N", "\t\n\r", "\\u0000", "\\."])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
EVENTS = st.fixed_dictionaries(
    {
        "type": TEXTS,
        "ts": st.datetimes().map(lambda at: at.isoformat() + "Z"),
        "data": st.dictionaries(TEXTS, JSON, max_size=4),
    },
    optional={"cycle": JSON, "day": JSON, "session": JSON, "mood": JSON},
)


@pytest.fixture(scope="module")
def connection(postgresql_server: PostgresqlServer) -> Iterator[psycopg.Connection[Any]]:
    async def prepare(url: str) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as preparing:
            await migrate(preparing)

    with database(postgresql_server) as url:
        asyncio.run(prepare(url))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TEMP TABLE held (LIKE events)")
            yield connection


def entries_of(events: list[tuple[dict[str, Any], str | None]]) -> list[Entry]:
    found: list[Entry] = []
    for i, (event, by) in enumerate(events, 1):
        payload = orjson.dumps(event)
        fields = {b"event": payload} | ({} if by is None else {b"by": by.encode()})
        found.append(decode_entry(f"{i}-{2**63 - 1}".encode(), fields, i if i % 2 else None))
    return found


def through(connection: psycopg.Connection[Any], entries: list[Entry]) -> list[Any]:
    batch = Batch(EpochName("e"), Position(START))
    batch.add(entries)
    assert [] == batch.parked
    connection.execute("TRUNCATE held")
    with connection.cursor() as cursor, cursor.copy(f"COPY held ({COLUMNS}) FROM STDIN") as copy:
        copy.write(batch.lines(1))
    rows = connection.execute(f"SELECT {DELIVERED} FROM held ORDER BY id_ms").fetchall()
    return [exactly(row[0]) for row in rows]


def exactly(text: str | bytes) -> Any:
    """JSON with its numbers as they are written: a whole number and a float may be the same one."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def test_any_event_comes_back_as_it_was(connection: psycopg.Connection[Any]) -> None:
    def numbers_fit(value: Any) -> Any:
        """What JSON readers make of numbers beyond 64 bits."""
        return orjson.loads(json.dumps(value))

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(EVENTS, st.none() | TEXTS), min_size=1, max_size=10))
    def check(events: list[tuple[dict[str, Any], str | None]]) -> None:
        entries = entries_of([(numbers_fit(event), by) for event, by in events])
        assert [exactly(orjson.dumps(entry.event)) for entry in entries] == through(connection, entries)

    check()


@pytest.mark.parametrize(("levels", "is_malformed"), [(240, False), (600, True)])
def test_deep_data_comes_back_as_far_as_it_can_be_passed_on(
    connection: psycopg.Connection[Any], levels: int, is_malformed: bool
) -> None:
    deep: Any = {}
    for _ in range(levels):
        deep = {"a": deep}
    text = b'{"type":"x","ts":"2026-02-14T19:01:23.456Z","data":' + json.dumps(deep).encode() + b"}"
    entry = decode_entry(b"5-0", {b"event": text}, 1)
    assert is_malformed is entry.is_malformed
    row = row_of(entry)
    if is_malformed:
        assert row.parked is not None
        assert row.parked.raw == text
    else:
        assert [exactly(orjson.dumps(entry.event))] == through(connection, [entry])


@pytest.mark.parametrize(
    ("event", "is_parked"),
    [
        ({"data": {"a": "\0"}}, True),
        ({"data": {"\0": 1}}, True),
        ({"type": "a\0"}, True),
        ({"mood": ["\0"]}, True),
        ({"data": {"a": "\\u0000"}}, False),
        ({"data": {"a": "\\\\u0000 \\"}}, False),
        ({"data": {"a": "\\\0"}}, True),
    ],
)
def test_the_character_that_postgresql_does_not_store_is_found_and_no_other(
    event: dict[str, Any], is_parked: bool
) -> None:
    payload = orjson.dumps({"type": "x", "ts": "2026-02-14T19:01:23.456Z", "data": {}, **event})
    row = row_of(decode_entry(b"5-0", {b"event": payload, b"by": b"mind:1"}, 1))
    assert is_parked == (row.parked is not None)
    assert row.parked is None or (payload, "mind:1") == (row.parked.raw, row.parked.by)
    assert ("broadcast.malformed" if is_parked else "x") == row.type


def test_an_id_beyond_the_calendar_has_no_line_and_an_identity_with_nul_is_left_out() -> None:
    payload = orjson.dumps({"type": "x", "ts": "2026-02-14T19:01:23.456Z", "data": {}})
    beyond = row_of(decode_entry(f"{ID_MS_MAX + 1}-0".encode(), {b"event": payload}, 1))
    assert beyond.line is None and beyond.parked is not None
    nul = row_of(decode_entry(b"5-0", {b"event": payload, b"by": b"mi\0nd:1"}, 1))
    assert nul.parked is not None and nul.parked.by is None and nul.identity is None
