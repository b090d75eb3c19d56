"""Export and import: what an archive holds moves to another one, once, whatever cuts it off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from broadcast.consumers import connection, importer, store
from broadcast.consumers.dump_file import lines_of
from broadcast.consumers.log_numbers import numbered, numbers_for
from broadcast.errors import BroadcastError, SettingError
from broadcast.log.archive import Epoch
from broadcast.log.position import EntryId
from tests.archives import T0, database, fill, life, query
from tests.postgresql import PostgresqlServer
from tests.programs import COMMAND, Command, environment


@pytest.fixture
def source(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        fill(url, life(60), epoch="e1")
        fill(url, life(60, first=41, name="q"), epoch="e2", parent="e1", forked_at=(T0 + 40_000, 1))
        yield url


@pytest.fixture
def target(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


EVERYTHING = (
    "SELECT s.name, id_ms, id_seq, by, type, ts, cycle, day, data::text, extra::text, n FROM events "
    "JOIN epochs s USING (epoch) ORDER BY epoch, id_ms, id_seq",
    "SELECT * FROM types ORDER BY type",
    "SELECT * FROM counts ORDER BY span_ms, begin_ms, type",
    "SELECT * FROM producers ORDER BY name",
    "SELECT name, parent, forked_ms, forked_seq, first_ms, first_seq FROM epochs ORDER BY epoch",
    "SELECT stream, s.name, id_ms, id_seq, n FROM checkpoint JOIN epochs s USING (epoch)",
)


def held(url: str) -> list[list[Any]]:
    with psycopg.connect(url) as connection:
        return [connection.execute(query.encode()).fetchall() for query in EVERYTHING]


@pytest.mark.parametrize("name", ["life.jsonl", "life.jsonl.zst"])
def test_an_archive_moves_with_everything_it_counts(
    command: Command, source: str, target: str, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    assert (0, "", "exported  120 events\n") == command("export", str(file), "--database-url", source)
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [name] == [each.name for each in tmp_path.iterdir()]
    text = file.read_bytes()
    if name.endswith(".zst"):
        text = zstandard.ZstdDecompressor().stream_reader(text).read()
    header, mark, *rest = map(json.loads, text.splitlines())
    assert ["broadcast.export", "broadcast.epoch"] == [header["type"], mark["type"]]
    assert life(60) == rest[:60]
    assert [{"name": "e2"}, {"events": 120}] == [rest[60]["data"], rest[-1]["data"]]

    code, _, err = command("import", str(file), "--database-url", target)
    assert (0, "imported  120 events; 0 were there\n") == (code, err)
    assert held(source) == held(target)
    assert (0, "imported  0 events; 120 were there\n") == command("import", str(file), "--database-url", target)[::2]
    assert held(source) == held(target)


def test_a_pipe_carries_it_and_part_of_it(source: str, target: str) -> None:
    export = [*COMMAND, "export", "-", "--types", "note,error", "--until", "2026-02-13T16:01:10Z", "--zstd"]
    done = subprocess.run(
        f"{' '.join(map(repr, export))} | {' '.join(map(repr, COMMAND))} import - --database-url '{target}'",
        shell=True,
        env=environment(None, DATABASE_URL=source),
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [event for event in [*life(60), *life(60, first=41)] if event["type"] != "cycle.start"]
    wanted = [event for event in wanted if event["ts"] <= "2026-02-13T16:01:10.000Z"]
    assert f"imported  {len(wanted)} events" in done.stderr
    assert sorted(int(n) for (n,) in query(target, "SELECT n FROM events")) == sorted(event["n"] for event in wanted)


def test_what_is_no_event_is_refused_by_its_line_and_what_was_before_it_stays(
    command: Command, source: str, target: str, tmp_path: Path
) -> None:
    file = tmp_path / "life.jsonl"
    command("export", str(file), "--database-url", source)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:40], b'{"type": 5}\n', *lines[40:]]))
    code, _, err = command("import", str(file), "--database-url", target)
    assert 1 == code
    assert f"{file}: line 41: type: expected a text, got a number (38 new events so far)" in err
    assert [(38,)] == query(target, "SELECT count(*) FROM events")

    file.write_bytes(b"".join(lines[:100]))
    code, _, err = command("import", str(file), "--database-url", target)
    assert 1 == code and "was cut off after 97 events" in err
    file.write_bytes(b"".join(lines))
    assert (0, "imported  23 events; 97 were there\n") == command("import", str(file), "--database-url", target)[::2]
    assert held(source) == held(target)


@pytest.mark.parametrize(("name", "cut"), [("life.jsonl.zst", 12), ("life.jsonl.zst", 1), ("life.jsonl", None)])
def test_a_file_that_was_cut_off_or_has_nothing_in_it_is_not_imported_as_if_it_were_whole(
    command: Command, source: str, target: str, tmp_path: Path, name: str, cut: int | None
) -> None:
    file = tmp_path / name
    command("export", str(file), "--database-url", source)
    file.write_bytes(file.read_bytes()[:-cut] if cut else b"")
    code, _, err = command("import", str(file), "--database-url", target)
    assert 1 == code
    assert ("was cut off" if cut else "there is no line in it") in err


def test_an_export_that_fails_leaves_the_last_one_as_it_was(
    command: Command, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "life.jsonl"
    file.write_text("the last one\n")
    monkeypatch.setattr("broadcast.consumers.dump_file.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    assert 1 == command("export", str(file), "--database-url", source)[0]
    assert "the last one\n" == file.read_text()
    assert ["life.jsonl"] == [each.name for each in tmp_path.iterdir()]


def test_an_import_that_is_killed_is_done_by_the_next_one(
    postgresql_server: PostgresqlServer, target: str, tmp_path: Path
) -> None:
    events = life(20_000)
    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    arguments = [*COMMAND, "import", str(file), "--database-url", target]
    killed = subprocess.Popen(arguments, env=environment(None), stderr=subprocess.DEVNULL)
    while not _events_in(target):
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    there = _events_in(target)
    assert 0 < there < len(events)
    done = subprocess.run(arguments, env=environment(None), capture_output=True, text=True, check=True)
    assert f"{len(events) - there} events; {there} were there" in done.stderr.replace(",", "")
    assert [(len(events),)] == query(target, "SELECT sum(events)::int FROM types")
    assert [(len(events),)] == query(target, "SELECT count(DISTINCT by) FROM events")


def _events_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass('checkpoint') IS NOT NULL").fetchone()
        if not (row and row[0]):
            return 0
        row = connection.execute("SELECT count(*) FROM events").fetchone()
        return int(row[0]) if row else 0


def test_what_postgresql_refuses_is_parked_alone_and_the_rest_comes_in(
    command: Command, target: str, tmp_path: Path
) -> None:
    long = "".join(chr(0x4E00 + i * 7919 % 20000) for i in range(3000))  # longer than an index takes
    poisons: dict[int, dict[str, Any]] = {3: {"type": long}, 7: {"n": 2**63}, 9: {"by": long}, 10: {"by": long[:90]}}
    events = [event | poisons.get(event["n"], {}) for event in life(30)]
    events.append(life(1, first=31)[0] | {"id": "18446744073709551614-7"})
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    code, _, err = command("import", str(file), "--database-url", target)
    assert (0, "imported  30 events; 1 were there, 2 cannot be stored and were parked\n") == (code, err)
    assert [("broadcast.malformed", 3)] == query(target, "SELECT type, n FROM events WHERE type LIKE 'broadcast.%'")
    assert [(False,), (True,)] == query(target, "SELECT error LIKE '%index row%' FROM parked ORDER BY id_ms DESC")
    assert [(30,)] == query(target, "SELECT sum(events)::int FROM types")
    assert [(T0 + 7000,)] == query(target, "SELECT id_ms FROM events WHERE n IS NULL")
    assert [(T0 + 9000,), (T0 + 10000,)] == query(target, "SELECT id_ms FROM events WHERE by IS NULL ORDER BY id_ms")
    assert [("p", 31)] == query(target, "SELECT name, last_seq FROM producers")

    code, _, err = command("import", str(file), "--database-url", target)
    assert (0, "imported  0 events; 31 were there\n") == (code, err)


def test_the_past_comes_before_what_an_archiver_has_written_meanwhile(
    command: Command, source: str, target: str, tmp_path: Path
) -> None:
    """As after a move to another PostgreSQL: the archiver goes on at once, the past comes in later."""
    file = tmp_path / "life.jsonl"
    command("export", str(file), "--database-url", source)
    fill(target, life(30, first=91, name="q"), epoch="e2", parent="e1", forked_at=(T0 + 40_000, 1))
    before = held(target)[-1]

    code, _, err = command("import", str(file), "--database-url", target)
    assert (0, "imported  110 events; 10 were there\n") == (code, err)
    assert before == held(target)[-1], "the checkpoint is the archiver's"
    assert ["e1", "e2"] == [row[0] for row in query(target, "SELECT name FROM epochs ORDER BY epoch")]
    ns = [n for (n,) in query(target, "SELECT n FROM events ORDER BY epoch, id_ms, id_seq")]
    assert [*range(1, 61), *range(41, 121)] == ns


def test_a_bare_id_of_what_has_come_in_is_read_in_its_own_log(
    command: Command, postgresql_server: PostgresqlServer, target: str, tmp_path: Path
) -> None:
    """The new database's archiver had only what the stream still held of the log."""
    whole = tmp_path / "whole.jsonl"
    with database(postgresql_server) as url:
        fill(url, life(20), epoch="e1")
        fill(url, life(60, first=41, name="q"), epoch="e2")
        command("export", str(whole), "--database-url", url)
        fill(target, life(10, first=91, name="q"), epoch="e2")
        assert 0 == command("import", str(whole), "--database-url", target)[0]
        assert held(url)[-2:] == held(target)[-2:], "where each log begins"
    code, out, _ = command("export", "-", "--since", f"{T0 + 50_000}-2", "--database-url", target)
    ns = [event.get("n") for event in map(json.loads, out.split("\n")[:-1])]
    assert (0, [None, None, *range(50, 101), None]) == (code, ns)


