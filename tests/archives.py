"""An archive filled by hand, for tests of what reads it: the rows that an archiver would have written."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from broadcast.log.migrate import migrate
from broadcast.log.partitions import make, week_of
from tests.postgresql import PostgresqlServer

T0 = 1_771_000_000_000


@contextlib.contextmanager
def database(server: PostgresqlServer) -> Iterator[str]:
    """The address of a database of its own, dropped afterwards."""
    name = f"archive_{uuid.uuid4().hex[:12]}"
    with server.connect(autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield server.url.rpartition("/")[0] + f"/{name}"
    finally:
        with server.connect(autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fill(
    url: str,
    events: Iterable[dict[str, Any]],
    *,
    stream: str = "v5:stream",
    epoch: str = "e1",
    parent: str | None = None,
    forked_at: tuple[int, int] | None = None,
) -> None:
    """Migrate, and put in delivered events of one epoch, in order; the checkpoint is at the last one."""
    asyncio.run(_fill(url, list(events), stream, epoch, parent, forked_at))


async def _fill(
    url: str,
    events: list[dict[str, Any]],
    stream: str,
    epoch: str,
    parent: str | None,
    forked_at: tuple[int, int] | None,
) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrate(connection)
        if not events:
            return
        ids = [tuple(map(int, event["id"].split("-"))) for event in events]
        await make(connection, (week_of(ms) for ms, _ in ids))
        row = await connection.execute(
            "INSERT INTO epochs (name, parent, forked_ms, forked_seq, first_ms, first_seq) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO UPDATE SET parent = excluded.parent RETURNING epoch",
            (epoch, parent, *(forked_at or (None, None)), *ids[0]),
        )
        found = await row.fetchone()
        assert found is not None
        number = found[0]
        async with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY events (epoch, id_ms, id_seq, by, type, ts, cycle, day, data, extra, n) FROM STDIN"
            ) as copy,
        ):
            for event, (ms, seq) in zip(events, ids, strict=True):
                await copy.write_row(_row(number, ms, seq, event))
        await _count(connection, events)
        await connection.execute(
            "INSERT INTO checkpoint (stream, epoch, id_ms, id_seq, n, holder) VALUES (%s, %s, %s, %s, %s, 'by hand') "
            "ON CONFLICT (stream) DO UPDATE SET epoch = excluded.epoch, id_ms = excluded.id_ms, "
            "id_seq = excluded.id_seq, n = excluded.n",
            (stream, number, *ids[-1], events[-1].get("n")),
        )
        await connection.execute("ANALYZE events")


def _row(epoch: int, ms: int, seq: int, event: dict[str, Any]) -> tuple[Any, ...]:
    plain = {"type", "ts", "cycle", "day", "data", "id", "by", "n"}
    extra = {name: value for name, value in event.items() if name not in plain}
    numbers: list[int | None] = []
    for name in ("cycle", "day"):
        value = event[name]
        fits = type(value) is int and -(2**63) <= value < 2**63
        numbers.append(value if fits else None)
        if not fits and value is not None:
            extra[name] = value
    head = (epoch, ms, seq, event.get("by"), event["type"], event["ts"], *numbers)
    return (*head, Jsonb(event["data"]), Jsonb(extra) if extra else None, event.get("n"))


async def _count(connection: psycopg.AsyncConnection[Any], events: list[dict[str, Any]]) -> None:
    from datetime import datetime

    counted: Counter[tuple[int, int, str]] = Counter()
    producers: dict[str, tuple[int, int]] = {}
    for event in events:
        ts_ms = int(datetime.fromisoformat(event["ts"]).timestamp() * 1000)
        for span_ms in (60_000, 3_600_000):
            counted[span_ms, ts_ms - ts_ms % span_ms, event["type"]] += 1
        name, _, seq = event.get("by", "").rpartition(":")
        if name:
            producers[name] = (int(seq), int(event["id"].partition("-")[0]))
    types = Counter(event["type"] for event in events)
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO types VALUES (%s, %s) ON CONFLICT (type) "
            "DO UPDATE SET events = types.events + excluded.events",
            list(types.items()),
        )
        await cursor.executemany(
            "INSERT INTO counts VALUES (%s, %s, %s, %s) ON CONFLICT (span_ms, begin_ms, type) "
            "DO UPDATE SET events = counts.events + excluded.events",
            [(*key, number) for key, number in counted.items()],
        )
        await cursor.executemany(
            "INSERT INTO producers VALUES (%s, %s, %s) ON CONFLICT (name) "
            "DO UPDATE SET last_seq = excluded.last_seq, last_ms = excluded.last_ms",
            [(name, *last) for name, last in producers.items()],
        )


def life(count: int, *, first: int = 1, name: str = "p") -> list[dict[str, Any]]:
    """Some events in delivered form; what is hard to carry is among them."""
    hard: dict[str, Any] = {
        "text": 'back\\slash "quote" \n\t\u2028 \x7f ünï 𝄞 \\n \\\\u0041',
        "deep": [1, 2.5, None, {"a": {}}],
    }
    return [
        {
            "type": ["note", "error", "cycle.start"][n % 3],
            "ts": f"2026-02-13T16:{n // 60 % 60:02d}:{n % 60:02d}.{n % 1000:03d}Z",
            "cycle": n // 10 if n % 7 else f"c{n}",
            "day": 1,
            "data": hard | {"n": n},
            **({"mood": "calm"} if n % 5 == 0 else {}),
            "id": f"{T0 + n * 1000}-{n % 3}",
            "by": f"{name}:{n}",
            "n": n,
        }
        for n in range(first, first + count)
    ]


def query(url: str, text: str) -> list[Any]:
    """The rows of a question to it."""
    with psycopg.connect(url) as connection:
        return connection.execute(text.encode()).fetchall()
