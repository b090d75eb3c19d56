"""`broadcast up`: one command starts everything, Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from broadcast import Broadcaster
from broadcast.cli.children import example_mind
from broadcast.embedded import PrivateValkey
from broadcast.errors import BroadcastError
from broadcast.settings import Settings
from tests.archives import database
from tests.bridges import serving
from tests.postgresql import PostgresqlServer
from tests.programs import COMMAND, environment, run, started, wait_until
from tests.servers import RedisServer, free_port


def printed(folder: Path) -> str:
    return (folder / "out").read_text("utf-8")


def address_in(folder: Path) -> str:
    found = re.search(r"export REDIS_URL=(\S+)", printed(folder))
    return found[1] if found else ""


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def start_arguments(folder: Path) -> tuple[str, ...]:
    return ("up", "--no-archive", "--data", str(folder / "valkey"), "--port", str(free_port()))


def left_of(parts: list[psutil.Process]) -> list[psutil.Process]:
    return [part for part in parts if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]


def test_starts_everything_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    arguments = start_arguments(tmp_path)
    with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path / "state")) as up:
        # The whole chain has worked when the mind's events come back as digests.
        wait_until(lambda: "sense.project" in printed(tmp_path), what="the mind's first sense")
        parts = children_of(up)
        names = " ".join(" ".join(part.cmdline()) for part in parts)
        assert all(word in names for word in ("valkey-server", "serve", "mind"))
        with urllib.request.urlopen(f"http://127.0.0.1:{arguments[-1]}/readyz", timeout=20) as answer:
            assert json.load(answer) == {"ready": True, "reasons": []}

        os.killpg(up.pid, signal.SIGINT)  # as a terminal does it: to the whole foreground group
        assert 0 == up.wait(40)

    assert [] == left_of(parts)
    assert "Traceback" not in (tmp_path / "err").read_text("utf-8")
    assert 0o700 == (tmp_path / "state" / "v5-broadcast").stat().st_mode & 0o777, "others on this machine read nothing"


@pytest.fixture
def heeds_hangups() -> Iterator[None]:
    """Also where these tests themselves were started by `nohup`, whose programs leave that signal alone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["terminated", "terminal closed"])
def test_another_end_leaves_nothing_behind_either_also_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    arguments = (*start_arguments(tmp_path), "--no-mind")
    with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up:
        if number == signal.SIGTERM:
            wait_until(lambda: len(children_of(up)) > 0, what="Valkey")
        else:
            wait_until(lambda: "Ctrl-C" in printed(tmp_path), what="everything")
        parts = children_of(up)
        up.send_signal(number)
        assert 0 == up.wait(40)

    assert parts
    assert [] == left_of(parts)
    assert not any(str(tmp_path) in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    assert "" == (tmp_path / "err").read_text("utf-8")


def test_a_terminal_that_closes_does_not_end_what_nohup_has_started(tmp_path: Path) -> None:
    arguments = (*start_arguments(tmp_path), "--no-mind")
    command = ("nohup", *COMMAND, *arguments)
    with (tmp_path / "out").open("wb") as out:
        up = subprocess.Popen(
            command, env=environment(None, XDG_STATE_HOME=str(tmp_path)), stdin=subprocess.DEVNULL, stdout=out
        )
    try:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path), what="everything")
        up.send_signal(signal.SIGHUP)
        up.send_signal(signal.SIGINT)
        assert 0 == up.wait(40)
    finally:
        up.kill()
        up.wait()


def test_what_was_emitted_is_still_there_after_the_next_start(tmp_path: Path) -> None:
    arguments = (*start_arguments(tmp_path), "--no-mind")
    for turn in range(2):
        with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up:
            wait_until(lambda: address_in(tmp_path) != "")
            url = address_in(tmp_path)
            if turn == 0:
                emitter = Broadcaster(settings=Settings(redis_url=url))
                emitter.emit("note", {"text": "keep me"})
                assert emitter.close(5)
            else:
                code, out, _ = run("doctor", redis_url=url)
                assert 0 == code and "1 events, 1 ever" in out
            up.send_signal(signal.SIGINT)
            assert 0 == up.wait(40)


