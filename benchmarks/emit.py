"""What one `emit()` costs its caller, beside peers: the floor, logging's queue, and the specification's own listing."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.machine import describe, median
from broadcast import Broadcaster
from broadcast.settings import Settings

CALLS = 5_000
ROUNDS = 5
DATA = {"sense": "pain", "projection": "Pain: identity_crisis: Egor asked what I'm for."}
SPEC = Path(__file__).parents[2] / "shared" / "spec" / "000_1ee672acb3dbbb94.txt"


def calls_ns(call: Callable[[], Any], count: int) -> list[float]:
    clock = time.perf_counter_ns
    spent: list[float] = []
    for i in range(count):
        began = clock()
        call()
        spent.append(clock() - began)
        if i % 500 == 0:
            time.sleep(0.005)  # a mind does other things, too; the sender gets its turn
    return spent


def bare() -> Callable[[], Any]:
    kept: deque[bytes] = deque(maxlen=10_000)
    event = {"type": "sense.project", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551, "data": DATA}
    return lambda: kept.append(orjson.dumps(event))


def queue_handler() -> Callable[[], Any]:
    logger = logging.Logger("bench")
    logger.addHandler(logging.handlers.QueueHandler(queue.SimpleQueue()))  # type: ignore[arg-type]
    return lambda: logger.info("sense.project %s", DATA)


def listing(redis_url: str) -> Callable[[], Any] | None:
    """The specification's own `Broadcaster`, where its text lies beside the checkout."""
    if not SPEC.is_file():
        return None
    block = re.search(r"```python\n(# v5/broadcast\.py.*?)```", SPEC.read_text("utf-8"), re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    theirs = names["Broadcaster"](redis_url)
    return lambda: theirs.emit("sense.project", DATA)


def run(redis_url: str) -> None:
    ours = Broadcaster(settings=Settings(redis_url=redis_url))
    away = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1", exit_timeout_s=0))
    peers: dict[str, tuple[Callable[[], Any] | None, int]] = {
        "orjson.dumps + deque.append (the floor)": (bare(), CALLS),
        "emit(), Redis up": (lambda: ours.emit("sense.project", DATA), CALLS),
        "emit(), Redis refused": (lambda: away.emit("sense.project", DATA), CALLS),
        "logging, QueueHandler": (queue_handler(), CALLS),
        "the specification's listing": (listing(redis_url), CALLS // 10),
    }
    spent: dict[str, list[list[float]]] = {name: [] for name in peers}
    for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
        for name, (call, count) in peers.items():
            if call is not None:
                spent[name].append(sorted(calls_ns(call, count)))
    ours.flush(10)
    floor = median([each[len(each) // 2] for each in spent["orjson.dumps + deque.append (the floor)"]])
    print(f"emit: cost on the caller's thread. {describe('orjson', 'redis')}")
    for name, rounds in spent.items():
        if rounds:
            p50 = median([each[len(each) // 2] for each in rounds])
            p999 = median([each[int(len(each) * 0.999)] for each in rounds])
            print(f"  {name:<42} p50 {p50 / 1000:8.2f} µs = {p50 / floor:6.1f} × floor   p99.9 {p999 / 1000:9.1f} µs")
    ours.close(5)
    away.close(0)