def test_what_two_logs_have_in_common_stays_with_the_first(
    command: Command, postgresql_server: PostgresqlServer, target: str, tmp_path: Path
) -> None:
    """Or who reads on in the first would be sent on to the second, past the rest of what they have in common."""
    fork = (T0 + 40_000, 1)
    whole = tmp_path / "whole.jsonl"
    with database(postgresql_server) as url:  # whose archiver has met the log only after Redis had lost its tail
        fill(url, [*life(40), *life(20, first=41, name="q")], epoch="e2", parent="e1", forked_at=fork)
        command("export", str(whole), "--database-url", url)
    fill(target, life(45), epoch="e1")
    fill(target, life(10, first=51, name="q"), epoch="e2", parent="e1", forked_at=fork)
    assert 0 == command("import", str(whole), "--database-url", target)[0]
    assert [(T0 + 1000, 1), (T0 + 40_000, 2)] == query(target, "SELECT first_ms, first_seq FROM epochs ORDER BY epoch")


@pytest.mark.parametrize(
    "asked",
    [
        ("--types", "note"),
        # What came late has an id far behind those of its time, so the last id says nothing of what is in such a file.
        ("--until", "2026-02-13T16:01:20Z"),
        ("--since", "2026-02-13T16:00:45Z"),
    ],
)
def test_an_archiver_is_not_led_past_what_an_export_lacks(
    command: Command, source: str, target: str, tmp_path: Path, asked: tuple[str, str]
) -> None:
    fill(target, life(10, first=41, name="q"), epoch="e2")
    behind = held(target)[-1]
    part, whole = tmp_path / "part.jsonl", tmp_path / "whole.jsonl"
    command("export", str(part), "--database-url", source, *asked)
    command("export", str(whole), "--database-url", source)

    code, _, err = command("import", str(part), "--database-url", target)
    assert 0 == code and "left to the archiver, which has not come so far" in err
    assert behind == held(target)[-1]

    assert 0 == command("import", str(whole), "--database-url", target)[0]
    assert held(source)[0] == held(target)[0]
    assert held(source)[-1] == held(target)[-1], "it goes on behind what has come in"