def test_uses_the_redis_that_is_named(valkey_server: RedisServer, tmp_path: Path) -> None:
    arguments = ("up", "--no-mind", "--no-archive", "--port", str(free_port()))
    state = str(tmp_path)
    with started(*arguments, folder=tmp_path, redis_url=valkey_server.url, XDG_STATE_HOME=state, new_group=True) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        emitter = Broadcaster(settings=Settings(redis_url=valkey_server.url))
        emitter.emit("sense.project", {"sense": "warmth", "projection": "the sun"})
        assert emitter.close(5)
        wait_until(lambda: "warmth: the sun" in printed(tmp_path))

        assert not any("valkey-server" in " ".join(child.cmdline()) for child in children_of(up))


def test_a_port_that_is_taken_is_named_before_anything_is_started(valkey_server: RedisServer, tmp_path: Path) -> None:
    # Even by a bridge that would answer in place of its own.
    with serving(valkey_server.url, tmp_path) as bridge:
        arguments = ("--no-mind", "--no-archive", "--data", str(tmp_path / "valkey"), "--port", str(bridge.port))
        code, out, err = run("up", *arguments)

    assert (1, "", 1) == (code, out, err.count("\n"))
    assert f"127.0.0.1:{bridge.port}" in err and "BROADCAST_PORT" in err
    assert not (tmp_path / "valkey").exists()


def test_a_redis_that_is_named_and_away_is_waited_for_and_said(own_server: RedisServer, tmp_path: Path) -> None:
    own_server.stop()
    arguments = ("up", "--no-mind", "--no-archive", "--port", "0")  # any port that is free
    state = str(tmp_path)
    with started(*arguments, folder=tmp_path, redis_url=own_server.url, XDG_STATE_HOME=state, new_group=True) as up:
        wait_until(lambda: "waiting   redis: " in printed(tmp_path))
        own_server.start()
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        url = re.search(r"http://127\.0\.0\.1:[1-9]\d+/", printed(tmp_path))
        assert url
        with urllib.request.urlopen(f"{url[0]}readyz", timeout=20) as answer:
            assert json.load(answer) == {"ready": True, "reasons": []}
        up.send_signal(signal.SIGINT)
        assert 0 == up.wait(40)


def test_a_part_that_ends_by_itself_ends_the_whole_and_is_named(tmp_path: Path) -> None:
    with started(*start_arguments(tmp_path), "--no-mind", folder=tmp_path, XDG_STATE_HOME=str(tmp_path)) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        bridge = next(child for child in children_of(up) if "serve" in child.cmdline())
        bridge.kill()

        assert 1 == up.wait(40)
    assert "the bridge ended by itself" in (tmp_path / "err").read_text("utf-8")


def test_killed_it_leaves_nothing_behind_that_the_next_one_cannot_go_on_from(tmp_path: Path) -> None:
    arguments = ("up", "--port", str(free_port()))
    for turn in range(2):
        with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up:
            wait_until(lambda: "sense.project" in printed(tmp_path), what="the mind")
            parts = children_of(up)
            if turn == 0:
                up.kill()
                # Bridge, archiver and mind notice it; the servers are ended by the next one.
                ours = [part for part in parts if "broadcast.cli.lifeline" in part.cmdline()]
                assert 3 == len(ours)
                wait_until(lambda: left_of(ours) == [], what="the end of what was left behind")  # noqa: B023
                assert "Traceback" not in (tmp_path / "v5-broadcast" / f"bridge-{arguments[-1]}.log").read_text()
            else:
                up.send_signal(signal.SIGINT)
                assert 0 == up.wait(40)
                assert [] == left_of(parts)


