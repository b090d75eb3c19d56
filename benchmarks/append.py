"""How many events a second one process appends, each exactly once, beside redis-py pipelines of XADD and PUBLISH.

From the first `emit()` to the last acknowledgement; emitting and sending share one interpreter. The pipelines send
the same JSON in batches as large as ours, without sequence numbers: what was sent twice would be there twice. redis-py
alone is what a mind has that installs `broadcast`; with hiredis it packs and parses in C. Each runs in a process of
its own.

What stands in the way of four times the pipeline: the server, which has one thread. For an event it takes some 6.7 µs
with the script that makes it exactly once, and 5.1 µs without, so 150,000 a second are the most that anybody appends
here; redis-py's pipeline has become so fast (42,000 a second) that four times as many are more than that. Where the two
differ by more than four times is in what they take from the mind: 4.5 µs of its processor for an event, against 21 µs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.environment import environment
from benchmarks.figures import Figure, Table, median, three_digits
from benchmarks.machine import describe
from benchmarks.peers import DATA

EVENTS = 30_000
ROUNDS = 5
PIPELINE_EVENTS = 400
RATIO_MIN = 4.0
RATE_AIM = 100_000
PEERS = {
    "emit(), exactly once, no hiredis": ("ours", False),
    "redis-py pipeline, no hiredis": ("pipeline", False),
    "emit(), exactly once, hiredis": ("ours", True),
    "redis-py pipeline, hiredis": ("pipeline", True),
}


def run(redis_url: str) -> Table:
    rates: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
        for name, (peer, has_hiredis) in PEERS.items():
            rates[name].append(_measured(peer, redis_url, EVENTS, has_hiredis=has_hiredis))
    title = f"append: events a second, {EVENTS:,} events, median of {ROUNDS} rounds"
    figures = [_figure(name, rates) for name in PEERS]
    return Table(title=title, versions=describe("redis", "hiredis"), figures=figures)


def _figure(name: str, rates: dict[str, list[float]]) -> Figure:
    rate = median(rates[name])
    if not name.startswith("emit"):
        return Figure(name=name, measured=f"{rate:,.0f}/s", rounds=rates[name], unit="1/s")
    ratio = rate / median(rates[name.replace("emit(), exactly once", "redis-py pipeline")])
    return Figure(
        name=name,
        measured=f"{three_digits(ratio)} × the pipeline, {rate:,.0f}/s",
        target=f"≥ {RATIO_MIN:g} ×, aim {RATE_AIM:,}/s" if "no hiredis" in name else "",
        reached=ratio >= RATIO_MIN if "no hiredis" in name else None,
        rounds=rates[name],
        unit="1/s",
    )


def _measured(peer: str, redis_url: str, events: int, *, has_hiredis: bool) -> float:
    arguments = [sys.executable, "-m", "benchmarks.append", peer, str(events), str(int(has_hiredis))]
    done = subprocess.run(arguments, env=environment(redis_url), capture_output=True, text=True, check=True)
    return float(done.stdout)


def ours(redis_url: str, events: int) -> float:
    from broadcast import Broadcaster
    from broadcast.settings import Settings

    settings = Settings(redis_url=redis_url, buffer_events_max=events + 1, buffer_bytes_max=2**30)
    broadcaster = Broadcaster(settings=settings)
    broadcaster.emit("warm.up")
    assert broadcaster.flush(10)
    began = time.perf_counter()
    for _ in range(events):
        broadcaster.emit("sense.project", DATA)
    assert broadcaster.flush(60)
    return events / (time.perf_counter() - began)


def pipeline(redis_url: str, events: int) -> float:
    import orjson
    import redis

    client = redis.Redis.from_url(redis_url, protocol=2)
    event = {"type": "sense.project", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551, "data": DATA}
    client.ping()
    began = time.perf_counter()
    for _ in range(events // PIPELINE_EVENTS):
        pipe = client.pipeline(transaction=False)
        for _ in range(PIPELINE_EVENTS):
            payload = orjson.dumps(event)
            pipe.xadd("bench:pipeline", {"event": payload}, maxlen=10_000, approximate=True)
            pipe.publish("bench:channel", payload)
        pipe.execute()
    return events // PIPELINE_EVENTS * PIPELINE_EVENTS / (time.perf_counter() - began)


if __name__ == "__main__":
    if sys.argv[3] == "0":
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # as if it were not installed
    print({"ours": ours, "pipeline": pipeline}[sys.argv[1]](os.environ["REDIS_URL"], int(sys.argv[2])))
