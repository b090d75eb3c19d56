"""How many events a second one process appends exactly once, beside a redis-py pipeline of XADD and PUBLISH."""

from __future__ import annotations

import time

import orjson
import redis

from benchmarks.emit import DATA
from benchmarks.machine import describe, median
from broadcast import Broadcaster
from broadcast.settings import Settings

EVENTS = 30_000
ROUNDS = 3
PIPELINE_EVENTS = 400


def ours(redis_url: str) -> float:
    settings = Settings(redis_url=redis_url, buffer_events_max=EVENTS + 1, buffer_bytes_max=2**30)
    broadcaster = Broadcaster(settings=settings)
    broadcaster.emit("warm.up")
    assert broadcaster.flush(10)
    began = time.perf_counter()
    for _ in range(EVENTS):
        broadcaster.emit("sense.project", DATA)
    assert broadcaster.flush(60)
    spent_s = time.perf_counter() - began
    broadcaster.close(1)
    return EVENTS / spent_s


def pipeline(redis_url: str) -> float:
    client = redis.Redis.from_url(redis_url, protocol=2)
    payload = orjson.dumps({"type": "sense.project", "data": DATA})
    began = time.perf_counter()
    for _ in range(EVENTS // PIPELINE_EVENTS):
        pipe = client.pipeline(transaction=False)
        for _ in range(PIPELINE_EVENTS):
            pipe.xadd("bench:pipeline", {"event": payload}, maxlen=10_000, approximate=True)
            pipe.publish("bench:channel", payload)
        pipe.execute()
    spent_s = time.perf_counter() - began
    client.close()
    return EVENTS / spent_s


def run(redis_url: str) -> None:
    rates: dict[str, list[float]] = {"ours": [], "pipeline": []}
    for _ in range(ROUNDS):
        rates["ours"].append(ours(redis_url))
        rates["pipeline"].append(pipeline(redis_url))
    mine, theirs = median(rates["ours"]), median(rates["pipeline"])
    print(f"append: emit() to acknowledged, one process. {describe('redis', 'hiredis')}")
    print(f"  ours, exactly once          {mine:10,.0f} events/s = {mine / theirs:.1f} × the pipeline")
    print(f"  redis-py pipeline, no dedupe {theirs:9,.0f} events/s")