@pytest.mark.parametrize("name", ["PostgreSQL", "Valkey"])
def test_a_private_server_that_is_killed_is_started_again_and_nothing_is_lost(tmp_path: Path, name: str) -> None:
    arguments = ("up", "--no-mind", "--port", str(free_port()))
    with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        archive = re.search(r"archive +(postgresql://\S+) \(", printed(tmp_path))
        assert archive
        emitter = Broadcaster(settings=Settings(redis_url=address_in(tmp_path)))
        emitter.emit("note", {"n": 1})
        wait_until(lambda: notes_in(archive[1]) == 1)
        server = {"PostgreSQL": "postgres", "Valkey": "valkey-server"}[name]
        next(part for part in children_of(up) if part.ppid() == up.pid and server in part.name()).kill()
        wait_until(lambda: f"{name} has ended by itself and is started again, its log: " in printed(tmp_path))
        emitter.emit("note", {"n": 2})
        wait_until(lambda: notes_in(archive[1]) == 2, what="the archiver")
        emitter.close(5)
        up.send_signal(signal.SIGINT)
        assert 0 == up.wait(40)


def notes_in(url: str) -> int:
    try:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM events WHERE type = 'note'").fetchone()
            return int(row[0]) if row else 0
    except psycopg.Error:
        return -1


def test_an_archive_that_is_none_is_said_with_the_reason_and_the_rest_goes_on(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, tmp_path: Path
) -> None:
    with database(postgresql_server) as url, psycopg.connect(url, autocommit=True) as app:
        app.execute("CREATE TABLE events (a int)")
        arguments = ("up", "--no-mind", "--port", str(free_port()))
        more = {"XDG_STATE_HOME": str(tmp_path), "DATABASE_URL": url}
        with started(*arguments, folder=tmp_path, redis_url=valkey_server.url, new_group=True, **more) as up:
            wait_until(lambda: "the rest goes on without it" in printed(tmp_path))
            said = (
                r'ended by itself with code 1: broadcast: DATABASE_URL: .*"events" already exists.* log: .*/archiver-'
            )
            assert re.search(said, printed(tmp_path))
            emitter = Broadcaster(settings=Settings(redis_url=valkey_server.url))
            emitter.emit("sense.project", {"sense": "warmth", "projection": "the sun"})
            assert emitter.close(5)
            wait_until(lambda: "warmth: the sun" in printed(tmp_path))
            up.send_signal(signal.SIGINT)
            assert 0 == up.wait(40)


def test_two_cannot_share_a_folder(tmp_path: Path) -> None:
    first = PrivateValkey(tmp_path, port=free_port())
    first.start()
    try:
        with pytest.raises(BroadcastError, match=rf"process {os.getpid()}, its server {first.pid}\).*--data"):
            PrivateValkey(tmp_path, port=free_port()).start()
    finally:
        first.stop()
    again = PrivateValkey(tmp_path, port=free_port())
    again.start()
    again.stop()


def test_a_server_whose_starter_was_killed_is_ended_and_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    program = f"""
import os
from pathlib import Path
from broadcast.embedded import PrivateValkey
valkey = PrivateValkey(Path({str(tmp_path)!r}), port={port})
valkey.start()
print(valkey.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    orphan = psutil.Process(int(killed.stdout))
    emitter = Broadcaster(settings=Settings(redis_url=f"redis://127.0.0.1:{port}"))
    emitter.emit("note", {"text": "keep me"})
    assert emitter.close(5)
    monkeypatch.setattr("broadcast.embedded.valkey.DEFAULT_PORT", port)
    valkey = PrivateValkey(tmp_path)
    try:
        valkey.start()
        assert port == valkey.port, "minds still know it by that one"
        assert [] == left_of([orphan])
        assert "1 events, 1 ever" in run("doctor", redis_url=valkey.url)[1]
    finally:
        valkey.stop()


def test_takes_another_port_where_the_usual_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("broadcast.embedded.valkey.DEFAULT_PORT", taken.getsockname()[1])
        valkey = PrivateValkey(tmp_path)

        assert taken.getsockname()[1] != valkey.port
        assert not valkey.is_default


def test_finds_the_example_mind() -> None:
    assert (example_mind() / "__main__.py").is_file()
