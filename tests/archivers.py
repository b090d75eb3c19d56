"""An archiver at work in the test's own event loop, and what is in its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import psycopg
import redis

from broadcast.consumers.archiver import Archiver
from broadcast.log.archive import DELIVERED
from broadcast.log.cancelling import end_tasks
from broadcast.settings import Settings
from tests.servers import RedisServer

STREAM: Final = "v5:stream"
PATIENCE_S: Final = 40


def settings_of(server: RedisServer, url: str, **more: Any) -> Settings:
    return Settings(redis_url=server.url, database_url=url, **more)


class Work:
    """An archiver that runs, and what it said."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.notes: list[str] = []
        self.archiver = Archiver(settings, on_note=self.notes.append, **options)

    def said(self, what: str) -> bool:
        return any(what in note for note in self.notes)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.02)

    async def until_stored(self, events: int) -> None:
        await self.until(lambda: self.archiver.progress.events >= events)


@asynccontextmanager
async def archiving(server: RedisServer, url: str, **options: Any) -> AsyncIterator[Work]:
    more = {name: options.pop(name) for name in ("keep_s", "is_once") if name in options}
    work = Work(settings_of(server, url, **options), **more)
    task = asyncio.create_task(work.archiver.run())
    try:
        yield work
    finally:
        await end_tasks(task)
    assert task.cancelled() or task.exception() is None, (task.exception(), work.notes)


async def archive_once(server: RedisServer, url: str, **options: Any) -> Work:
    """Archive what is there."""
    work = Work(settings_of(server, url, **options), is_once=True)
    async with asyncio.timeout(PATIENCE_S):
        await work.archiver.run()
    return work


def ask(url: str, query: Any, values: Any = None) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def stored(url: str) -> list[dict[str, Any]]:
    """Every event of the archive in its order, in delivered form."""
    rows = ask(url, f"SELECT {DELIVERED} FROM events ORDER BY epoch, id_ms, id_seq")
    return [orjson.loads(row[0]) for row in rows]


def add(client: redis.Redis, first: int, count: int, *, producer: str = "mind", **options: Any) -> None:
    """Append numbered events as an emitter does, by hand."""
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + count):
        event = f'{{"type":"x.{i % 3}","ts":"2026-02-14T19:01:23.456Z","cycle":1,"day":1,"data":{{"i":{i}}}}}'
        pipe.xadd(STREAM, {"event": event, "by": f"{producer}:{i + 1}"}, **options)
    pipe.execute()


def append(client: redis.Redis, event: object, by: str | None = None, entry_id: str = "*") -> str:
    """Append one entry, whatever it is."""
    payload = event if isinstance(event, bytes) else orjson.dumps(event)
    fields: dict[Any, Any] = {"event": payload} | ({} if by is None else {"by": by})
    return str(client.xadd(STREAM, fields, id=entry_id).decode())  # type: ignore[union-attr]


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


def is_consistent(url: str) -> bool:
    """Whether what is counted is what is there."""
    types = dict(ask(url, "SELECT type, events FROM types"))
    counted = dict(ask(url, "SELECT type, count(*) FROM events GROUP BY type"))
    spans = [int(events) for (events,) in ask(url, "SELECT sum(events) FROM counts GROUP BY span_ms")]
    return types == counted and spans == [sum(counted.values())] * 2
