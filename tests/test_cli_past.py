"""The commands over the past: replay, stats, and which archive they mean."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast import Broadcaster
from broadcast.event import timestamp
from broadcast.settings import Settings
from tests.archivers import archive_once
from tests.archives import database, fill
from tests.postgresql import PostgresqlServer
from tests.programs import Command, run, started, wait_until
from tests.servers import RedisServer, free_port
from tests.test_up import children_of, left_of, printed

BEGAN = datetime(2026, 2, 13, 16, tzinfo=UTC)


def past() -> list[dict[str, Any]]:
    """Three cycles, the second of them slow and with an error; then an hour of nothing, and a last word."""
    told: list[tuple[float, str, dict[str, Any]]] = []
    for cycle, took_s in ((1, 0.4), (2, 1.9), (3, 0.2)):
        at_s = cycle * 2.0
        told += [(at_s, "cycle.start", {}), (at_s + 0.1, "sense.project", {"sense": "warmth", "projection": "sun"})]
        if cycle == 2:
            told.append((at_s + 0.2, "error", {"source": "wave[1]", "message": "no memory \x1b[31m of that"}))
        told.append((at_s + took_s, "cycle.end", {"duration_ms": took_s * 1000}))
    told.append((3_600.0, "note", {"text": "last"}))
    return [
        {
            "type": name,
            "ts": timestamp(round((BEGAN.timestamp() + at_s) * 1000) * 1_000_000),
            "cycle": min(3, int(at_s) // 2),
            "day": 7,
            "data": data,
            "id": f"{round((BEGAN.timestamp() + at_s) * 1000)}-{n}",
            "by": f"p:{n}",
            "n": n,
        }
        for n, (at_s, name, data) in enumerate(told, 1)
    ]


@pytest.fixture(scope="module")
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        fill(url, past(), epoch="e1")
        yield url


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def replayed(text: str) -> list[dict[str, Any]]:
    """The events; that the stream is of another log than the archive is told, too."""
    return [event for event in lines_of(text) if event["type"] != "broadcast.gap"]


def test_replay_joins_archive_and_stream_and_ends(command: Command, valkey_server: RedisServer, url: str) -> None:
    emitter = Broadcaster(settings=Settings(redis_url=valkey_server.url))
    emitter.emit("note", {"text": "live"})
    assert emitter.close(5)
    code, out, err = command("replay", "--from", "0", "--database-url", url, redis_url=valkey_server.url)
    assert (0, "") == (code, err)
    events = replayed(out)
    assert past() == events[: len(past())]
    assert "live" == events[-1]["data"]["text"]

    part = ("--from", "2026-02-13T16:00:04Z", "--to", "2026-02-13T16:00:05Z", "--types", "cycle.*,error")
    code, out, _ = command("replay", *part, "--database-url", url, redis_url=valkey_server.url)
    assert ["cycle.start", "error"] == [event["type"] for event in replayed(out)]

    sought = ("--from", "0", "--filter", "ts:2026-02-13T16:00:04..2026-02-13T16:00:05 -type:cycle.end")
    code, out, _ = command("replay", *sought, "--database-url", url, redis_url=valkey_server.url)
    expected = [event for event in past() if "16:00:04" <= event["ts"][11:19] <= "16:00:05"]
    assert [event for event in expected if event["type"] != "cycle.end"] == replayed(out) != []
    code, _, err = command("replay", "--from", "0", "--filter", "cycle:x", redis_url=valkey_server.url)
    assert 1 == code and "filter: cycle:x: expected a number" in err


def test_replay_without_an_end_gives_what_is_dated_ahead_of_this_clock(
    command: Command, valkey_server: RedisServer, postgresql_server: PostgresqlServer
) -> None:
    ahead_ns = time.time_ns() + 90 * 10**9
    with valkey_server.client() as client:
        for i in range(10):
            event = {"type": "x", "ts": timestamp(ahead_ns + i * 10**6), "cycle": 0, "day": 0, "data": {"i": i}}
            client.xadd("v5:stream", {"event": json.dumps(event)})

        def numbers(*arguments: str) -> list[int]:
            code, out, err = command("replay", "--from", "0", *arguments, redis_url=valkey_server.url)
            assert (0, "") == (code, err)
            return [event["data"]["i"] for event in lines_of(out)]

        assert list(range(10)) == numbers()
        assert [] == numbers("--to", "0s"), "by `ts`, where a time is given"
        with database(postgresql_server) as url:
            asyncio.run(archive_once(valkey_server, url))
            client.delete("v5:stream")
            code, out, _ = command("replay", "--from", "0", "--database-url", url, redis_url=valkey_server.url)
            assert 0 == code and list(range(10)) == [event["data"]["i"] for event in replayed(out)]


def test_replay_goes_as_lived_so_many_times_as_fast_and_leaves_idle_hours_out(
    command: Command, valkey_server: RedisServer, url: str
) -> None:
    began_s = time.monotonic()
    arguments = ("--from", "2026-02-13T16:00:00Z", "--to", "2026-02-13T18:00:00Z", "--speed", "16")
    code, out, err = command("replay", *arguments, "--database-url", url, redis_url=valkey_server.url)
    took_s = time.monotonic() - began_s
    assert 0 == code and past() == replayed(out)
    lived_s = 4.2 / 16 + 2  # from the first event to the last of the three cycles, and the hour as two seconds
    assert lived_s <= took_s
    assert re.search(r"3,5\d\d s in which nothing happened were left out", err)


@pytest.mark.parametrize("speed", ["0", "65"])
def test_replay_refuses_what_is_no_speed(command: Command, valkey_server: RedisServer, speed: str) -> None:
    code, _, err = command("replay", "--from", "5m", "--speed", speed, redis_url=valkey_server.url)
    assert 1 == code and "speed: expected a number from 0.01 to 64" in err


def test_stats_fit_a_page_of_eighty_columns_and_obey_no_terminal_codes(command: Command, url: str) -> None:
    code, out, err = command("stats", "--database-url", url)
    assert (0, "") == (code, err)
    assert (
        "11 events, 3 cycles, 1 errors\n3.7 events a cycle on the average; 3 cycles ended, the median after 400.0 ms"
        in out
    )
    assert re.search(r"^ +7 +11 +3 +1$", out, re.MULTILINE)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out and "\\x1b[31m" in out and "wave[1]" in out
    slowest = out.partition("The slowest cycles")[2].splitlines()
    assert ["2", "1.90", "s", "1"] == slowest[2].split()[:4]
    assert re.search(r"2026-02-13 +11 +100\.0%", out)
    assert ("nothing was archived in that time\n", 0) == command("stats", "--since", "1d", "--database-url", url)[1::-1]


def test_stats_keep_their_numbers_beside_a_long_name(command: Command, postgresql_server: PostgresqlServer) -> None:
    with database(postgresql_server) as url:
        fill(
            url,
            [{**each, "type": "a." + "very.long." * 20} for each in past()] + [past()[-1] | {"id": "1790000000000-0"}],
        )
        _, out, _ = command("stats", "--database-url", url)
    assert re.search(r"^a\.very.*… +11 +91\.7%", out, re.MULTILINE) and max(map(len, out.splitlines())) <= 80


def test_stats_without_postgresql_are_one_line(command: Command) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    code, out, err = command("stats", "--database-url", url)
    assert (1, "", 1) == (code, out, len(err.splitlines())), err


def test_stats_as_json_say_the_same(command: Command, url: str) -> None:
    _, out, _ = command("stats", "--json", "--database-url", url)
    told = json.loads(out)
    assert {"type": "cycle.start", "events": 3} in told["types"]
    assert [{"day": "2026-02-13", "events": 11}] == told["days"]
    assert [{"day": 7, "events": 11, "cycles": 3, "errors": 1}] == told["mind_days"]
    assert (3, 400.0) == (told["ended"], told["median_ms"])
    assert (2, 1900.0, 1) == tuple(told["slowest"][0][name] for name in ("cycle", "duration_ms", "errors"))
    assert "wave[1]" == told["failures"][0]["source"]


def test_a_command_without_an_archive_says_how_to_name_one(command: Command, tmp_path: Path) -> None:
    for arguments in (("stats",), ("export", "-"), ("import", "-")):
        code, out, err = command(*arguments, XDG_STATE_HOME=str(tmp_path))
        assert (1, "") == (code, out)
        assert "no archive: set DATABASE_URL" in err


def test_up_keeps_everything_and_the_commands_find_its_archive(tmp_path: Path) -> None:
    """The whole way on one machine: emitted, archived, erased, exported, and gone with Ctrl-C."""
    state = str(tmp_path)
    arguments = ("up", "--no-mind", "--keep", "365d", "--port", str(free_port()))
    with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=state) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path), what="everything")
        archive = re.search(r"archive +(postgresql://\S+) \(PostgreSQL", printed(tmp_path))
        redis_url = re.search(r"Valkey +(redis://\S+),", printed(tmp_path))
        assert archive and redis_url
        emitter = Broadcaster(settings=Settings(redis_url=redis_url[1]))
        for n in range(20):
            emitter.emit("error" if n % 5 == 0 else "note", {"text": "sk-secret" if n % 5 == 0 else "", "n": n})
        assert emitter.close(5)
        wait_until(lambda: _archived(archive[1]) >= 20, what="the archiver")
        # Of the two addresses one is named, as `up` tells people to do: the other belongs to it.
        code, out, err = run("erase", "--type", "error", "--yes", redis_url=redis_url[1], XDG_STATE_HOME=state)
        assert (0, "") == (code, err.replace("found     4 events in the stream, 4 in the archive\n", ""))
        assert "stream    4 blanked" in out and "archive   4 blanked" in out
        code, _, err = run("export", "-", redis_url="redis://127.0.0.1:1/0", XDG_STATE_HOME=state)
        assert 1 == code and "no archive" in err, "the archive of another log"
        # No address is named: it is found by where it runs.
        code, out, err = run("export", "-", XDG_STATE_HOME=state)
        assert 0 == code and "sk-secret" not in out
        kept = [event for event in replayed(out) if "id" in event]
        assert list(range(1, len(kept) + 1)) == [event["n"] for event in kept]
        parts = children_of(up)
        (archiver,) = (part for part in parts if part.cmdline()[-3:-1] == ["archive", "--keep"])
        assert "365d" == archiver.cmdline()[-1]
        up.terminate()
        assert 0 == up.wait(40)
    assert [] == left_of(parts)
    log = (tmp_path / "v5-broadcast" / "postgresql" / "postgresql.log").read_text()
    assert "database system is shut down" in log and "PANIC" not in log


def _archived(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT to_regclass('events') IS NOT NULL").fetchone()
        row = connection.execute("SELECT count(*) FROM events").fetchone() if found and found[0] else None
        return int(row[0]) if row else 0


def test_up_goes_on_without_an_archive_where_none_can_be_had_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "valkey" / "postgresql" / "data").mkdir(parents=True)
    (tmp_path / "valkey" / "postgresql" / "data" / "PG_VERSION").write_text("9\n")
    arguments = ("up", "--no-mind", "--data", str(tmp_path / "valkey"), "--port", str(free_port()))
    code, out, err = run(*arguments)
    assert (1, "") == (code, out)
    assert "was written by PostgreSQL 9" in err and "--no-archive" in err

    with started(*arguments, "--no-archive", folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path), what="everything")
        assert "archive   none (--no-archive)" in printed(tmp_path)
        assert not any("archive" in part.cmdline() for part in children_of(up))
