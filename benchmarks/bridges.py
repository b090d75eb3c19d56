"""What 0, 1, 2 and 4 bridges on one Redis cost it, and what each costs itself, at 100 events a second.

The viewers of these bridges are idle: they are connected by WebSocket, and nothing of what passes matches their filter.
So this is the price of a bridge as such, of following the log and taking every event in, whoever reads it. Commands are
what Redis counts (those within scripts, too) beyond what it counts without a bridge; processor time is that of the
process itself, in parts of one core.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks.environment import environment
from benchmarks.figures import Figure, Table, three_digits
from benchmarks.machine import describe
from benchmarks.peers import DATA
from broadcast import Broadcaster
from broadcast.settings import Settings

BRIDGES = (0, 1, 2, 4)
VIEWERS = 10
"""Of each bridge."""
RATE = 100
SECONDS = 10.0
START_TIMEOUT_S = 30.0
CONNECT = b'40{"types":"nothing.ever","catchup":0}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What was measured with so many bridges; per second, processor time in parts of one core."""

    bridges: int
    commands: float
    sent_bytes: float
    redis_cpu: float
    bridge_cpu: float
    """Of one bridge, on average."""


def bridges_cost(redis_url: str) -> Table:
    """Measure."""
    costs = [_measured(redis_url, bridges) for bridges in BRIDGES]
    title = f"bridges: on one Redis, {VIEWERS} idle viewers each, {RATE} events/s, {SECONDS:g} s"
    without, figures = costs[0], [_alone(costs[0])]
    for cost in costs[1:]:
        figures += _figures(cost, without)
    return Table(title=title, versions=describe("v5-broadcast", "redis", "uvicorn", "uvloop"), figures=figures)


def _alone(cost: Cost) -> Figure:
    measured = f"{cost.commands:,.0f} commands/s, {cost.redis_cpu:.2%} of a core"
    return Figure(name="no bridge: Redis and the emitter", measured=measured, rounds=[cost.commands], unit="1/s")


def _figures(cost: Cost, without: Cost) -> list[Figure]:
    name = f"{cost.bridges} bridge{'s' if cost.bridges > 1 else ''}"
    commands, sent = cost.commands - without.commands, cost.sent_bytes - without.sent_bytes
    cpu = cost.redis_cpu - without.redis_cpu
    return [
        Figure(
            name=f"{name}: commands, beyond those without",
            measured=f"{three_digits(commands / RATE)} × the events, {commands:,.0f}/s, {sent / 1000:,.0f} kB/s",
            rounds=[commands],
            unit="1/s",
        ),
        Figure(
            name=f"{name}: Redis, beyond without",
            measured=f"{three_digits(cpu / max(without.redis_cpu, 1e-4))} × without, {cpu:.2%} of a core",
            rounds=[cpu],
            unit="cores",
        ),
        Figure(
            name=f"{name}: each bridge",
            measured=f"{cost.bridge_cpu:.2%} of a core, {cost.bridge_cpu / RATE * 1e6:,.0f} µs an event",
            rounds=[cost.bridge_cpu],
            unit="cores",
        ),
    ]


def _measured(redis_url: str, bridges: int) -> Cost:
    broadcaster = Broadcaster(settings=Settings(redis_url=redis_url))
    with (
        contextlib.ExitStack() as stack,
        tempfile.TemporaryDirectory() as folder,
        redis.Redis.from_url(redis_url, protocol=2) as client,
    ):
        stack.callback(broadcaster.close, 1)
        processes = [psutil.Process(_started(stack, redis_url, Path(folder) / f"{n}.log")) for n in range(bridges)]
        _emit(broadcaster, 1.0)  # until everything has been done once
        before, cpu_before, began = _counted(client), _cpu_s(processes), time.perf_counter()
        _emit(broadcaster, SECONDS)
        took_s = time.perf_counter() - began
        after, cpu_after = _counted(client), _cpu_s(processes)
    commands, sent, redis_cpu = ((now - then) / took_s for then, now in zip(before, after, strict=True))
    bridge_cpu = (cpu_after - cpu_before) / took_s / max(bridges, 1)
    return Cost(bridges=bridges, commands=commands, sent_bytes=sent, redis_cpu=redis_cpu, bridge_cpu=bridge_cpu)


def _emit(broadcaster: Broadcaster, seconds: float) -> None:
    began = time.perf_counter()
    for turn in range(round(seconds * RATE)):
        time.sleep(max(0.0, began + turn / RATE - time.perf_counter()))
        broadcaster.emit("sense.project", DATA)
    assert broadcaster.flush(10)


def _counted(client: redis.Redis) -> tuple[float, float, float]:
    info: dict[str, Any] = client.info()
    cpu_s = info["used_cpu_sys"] + info["used_cpu_user"]
    return info["total_commands_processed"], info["total_net_output_bytes"], cpu_s


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def _started(stack: contextlib.ExitStack, redis_url: str, log: Path) -> int:
    """Start a bridge with its viewers, until the end of the stack."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "broadcast", "serve"],
        env=environment(redis_url, BROADCAST_PORT=str(port)),
        stdin=subprocess.DEVNULL,
        stdout=stack.enter_context(log.open("wb")),
        stderr=subprocess.STDOUT,
    )
    stack.callback(_end, process)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(port):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    for _ in range(VIEWERS):
        stack.enter_context(_watching(port))
    return process.pid


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(START_TIMEOUT_S)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
        return bool(json.load(answer)["ready"])
    return False


@contextlib.contextmanager
def _watching(port: int) -> Iterator[socket.socket]:
    """A viewer that is sent next to nothing, and reads none of it; no ping comes as long as this lasts."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as viewer:
        viewer.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        _read_until(viewer, b'"sid"')
        viewer.sendall(bytes([0x81, 0x80 | len(CONNECT), 0, 0, 0, 0]) + CONNECT)  # masked by nothing
        _read_until(viewer, b'["position"')
        yield viewer


def _read_until(viewer: socket.socket, end: bytes) -> None:
    got = b""
    while end not in got:
        part = viewer.recv(65536)
        assert part, got
        got += part