def test_an_archiver_goes_on_behind_a_range_of_the_log(
    command: Command, source: str, target: str, tmp_path: Path
) -> None:
    fill(target, life(10, first=41, name="q"), epoch="e2")
    file = tmp_path / "range.jsonl"
    ends = ("--since", f"{T0 + 45_000}-0", "--until", f"{T0 + 80_000}-2")
    command("export", str(file), "--database-url", source, *ends)
    assert (0, "imported  30 events; 6 were there\n") == command("import", str(file), "--database-url", target)[::2]
    assert [("v5:stream", "e2", T0 + 80_000, 2, 80)] == held(target)[-1]


def test_another_life_comes_in_front_if_it_is_older_and_not_at_all_if_it_is_newer(
    command: Command, source: str, target: str, tmp_path: Path
) -> None:
    file = tmp_path / "life.jsonl"
    command("export", str(file), "--database-url", source)
    fill(target, life(20, first=1000, name="r"), epoch="later")
    assert (0, "imported  120 events; 0 were there\n") == command("import", str(file), "--database-url", target)[::2]
    names = query(target, "SELECT name FROM epochs ORDER BY epoch")
    assert [("e1",), ("e2",), ("later",)] == names

    command("export", str(tmp_path / "all.jsonl"), "--database-url", target, "--since", f"{T0 + 1_000_000}-0")
    code, _, err = command("import", str(tmp_path / "all.jsonl"), "--database-url", source)
    assert 1 == code and "the log 'later' is not what this archive's archiver goes on with" in err


