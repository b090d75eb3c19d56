"""Recorded files into the archive: under their logs, each event once, and what was lost is there again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from broadcast.consumers.recorder import Recorder
from tests.archives import T0, database, fill, life, query
from tests.postgresql import PostgresqlServer
from tests.programs import Command


@pytest.fixture
def target(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def test_a_recorded_file_comes_in_under_its_own_log(command: Command, target: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    recorder = Recorder(file)
    gap = {"type": "broadcast.gap", "ts": "2026-02-13T16:00:00.000Z", "cycle": 0, "day": 0, "data": {}}
    no_text = life(1, first=11)[0] | {"data": {"text": "a\0b"}}  # which PostgreSQL does not store
    for event in [*life(10), gap, no_text]:
        recorder.write(event)
    recorder.close()
    (tmp_path / ".events.jsonl.epoch").write_text("e7\n")
    code, _, err = command("import", str(file), "--database-url", target)
    notes = "0 were there, 1 cannot be stored and were parked, 1 lines without an id left out"
    assert (0, f"imported  11 events; {notes}\n") == (code, err)
    assert [("e7",)] == query(target, "SELECT name FROM epochs")
    assert [("broadcast.malformed",)] == query(target, "SELECT type FROM events WHERE n = 11")
    assert [(True,)] == query(target, r"SELECT convert_from(raw, 'UTF8') LIKE '%u0000b%' FROM parked")


@pytest.mark.parametrize("has_names", [True, False])
def test_a_recorded_file_of_several_logs_doubles_nothing(
    command: Command, target: str, tmp_path: Path, has_names: bool
) -> None:
    """What was recorded before a FLUSHALL is of another log than what stands beside the file, also in older files."""
    fill(target, life(10), epoch="e1")
    fill(target, life(10, first=91, name="q"), epoch="e2")
    reset = {"type": "broadcast.gap", "ts": "2026-02-13T16:00:00.000Z", "cycle": 0, "day": 0}
    file = tmp_path / "events.jsonl"
    recorder = Recorder(file)
    for event in life(12):
        recorder.write(event, log="e1" if has_names else None)
    recorder.write(reset | {"data": {"reason": "reset"}}, log="e2" if has_names else None)
    for event in life(11, first=90, name="q"):
        recorder.write(event, log="e2" if has_names else None)
    recorder.close()
    (tmp_path / ".events.jsonl.epoch").write_text("e2\n")
    code, _, err = command("import", str(file), "--database-url", target)
    assert (0, "imported  3 events; 20 were there, 1 lines without an id left out\n") == (code, err)
    assert [("e1", 12), ("e2", 11)] == query(
        target, "SELECT name, count(*) FROM events JOIN epochs USING (epoch) GROUP BY epochs.epoch, name ORDER BY 1"
    )


def test_a_recorded_file_lets_its_log_begin_earlier(command: Command, target: str, tmp_path: Path) -> None:
    fill(target, life(10), epoch="e1")
    fill(target, life(10, first=91, name="q"), epoch="e2")
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in life(60, first=41, name="q")))
    (tmp_path / ".events.jsonl.epoch").write_text("e2\n")
    assert (0, "imported  50 events; 10 were there\n") == command("import", str(file), "--database-url", target)[::2]
    assert [(T0 + 1000, 1), (T0 + 41_000, 2)] == query(target, "SELECT first_ms, first_seq FROM epochs ORDER BY epoch")


def test_what_was_appended_again_is_imported_once(command: Command, target: str, tmp_path: Path) -> None:
    """Redis had lost them after they were archived, and a recorder has met only the second ones."""
    fill(target, [*life(10), *(event | {"type": "broadcast.blank"} for event in life(1, first=11))], epoch="e1")
    fill(target, life(1, first=60, name="q"), epoch="e1")
    again = [event | {"id": f"{T0 + 20_000 + event['n'] * 1000}-0", "n": None} for event in life(9, first=5)]
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in [*life(5), *again]))
    assert (0, "imported  2 events; 12 were there\n") == command("import", str(file), "--database-url", target)[::2]
    ids = query(target, "SELECT by, id_ms FROM events WHERE by LIKE 'p:%' ORDER BY id_ms")
    assert ids == [(f"p:{n}", T0 + n * 1000 + (20_000 if n > 11 else 0)) for n in range(1, 14)]


@pytest.mark.parametrize(
    ("ns", "without_n", "left"),
    [
        ([*range(11, 31)], [], []),
        ([*range(11, 31)], [11, 20], []),
        ([*range(11, 15), *range(18, 29)], [], [(14, 18, 3), (28, 31, 2)]),
        ([*range(11, 15)], [12], [(10, 31, 20)]),  # nobody knows which of them are missing
        ([1, 40], [], [(10, 31, 20)]),
    ],
)
def test_what_has_come_in_is_told_as_lost_no_more(
    command: Command,
    target: str,
    tmp_path: Path,
    ns: list[int],
    without_n: list[int],
    left: list[tuple[int, int, int]],
) -> None:
    events = {event["n"]: event for event in life(40)}
    fill(target, [event for n, event in events.items() if not 10 < n <= 30], epoch="e1")
    with psycopg.connect(target) as connection:
        ends = (T0 + 10_000, 10 % 3, T0 + 31_000, 31 % 3)
        connection.execute(
            "INSERT INTO gaps (epoch, after_ms, after_seq, before_ms, before_seq, lost, reason) "
            "VALUES (1, %s, %s, %s, %s, 20, 'trimmed'), (1, %s, %s, null, null, null, 'reset')",
            (*ends, *ends[:2]),
        )
    file = tmp_path / "events.jsonl"
    recorded = [events[n] | ({"n": None} if n in without_n else {}) for n in ns]
    file.write_text("".join(json.dumps(event) + "\n" for event in recorded))
    for _ in range(2):
        assert 0 == command("import", str(file), "--database-url", target)[0]
        trimmed = "SELECT after_ms, before_ms, lost FROM gaps WHERE reason = 'trimmed' ORDER BY after_ms"
        assert [(T0 + a * 1000, T0 + b * 1000, lost) for a, b, lost in left] == query(target, trimmed)
        assert [(1,)] == query(target, "SELECT count(*) FROM gaps WHERE reason = 'reset'")
