"""Logs that lie in several tiers, for tests of what reads them: some archived, some in the stream, some in both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlencode

import orjson
import redis

from broadcast.bridge.app import Bridge
from broadcast.event import timestamp
from broadcast.settings import Settings
from tests.archives import fill
from tests.servers import RedisServer

BEGAN_MS = 1_771_000_000_000
LOST_AT = 60
_ENVELOPE = ("type", "ts", "cycle", "day", "data")
TYPES = ("cycle.start", "cycle.end", "sense.project", "sense.raw", "state.mood", "error")


@dataclass
class World:
    """One log, and what stands where."""

    log: list[dict[str, Any]] = field(default_factory=list)
    """Every event once, in order, without `n`."""


def event(ms: int, seq: int, by: str | None, event_type: str, *, ts_ms: int, cycle: int, **data: Any) -> dict[str, Any]:
    plain = {"type": event_type, "ts": timestamp(ts_ms * 1_000_000), "cycle": cycle, "day": 1, "data": data}
    return {**plain, "id": f"{ms}-{seq}", **({"by": by} if by else {})}


def make_world(seed: int, url: str, server: RedisServer) -> World:
    """An archive of two logs, the second one the heir of the first; and a stream that both reaches back behind the
    checkpoint and holds what is not archived, some of it appended again."""
    draw = Random(seed)
    made = list(_events(draw, 160))
    first, second = made[:LOST_AT], made[LOST_AT:]
    # Redis has lost the last 8 of the first log; their producers append them again, among what is new.
    kept, lost = first[:-8], first[-8:]
    fill(url, first, epoch="e1")
    stream = _mixed(draw, kept[-20:], [dict(event) for event in lost if "by" in event], second)
    archived = second[: (0, 3, 60)[seed % 3]]
    fill(url, archived, epoch="e2", parent="e1", forked_at=_id(kept[-1]))
    with server.client() as client:
        for entry in stream[draw.choice((0, 5)) :]:
            append(client, entry)
        hash_fields = {"epoch": "e2", "parent": "e1", "forked_at": kept[-1]["id"]}
        client.hset("{v5:stream}:log", mapping=hash_fields)
    return World(log=made)


def append(client: redis.Redis, entry: dict[str, Any]) -> None:
    """Put a delivered event into the stream, in its place."""
    fields: dict[Any, Any] = {"event": orjson.dumps({name: entry[name] for name in _ENVELOPE})}
    client.xadd("v5:stream", {**fields, **({"by": entry["by"]} if "by" in entry else {})}, id=entry["id"])


def _events(draw: Random, count: int) -> Iterator[dict[str, Any]]:
    ms, seq, cycle = BEGAN_MS, 0, 0
    seqs = {"kai": 0, "ada": 0}
    for at in range(count):
        if at == LOST_AT:  # Redis takes its time to come back
            ms, seq = ms + 5_000, 0
        elif draw.random() < 0.3:
            seq += 100  # there is room for what is appended again
        else:
            ms, seq = ms + draw.choice((1, 40, 2_000, 90_000)), 0
        event_type = draw.choice(TYPES)
        cycle = cycle % 9 + 1 if event_type == "cycle.start" else cycle
        # Stragglers carry the number of the cycle they belong to.
        number = cycle if event_type == "cycle.start" else max(0, cycle - draw.choice((0, 0, 0, 1, 2)))
        late_ms = draw.choice((0, 3, 800, 70_000, 400_000)) if draw.random() < 0.3 else 2
        name = draw.choice((*seqs, None))
        by = None
        if name:
            seqs[name] += 1
            by = f"{name}:{seqs[name]}"
        text = draw.choice(("plain", 'quo"ted', "back\\slash", "\\.", "line\nend\r\t", "\x01\x02 \u2028 ü 🧠"))
        yield event(ms, seq, by, event_type, ts_ms=ms - late_ms, cycle=number, text=text, at=draw.randrange(10**9))


def _mixed(
    draw: Random, kept: list[dict[str, Any]], again: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The stream after the loss: each producer appends what was lost before what is new of it."""
    stream = list(kept)
    waiting = list(again)
    for entry in new:
        name = entry.get("by", "").partition(":")[0]
        while waiting and (draw.random() < 0.5 or any(e["by"].startswith(f"{name}:") for e in waiting if name)):
            ms, seq = max(_id(stream[-1]), (_id(new[0])[0] - 1_000, 0))
            stream.append({**waiting.pop(0), "id": f"{ms}-{seq + 1}"})
        stream.append(entry)
    return stream


def _id(found: dict[str, Any]) -> tuple[int, int]:
    ms, _, seq = found["id"].partition("-")
    return int(ms), int(seq)


@contextlib.asynccontextmanager
async def bridge_over(server: RedisServer, url: str, **settings: Any) -> AsyncIterator[Bridge]:
    """A bridge in this process, which has read the log."""
    bridge = Bridge(Settings(redis_url=server.url, database_url=url, **settings))
    await bridge.start()
    try:
        await asyncio.wait_for(bridge.fanout.loaded.wait(), 10)
        yield bridge
    finally:
        await bridge.stop()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def ask(bridge: Bridge, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
    """One GET request to a bridge in this process."""
    sent: list[Any] = []
    has_read = False

    async def receive() -> dict[str, Any]:
        nonlocal has_read
        if has_read:  # it stays until it has had everything
            await asyncio.Event().wait()
        has_read = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET"},
        **{"scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "client": ("127.0.0.1", 4711)},
        "query_string": urlencode({name: value for name, value in query.items() if value is not None}).encode(),
        "headers": [(b"host", b"localhost"), *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())],
        "server": ("127.0.0.1", 5001),
    }
    await bridge.app(scope, receive, send)
    begin = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(begin["status"], {k.decode().lower(): v.decode() for k, v in begin["headers"]}, body)
