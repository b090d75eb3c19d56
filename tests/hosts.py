"""Runs a host: a program of its own process that emits; and tells what the stream holds of it afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tests.programs import environment, in_time
from tests.servers import RedisServer

EXIT_TIMEOUT_S = 0.7
FORK_WARNING = "ignore:This process:DeprecationWarning"
"""From 3.12 on, Python says at every os.fork() that there is a thread; it cannot know that ours takes no harm."""
PATIENT_S = "20"
"""For BROADCAST_EXIT_TIMEOUT_S where every event has to arrive."""


@dataclass
class Done:
    code: int
    out: str
    err: str
    took_s: float


def run(code: str, url: str, *, timeout_s: float = 40, **more: str) -> Done:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", FORK_WARNING, "-c", textwrap.dedent(code)],
        env=environment(url, **{"BROADCAST_EXIT_TIMEOUT_S": str(EXIT_TIMEOUT_S), **more}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def run_in_time(code: str, url: str, *, max_s: float) -> Done:
    """Run a host that must not take long as a whole, on a busy machine neither."""
    return in_time(lambda: run(code, url), lambda done: done.took_s, max_s=max_s)


def run_patiently(code: str, url: str, *, timeout_s: float = 60, **more: str) -> Done:
    return run(code, url, timeout_s=timeout_s, BROADCAST_EXIT_TIMEOUT_S=PATIENT_S, **more)


def events_in(server: RedisServer) -> list[Any]:
    with server.client() as client:
        read: Any = client.xrange("v5:stream")
    return [{**json.loads(fields[b"event"]), "by": fields[b"by"].decode()} for _, fields in read]


def types_in(server: RedisServer) -> list[str]:
    return [event["type"] for event in events_in(server)]


def assert_once(server: RedisServer) -> None:
    bys = [event["by"] for event in events_in(server)]
    assert len(bys) == len(set(bys))


def producers_in(server: RedisServer) -> dict[str, list[Any]]:
    """What each producer has in the log; and that its seqs are 1, 2, 3, … in this order, without hole and double."""
    by_producer: dict[str, list[Any]] = defaultdict(list)
    seqs: dict[str, list[int]] = defaultdict(list)
    for event in events_in(server):
        producer, _, seq = event["by"].rpartition(":")
        by_producer[producer].append(event)
        seqs[producer].append(int(seq))
    assert {producer: list(range(1, len(got) + 1)) for producer, got in seqs.items()} == dict(seqs)
    return dict(by_producer)


def types_by_producer(server: RedisServer) -> list[list[str]]:
    """The types of each producer's events, in order; the producers in the order of theirs."""
    return sorted([event["type"] for event in events] for events in producers_in(server).values())