@given(
    st.lists(st.sampled_from("abcdef"), unique=True, min_size=1),
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.booleans(),
)
def test_logs_keep_their_order_or_are_refused(names: list[str], held_names: list[str], is_older: bool) -> None:
    known = {name: number for number, name in enumerate(held_names, 1)}
    both = [name for name in held_names if name in names]
    try:
        shift, numbers = numbers_for(names, known, is_older=is_older and bool(known))
    except BroadcastError:
        assert both
        return
    after = {name: number + shift for name, number in known.items()}
    assert {name: after[name] for name in both} == {name: numbers[name] for name in both}
    assert len({*after.values(), *numbers.values()}) == len({*known, *names})
    assert all(number > 0 for number in [*after.values(), *numbers.values()])
    if not both and known:
        assert is_older == (max(numbers.values()) < min(after.values()))
    if both == [name for name in names if name in known]:  # they agree about what they share
        assert sorted(names, key=numbers.__getitem__) == names


def test_no_archiver_goes_on_behind_a_part_until_the_whole_is_there(
    command: Command, source: str, target: str, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    parts = (("--types", "note"), ("--since", f"{T0 + 50_000}-0"), ("--until", "2026-02-13T16:01:10Z"))
    for arguments in parts:
        command("export", str(part), "--database-url", source, *arguments)
        asyncio.run(_imported(target, part))
        with pytest.raises(SettingError, match="begun with a part of a log"):
            asyncio.run(_claimed(target))
    command("export", str(whole), "--database-url", source)
    assert 120 == asyncio.run(_imported(target, whole)).events
    asyncio.run(_claimed(target))
    asyncio.run(_imported(target, whole))
    assert [(5,)] == query(target, "SELECT imports FROM checkpoint"), "batches with something new, of which ETags know"


def test_a_whole_export_is_whole_also_in_several_batches(
    command: Command, source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH_EVENTS", 7)
    whole = tmp_path / "whole.jsonl"
    command("export", str(whole), "--database-url", source)
    asyncio.run(_imported(target, whole))
    asyncio.run(_claimed(target))


async def _imported(url: str, file: Path) -> importer.Imported:
    with lines_of(file) as lines:
        return await importer.Importer(url, "v5:stream").run(lines)


async def _claimed(url: str) -> None:
    """As an archiver begins."""
    work = store.Store(url, "v5:stream", "me")
    try:
        await work.open()
        await work.claim(at_once=True)
    finally:
        await work.close()


async def test_an_archive_may_take_its_time_to_make_room_in_front(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT_MS", 250)
    await asyncio.to_thread(fill, target, life(3, first=100), epoch="later")
    async with await psycopg.AsyncConnection.connect(target) as other, await connection.connect(target, "test") as ours:
        await other.execute("SELECT 1 FROM events FOR UPDATE")
        older = (Epoch(0, "older", None, None, EntryId(T0, 0)),)
        numbering = asyncio.create_task(numbered(ours, older))
        await asyncio.sleep(0.5)
        await other.rollback()
        assert {"older": 1} == await numbering
    assert [("older",), ("later",)] == await asyncio.to_thread(query, target, "SELECT name FROM epochs ORDER BY epoch")
