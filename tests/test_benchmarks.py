"""The benchmarks run and print what they found; what they found is not judged here, it depends on the machine."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks import __main__ as command
from benchmarks import append, archive, archive_reads, bridges, caller, emit, exits, imports, latency, memory, places
from benchmarks.figures import Figure, Table, median, shown_s

from tests.postgresql import MISSING, PostgresqlServer, postgresql_programs
from tests.servers import RedisServer

ROOT = Path(__file__).parent.parent

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses rather than drops")

TINY: dict[ModuleType, dict[str, float]] = {
    caller: {"WARM_UP_CALLS": 1},
    emit: {"ROUNDS": 1, "BURST_CALLS": 200, "PACED_CALLS": 20},
    latency: {"ROUNDS": 1, "BURST_CALLS": 200, "PACED_CALLS": 20},
    memory: {"SMALL_EVENTS": 20_000, "LARGE_EVENTS": 5_000},
    exits: {"ROUNDS": 1, "EXIT_TIMEOUT_S": 0.1},
    imports: {"PAIRS": 1},
    append: {"EVENTS": 800, "ROUNDS": 1},
    archive: {"EVENTS": 1500, "ROUNDS": 1, "INSERTS": 50, "COPIED": 1000, "BATCH": 500, "PACE": 200, "PACED_S": 1},
    archive_reads: {"ROWS": 20_000, "EXPORTED": 10_000, "PAGES": 1},
    bridges: {"SECONDS": 0.5, "VIEWERS": 2},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, counts in TINY.items():
        for name, count in counts.items():
            assert hasattr(module, name)
            monkeypatch.setattr(module, name, count)


def rows_of(table: Table | None) -> dict[str, Figure]:
    assert table is not None
    assert "unknown" not in table.versions
    text = table.text()
    assert [] == [each.name for each in table.figures if each.name not in text]
    return {each.name: each for each in table.figures}


def test_emit_compares_itself_with_the_floor_and_with_peers(valkey_server: RedisServer) -> None:
    rows = rows_of(emit.run(valkey_server.url))

    peers = {name.partition(";")[0] for name in rows}
    assert set(emit.NAMES.values()) - {emit.NAMES["Listing"]} <= peers
    assert all("× floor" in row.measured for row in rows.values())
    assert {"≤ 5 × floor", "≥ 8 × emit()", ""} == {row.target for row in rows.values()}


@linux_only
def test_latency_compares_states_of_redis_with_the_idle_case(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each peer once; the black holes are emitted to when the exits are tested.
    monkeypatch.setattr(latency, "STATES", tuple({each.peer: each for each in reversed(latency.STATES)}.values())[::-1])
    rows = rows_of(latency.run(valkey_server.url))

    assert 6 * 2 == len(rows)
    assert all("× idle" in row.measured and "p50" in row.measured for row in rows.values())
    assert 2 * 4 == sum(row.target == "≤ 3 × idle" for row in rows.values())


def test_memory_stays_in_its_bound_and_every_drop_is_counted(valkey_server: RedisServer) -> None:
    rows = rows_of(memory.run(valkey_server.url))

    assert ["exactly 10,001"] == [
        row.target for name, row in rows.items() if name.startswith("20,000 typical events: c")
    ]
    assert all(row.reached for name, row in rows.items() if "counted" in name)


@linux_only
def test_exits_keep_codes_and_say_nothing(valkey_server: RedisServer) -> None:
    rows = rows_of(exits.run(valkey_server.url))

    assert set(exits.NAMES.values()) == set(rows)
    assert all("codes kept, stderr empty" in row.measured for row in rows.values())


def test_imports_load_nothing_heavy() -> None:
    rows = rows_of(imports.run(""))

    assert {"≤ 15.0 ms", "none"} == {row.target for row in rows.values()}
    assert rows["loaded of redis, asyncio"].reached


def test_append_compares_itself_with_pipelines_in_processes_of_their_own(valkey_server: RedisServer) -> None:
    rows = rows_of(append.run(valkey_server.url))

    assert set(append.PEERS) == set(rows)
    assert 1 == sum(row.reached is not None for row in rows.values())
    assert all(rate > 0 for row in rows.values() for rate in row.rounds)


def test_archiving_is_compared_with_inserts_and_with_copy(
    valkey_server: RedisServer, postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "running_postgresql", lambda **_: contextlib.nullcontext(postgresql_server))
    rows = rows_of(archive.run(valkey_server.url))

    assert 3 == sum(row.reached is not None for row in rows.values())
    assert all(rate > 0 for row in rows.values() for rate in row.rounds)
    with valkey_server.client() as client:
        assert [] == client.keys("*bench:archive*")


def test_the_archive_is_read_beside_a_cursor_and_a_copy(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if postgresql_programs() is None:
        pytest.skip(MISSING)
    monkeypatch.setattr(archive_reads, "has_compiler", lambda: False)  # the viewers are tested with the fan-out
    rows = rows_of(archive_reads.run(valkey_server.url))

    assert len(archive_reads.QUESTIONS) == sum(name.startswith("first page") for name in rows)
    assert all(rate > 0 for name, row in rows.items() if row.unit == "1/s" for rate in row.rounds)
    assert "× COPY" in rows["/history as lines, 10,000 events"].measured


def test_bridges_are_counted_beyond_what_there_is_without_them(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "BRIDGES", (0, 1, 2))
    rows = rows_of(bridges.bridges_cost(valkey_server.url))

    assert ["no bridge", "1 bridge", "2 bridges"] == list(dict.fromkeys(name.partition(":")[0] for name in rows))
    assert 1 + 2 * 3 == len(rows)
    commands = [row.rounds[0] for name, row in rows.items() if "commands" in name]
    assert 0 < commands[0] < commands[1]


def test_the_command_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_start_s", lambda _: 0.1)

    monkeypatch.setattr(append, "_measured", lambda *_, **__: 1000.0)

    assert 0 == command.main(["imports", "append", "--json", str(tmp_path / "found.json")])

    out = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert "import broadcast, beyond import orjson" in out
    assert "append: " in out
    assert {"processor", "python", "server", "packages", "date", "load_before"} <= set(found["machine"])
    assert 2 == len(found["parts"]["imports"]["figures"])


def test_the_command_knows_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == command.main(["emit", "speed"])
    assert f"unknown part speed; there are: {', '.join(command.PARTS)}" in capsys.readouterr().err


@linux_only
def test_where_packets_are_dropped_nobody_connects() -> None:
    with places.dropping() as url, socket.socket() as knock:
        knock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            knock.connect(("127.0.0.1", int(url.rpartition(":")[2])))


def test_a_table_says_what_was_reached_missed_or_too_noisy_to_tell() -> None:
    named = {"a": ("≤ 1", True), "b": ("≤ 1", False), "c": ("≤ 1", None), "d": ("", None)}
    figures = [Figure(name=name, measured="2", target=to, reached=is_so) for name, (to, is_so) in named.items()]

    lines = Table(title="t", versions="v", figures=figures).text().splitlines()
    assert ["reached", "missed", "too noisy", "2"] == [re.split("  +", line)[-1] for line in lines[3:]]


def test_numbers_are_shown_with_three_digits() -> None:
    shown = [shown_s(value) for value in (0.00000012345, 0.0000512, 0.0123, 2.5, 0.0)]
    assert ["0.12 µs", "51.2 µs", "12.3 ms", "2.50 s", "0.00 µs"] == shown
    assert 2 == median([3, 1, 2])


def test_the_page_of_figures_is_made_from_the_last_run() -> None:
    checked = subprocess.run([sys.executable, "scripts/fill_in_benchmarks.py", "--check"], cwd=ROOT, check=False)

    assert 0 == checked.returncode
