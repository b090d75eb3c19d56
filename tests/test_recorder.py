"""The recorder: whole lines, exactly where the file ends, through every way a run can end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broadcast import Broadcaster
from broadcast.consumers.linefile import LineFile
from broadcast.consumers.recorder import Recorder
from broadcast.errors import BroadcastError
from broadcast.log.cancelling import end_tasks
from broadcast.settings import Settings
from tests.programs import PATIENCE_S, started, wait_until
from tests.servers import RedisServer


def events_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def numbers_in(path: Path) -> list[int]:
    return [event["data"]["i"] for event in events_in(path) if event["type"] == "x.y"]


def emit_numbers(server: RedisServer, first: int, last: int) -> None:
    emitter = Broadcaster(settings=Settings(redis_url=server.url))
    for i in range(first, last):
        emitter.emit("x.y", {"i": i})
    assert emitter.close(5)


def event_at(ts: str, number: int = 0) -> dict[str, Any]:
    return {"type": "x.y", "ts": ts, "cycle": 0, "day": 0, "data": {"i": number}, "id": f"{number + 1}-0"}


def test_records_what_is_left_in_the_log_and_then_what_comes(valkey_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    emit_numbers(valkey_server, 0, 10)
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: len(numbers_in(path)) == 10)
        emit_numbers(valkey_server, 10, 20)
        wait_until(lambda: len(numbers_in(path)) == 20)

    assert list(range(20)) == numbers_in(path)
    head, first = events_in(path)[:2]
    assert ("broadcast.epoch", True) == (head["type"], "id" not in head)
    assert {"type", "ts", "cycle", "day", "data", "id", "by", "n"} == set(first)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_goes_on_exactly_where_the_file_ends(valkey_server: RedisServer, tmp_path: Path, how: int) -> None:
    path = tmp_path / "events.jsonl"
    for first in (0, 50, 100):
        with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url) as recorder:
            emit_numbers(valkey_server, first, first + 40)
            wait_until(lambda first=first: len(numbers_in(path)) >= first + 30)  # type: ignore[misc]
            recorder.send_signal(how)
            recorder.wait(40)
        emit_numbers(valkey_server, first + 40, first + 50)
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: len(numbers_in(path)) == 150)

    assert list(range(150)) == numbers_in(path)


def test_a_torn_last_line_is_taken_away_and_its_event_written_again(valkey_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    emit_numbers(valkey_server, 0, 5)
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: len(numbers_in(path)) == 5)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: path.read_bytes() == whole)


def test_a_full_disk_is_waited_for_and_loses_nothing(valkey_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url) as recorder:
        wait_until(path.exists)
        # A limit on the file's size refuses writes as a full disk does, also in the middle of a line.
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        emit_numbers(valkey_server, 0, 50)
        wait_until(lambda: b"waiting" in (tmp_path / "err").read_bytes())

        assert path.read_bytes().endswith(b"\n")
        assert list(range(len(numbers_in(path)))) == numbers_in(path)

        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: len(numbers_in(path)) == 50)

    assert list(range(50)) == numbers_in(path)


def test_a_write_that_fails_in_the_middle_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.jsonl"
    file = LineFile(path)
    file.append(b"one\n")
    real_write, calls = os.write, iter([3, None])

    def write(fd: int, data: Any) -> int:
        limit = next(calls, 10**9)
        if limit is None:
            assert b"one\ntwo" == path.read_bytes()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, bytes(data)[:limit])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        file.append(b"two and three\n")
    assert b"one\n" == path.read_bytes()
    file.append(b"two and three\n")

    assert b"one\ntwo and three\n" == path.read_bytes()
    file.close()


def test_rotates_by_size_and_by_day_and_goes_on_behind_what_was_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    recorder = Recorder(path, rotate_bytes=220)
    for i in range(5):
        recorder.write(event_at("2026-11-22T10:00:00.000Z", i))
    recorder.write(event_at("2026-11-23T00:00:00.000Z", 5))
    recorder.close()

    names = sorted(p.name for p in tmp_path.glob("events*"))
    assert ["events.2026-11-22.2.jsonl", "events.2026-11-22.3.jsonl", "events.2026-11-22.jsonl"] == names[:-1]
    recorded = [i for p in recorder.rotated() for i in numbers_in(p)]
    assert [0, 1, 2, 3, 4] == recorded
    assert [5] == numbers_in(path)
    path.unlink()  # as if the last run had ended right behind a rotation
    again = Recorder(path, rotate_bytes=220)
    assert "5-0" == str(again.position.id)
    again.close()


def test_every_file_names_the_logs_of_its_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    gap: dict[str, Any] = {"type": "broadcast.gap", "ts": "2026-11-22T10:00:00.000Z", "cycle": 0, "day": 0}
    recorder = Recorder(path)
    for i, log in enumerate((None, "e1", "e1", "e2")):
        recorder.write(event_at("2026-11-22T10:00:00.000Z", i), log=log)
    for reason in ("trimmed", "rewound"):
        recorder.write(gap | {"data": {"reason": reason}}, log="e2")
    recorder.write(gap | {"data": {"reason": "reset"}, "id": "5-0"}, log="e2")  # the archiver has announced it
    recorder.write(event_at("2026-11-23T10:00:00.000Z", 5), log="e2")
    recorder.close()

    (aside,) = recorder.rotated()
    assert [0, "e1", 1, 2, "e2", 3, "trimmed", "rewound", "e2", "reset"] == [told(event) for event in events_in(aside)]
    assert ["e2", 5] == [told(event) for event in events_in(path)]


def told(event: dict[str, Any]) -> Any:
    return next(iter(event["data"].values()))


def test_a_run_that_was_killed_with_nothing_but_the_name_of_a_log_goes_on_behind_the_file_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    recorder = Recorder(path)
    for i, day in enumerate((22, 23)):
        recorder.write(event_at(f"2026-11-{day}T10:00:00.000Z", i), log="e1")
    recorder.close()
    head, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + b'{"type":"x.')
    again = Recorder(path)
    assert "1-0" == str(again.position.id)
    again.close()


def test_an_event_of_yesterday_does_not_open_yesterdays_file_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    recorder = Recorder(path)
    for i, ts in enumerate(("2026-11-23T00:00:01.000Z", "2026-11-22T23:59:59.000Z", "2026-11-23T00:00:02.000Z")):
        recorder.write(event_at(ts, i))
    recorder.close()

    assert [0, 1, 2] == numbers_in(path)


@pytest.mark.parametrize(
    "content",
    [
        b"hello\nworld\n",
        b"no newline",
        b"[]\n",
        b'{"id":"5-0"}\n',
        b'{"type":"x","ts":"2026-11-22T10:00:00.000Z","id":"x"}\n',
        b'{"type":"x","ts":"2026-11-22T10:00:00.000Z","id":"5-0"}\n[half',
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_left_as_it_was(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for _ in range(2):  # and its lock is given back
        with pytest.raises(BroadcastError, match=r"notes\.txt: .* is no recorded event"):
            Recorder(path)

    assert content == path.read_bytes()


@pytest.mark.parametrize("half", [b"", b"{", b'{"type":"x.', b"\0\0\0"])
def test_half_a_line_of_its_own_is_taken_away_at_once(half: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    recorder = Recorder(path)
    recorder.write(event_at("2026-11-22T10:00:00.000Z", 1))
    recorder.close()
    whole = path.read_bytes()
    path.write_bytes(whole + half)
    again = Recorder(path)

    assert whole == path.read_bytes()
    assert "2-0" == str(again.position.id)
    again.close()


def test_two_recorders_cannot_share_a_file(tmp_path: Path) -> None:
    first = Recorder(tmp_path / "events.jsonl")
    with pytest.raises(BroadcastError, match="another process"):
        Recorder(tmp_path / "events.jsonl")
    first.close()


def test_survives_a_restart_of_redis_and_tells_of_a_log_that_was_emptied(
    own_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    emit_numbers(own_server, 0, 10)
    with started("record", str(path), folder=tmp_path, redis_url=own_server.url):
        wait_until(lambda: len(numbers_in(path)) == 10)
        own_server.restart()
        wait_until(lambda: b"Redis cannot be read" in (tmp_path / "err").read_bytes())
        emit_numbers(own_server, 10, 20)
        wait_until(lambda: len(numbers_in(path)) == 20)
    with own_server.client() as client:
        client.flushall()
    emit_numbers(own_server, 20, 30)
    with started("record", str(path), folder=tmp_path, redis_url=own_server.url):
        wait_until(lambda: len(numbers_in(path)) == 30)

    assert list(range(30)) == numbers_in(path)
    gaps = [event["data"]["reason"] for event in events_in(path) if event["type"] == "broadcast.gap"]
    assert ["reset"] == gaps


async def test_a_gap_that_could_not_be_written_is_written_by_the_next_run(
    valkey_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"

    async def record(until: Callable[[], bool]) -> None:
        recorder = Recorder(path, on_wait=waited.append)
        recording = asyncio.create_task(recorder.run(redis_url=valkey_server.url))
        async with asyncio.timeout(PATIENCE_S):
            while not until():
                await asyncio.sleep(0.01)
        await end_tasks(recording)
        recorder.close()

    waited: list[str] = []
    await asyncio.to_thread(emit_numbers, valkey_server, 0, 10)
    await record(lambda: len(numbers_in(path)) == 10)
    with valkey_server.client() as client:
        client.flushall()
    await asyncio.to_thread(emit_numbers, valkey_server, 10, 20)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(LineFile, "append", refuse)
        await record(lambda: bool(waited))
    await record(lambda: len(numbers_in(path)) == 20)

    assert [f"{path}: No space left on device"] == waited
    kinds = [event["data"].get("reason", event["type"]) for event in events_in(path)]
    name = "broadcast.epoch"
    assert [name, *["x.y"] * 10, "reset", name, *["x.y"] * 10] == kinds


def refuse(file: LineFile, lines: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_epoch_that_cannot_be_written_ends_nothing(valkey_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    (tmp_path / ".events.jsonl.epoch.new").mkdir()
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        emit_numbers(valkey_server, 0, 5)
        wait_until(lambda: len(numbers_in(path)) == 5)

    assert b".events.jsonl.epoch: Is a directory" in (tmp_path / "err").read_bytes()


def test_a_log_that_gets_its_name_while_it_is_recorded_is_remembered(
    valkey_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    with started("record", str(path), folder=tmp_path, redis_url=valkey_server.url):
        wait_until(path.exists)
        emit_numbers(valkey_server, 0, 5)
        wait_until(lambda: len(numbers_in(path)) == 5)
    with valkey_server.client() as client:
        epoch = client.hget("{v5:stream}:log", "epoch")

    assert epoch == (tmp_path / ".events.jsonl.epoch").read_bytes().strip()
