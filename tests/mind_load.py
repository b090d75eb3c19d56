"""Real load on this machine, and what the mind says before and under it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import redis

from tests.mind_world import Event, mind_process, of_type, wait_for_events

IDLE_PERCENT: Final = 60


def is_used_to_it(events: list[Event]) -> bool:
    """Whether the mind has lived long enough to find what it senses familiar and calm."""
    novelties = [data["novelty_score"] for data in of_type(events, "observe")]
    moods = [data["new"] for data in of_type(events, "state.mood")]
    return len(novelties) > 12 and max(novelties[-4:]) < 0.2 and moods[-1] in ("calm", "restless")


def is_strained(events: list[Event]) -> bool:
    return "strained" in [data["new"] for data in of_type(events, "state.mood")]


def breaths_of(events: list[Event]) -> list[str]:
    return [data["projection"] for data in of_type(events, "sense.project") if data["sense"] == "breath"]


def was_idle(events: list[Event]) -> bool:
    """Whether the machine had little else to do, so that load of ours is a change."""
    found = [re.search(r"(\d+) % busy", breath) for breath in breaths_of(events)]
    return max((int(match[1]) for match in found if match), default=0) < IDLE_PERCENT


def before_and_under_load(
    redis_url: str, client: redis.Redis, folder: Path, *, patience_s: float
) -> tuple[list[Event], list[Event]]:
    """What a fresh mind emits until it is used to this machine, and then while every core of it computes.

    Both empty if the machine had something else to do all the time. Other load may spoil an attempt, and ends some
    time; it is waited for without making any.
    """
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        if psutil.cpu_percent(interval=0.2) >= IDLE_PERCENT:
            continue
        before, after = _attempt(redis_url, client, folder / f"mind-{time.monotonic_ns()}.jsonl")
        if after:
            return before, after
    return [], []


def _attempt(redis_url: str, client: redis.Redis, path: Path) -> tuple[list[Event], list[Event]]:
    client.flushall()
    with mind_process(redis_url, "--interval", "0.15", "--memory", str(path)) as process:
        before = wait_for_events(client, lambda events: is_used_to_it(events) or not was_idle(events), 6)
        if not (was_idle(before) and is_used_to_it(before)):
            return before, []
        with busy_machine(12):
            everything = wait_for_events(client, lambda events: is_strained(events[len(before) :]), 12)
        process.terminate()
        assert process.wait(10) == 0
    return before, everything[len(before) :]


@contextlib.contextmanager
def busy_machine(duration_s: float) -> Iterator[None]:
    """Every core computes; each process ends by itself after a while, whatever becomes of the test."""
    code = f"import time\nend = time.monotonic() + {duration_s}\nwhile time.monotonic() < end: pass"
    burning = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()
