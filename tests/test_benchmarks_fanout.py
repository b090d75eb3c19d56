"""The benchmark of the fan-out, kept alive: a few viewers, a moment of time, no figure asserted."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from benchmarks import fanout, filters, parts, servers
from benchmarks.fanout import Load, measure
from benchmarks.floor import floor_cpu_us
from benchmarks.viewers import has_compiler
from scripts.draw_performance import plots

from tests.servers import RedisServer

pytestmark = pytest.mark.skipif(not has_compiler(), reason="its viewers are a C program, and there is no C compiler")


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 0.3, "SCALE": 0.002, "SETTLE_S": 0.1, "DRAIN_S": 0.5}.items():
        monkeypatch.setattr(fanout, name, value)
    monkeypatch.setattr(parts, "COUNT", 20)


@pytest.mark.parametrize("peer", ["broadcast", "Node socket.io", "NATS", "python-socketio"])
def test_each_server_delivers_to_viewers_in_c(peer: str, valkey_server: RedisServer) -> None:
    opened: dict[str, Any] = {
        "broadcast": lambda: servers.bridge(valkey_server.url),
        "Node socket.io": servers.node,
        "NATS": servers.nats,
        "python-socketio": servers.stock_socketio,
    }
    serving: AbstractContextManager[Any] = opened[peer]()
    run = measure(lambda: serving, Load(4, 50), seconds=0.5)
    assert peer == run.server
    assert 1 == run.delivered
    assert 0 < run.percentiles_ms[50] <= run.p99_ms
    assert run.resident_bytes > 0


def test_viewers_come_back_all_at_once_and_are_caught_up(valkey_server: RedisServer) -> None:
    rows = fanout._storm(valkey_server.url)
    assert len(rows) == 3


def test_one_stalls_and_filters_differ(valkey_server: RedisServer) -> None:
    def ours() -> AbstractContextManager[Any]:
        return servers.bridge(valkey_server.url)

    assert fanout._with_stalled(ours, Load(2, 50), 1)[0] > 0
    assert measure(ours, Load(4, 50), seconds=0.3, auth={"types": ["*", "-never.%d"]}, distinct=2).delivered == 1


def test_grants_and_filters_differ(valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "DISTINCT", 3)
    table = filters.run(valkey_server.url)
    assert table is not None and table.data is not None
    assert 3 == len({each["token"] for each in filters.handshakes(3, 3)})
    assert [1, 1, 1] == [run["delivered"] for run in table.data["runs"]]


def test_the_floor_is_measured() -> None:
    assert floor_cpu_us(4, 100, seconds=0.3, per_write=2) > 0


def test_the_parts_of_a_viewer_are_told(valkey_server: RedisServer) -> None:
    table = parts.run(valkey_server.url)
    assert table is not None
    assert "all of it" == table.figures[-1].name


def test_the_plots_are_drawn_from_what_was_found() -> None:
    percentiles = {"50": 1.0, "75": 2.0, "90": 3.0, "95": 4.0, "99": 9.5, "99.9": 20.0}
    load = {"clients": 200, "rate": 50.0}
    runs = [
        {"server": name, "load": load, "cpu_us": 12.5, "percentiles_ms": percentiles} for name in ("broadcast", "NATS")
    ]
    made = plots({"runs": runs, "memory": {"broadcast": {"500": 2e6, "2000": 8e6}}})
    assert {"cpu.svg", "memory.svg", "delay-1.svg"} == set(made)
    assert all(svg.startswith("<svg") and svg.endswith("</svg>\n") for svg in made.values())


def test_the_page_is_made_from_the_last_run() -> None:
    from scripts import draw_performance

    assert 0 == draw_performance.main(["--check"])
    report = json.loads(Path(draw_performance.REPORT).read_text("utf-8"))
    assert "path" not in report
