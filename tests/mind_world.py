"""A world for the example mind: made-up bodies, and the mind as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

FOLDER = Path(__file__).parents[1] / "examples" / "mind"
sys.path.insert(0, str(FOLDER))  # as `python examples/mind` does

import memory  # noqa: E402 - only now it can be found
import senses  # noqa: E402

Event = dict[str, Any]
CALM = {"breath": 0.1, "weight": 0.3, "ground": 0.2, "wind": 0.1, "daylight": 0.4, "pulse": 0.1}


class MadeUpBody:
    """A body whose levels a test sets; a level of None is a sense that does not answer."""

    def __init__(self, **levels: float | None) -> None:
        self.levels: dict[str, float | None] = {**CALM, **levels}
        self.latency_ms = 0.0
        self.senses: dict[str, senses.Sense] = {name: self._sense(name) for name in self.levels}

    def _sense(self, name: str) -> senses.Sense:
        def look(close: bool) -> senses.Reading:
            level = self.levels[name]
            if level is None:
                raise OSError("no answer")
            return senses.feel(name, level, "seen closely" if close else "seen")

        return look


def lived(number: int, body: MadeUpBody, *, action: str = "stay", gain: float = 0.0) -> memory.Context:
    """A context of the past, in which the body felt as it does now."""
    readings = [look(False) for look in body.senses.values()]
    return memory.Context(
        id=number,
        desc=f"{number}: lived in a test",
        nodes=[f"{reading.sense}.{reading.word}" for reading in readings],
        levels={reading.sense: reading.level for reading in readings},
        emotion="calm",
        action=action,
        gain=gain,
        edges=[],
        result="",
        rule="",
    )


def events_in(client: redis.Redis) -> list[Event]:
    entries: Any = client.xrange("v5:stream")
    return [json.loads(fields[b"event"]) for _, fields in entries]


def of_type(events: list[Event], event_type: str) -> list[Event]:
    """The data of the events of one type."""
    return [event["data"] for event in events if event["type"] == event_type]


def wait_for_events(client: redis.Redis, enough: Callable[[list[Event]], object], timeout_s: float) -> list[Event]:
    """The log, as soon as there is `enough` in it or the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not enough(events := events_in(client)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return events


@contextlib.contextmanager
def mind_process(redis_url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`python examples/mind` in a folder where nothing else is; killed at the end, if it still lives."""
    command = [sys.executable, "-W", "error", str(FOLDER), *options]
    environment = {**os.environ, "REDIS_URL": redis_url}
    with subprocess.Popen(
        command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
