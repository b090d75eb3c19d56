"""`broadcast up`: one command starts everything, Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from broadcast import Broadcaster
from broadcast.cli.up import example_mind
from broadcast.embedded import PrivateValkey
from broadcast.errors import BroadcastError
from broadcast.settings import Settings
from tests.programs import run, started, wait_until
from tests.servers import RedisServer, free_port


def printed(folder: Path) -> str:
    return (folder / "out").read_text("utf-8")


def address_in(folder: Path) -> str:
    found = re.search(r"export REDIS_URL=(\S+)", printed(folder))
    return found[1] if found else ""


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def start_arguments(folder: Path) -> tuple[str, ...]:
    return ("up", "--data", str(folder / "valkey"), "--port", str(free_port()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_starts_everything_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    arguments = start_arguments(tmp_path)
    with started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path / "state")) as up:
        # The whole chain has worked when the mind's events come back as digests.
        wait_until(lambda: "sense.project" in printed(tmp_path), timeout_s=40, what="the mind's first sense")
        parts = children_of(up)
        names = " ".join(" ".join(part.cmdline()) for part in parts)
        assert all(word in names for word in ("valkey-server", "serve", "mind"))
        with urllib.request.urlopen(f"http://127.0.0.1:{arguments[-1]}/readyz", timeout=5) as answer:
            assert json.load(answer) == {"ready": True, "reasons": []}

        os.killpg(up.pid, number)  # as a terminal does it: to the whole foreground group
        assert 0 == up.wait(30)

    assert [] == [part for part in parts if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]
    assert "Traceback" not in (tmp_path / "err").read_text("utf-8")


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
            assert 0 == up.wait(30)


def test_uses_the_redis_that_is_named(valkey_server: RedisServer, tmp_path: Path) -> None:
    arguments = ("up", "--no-mind", "--port", str(free_port()))
    state = str(tmp_path)
    with started(*arguments, folder=tmp_path, redis_url=valkey_server.url, XDG_STATE_HOME=state, new_group=True) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        emitter = Broadcaster(settings=Settings(redis_url=valkey_server.url))
        emitter.emit("sense.project", {"sense": "warmth", "projection": "the sun"})
        assert emitter.close(5)
        wait_until(lambda: "warmth: the sun" in printed(tmp_path))

        assert not any("valkey-server" in " ".join(child.cmdline()) for child in children_of(up))


def test_a_port_that_is_taken_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("up", "--no-mind", "--data", str(tmp_path / "valkey"), "--port", port)
        with started(*arguments, folder=tmp_path, XDG_STATE_HOME=str(tmp_path)) as up:
            assert 1 == up.wait(30)

    err = (tmp_path / "err").read_text("utf-8")
    assert "BROADCAST_PORT" in err and "Traceback" not in err
    assert not any(str(tmp_path) in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))


def test_a_part_that_ends_by_itself_ends_the_whole_and_is_named(tmp_path: Path) -> None:
    with started(*start_arguments(tmp_path), "--no-mind", folder=tmp_path, XDG_STATE_HOME=str(tmp_path)) as up:
        wait_until(lambda: "Ctrl-C" in printed(tmp_path))
        bridge = next(child for child in children_of(up) if "serve" in child.cmdline())
        bridge.kill()

        assert 1 == up.wait(30)
    assert "the bridge ended by itself" in (tmp_path / "err").read_text("utf-8")


def test_two_cannot_share_a_folder(tmp_path: Path) -> None:
    first = PrivateValkey(tmp_path, port=free_port())
    first.start()
    try:
        with pytest.raises(BroadcastError, match=f"process {os.getpid()}"):
            PrivateValkey(tmp_path, port=free_port()).start()
    finally:
        first.stop()


def test_takes_another_port_where_the_usual_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("broadcast.embedded.DEFAULT_PORT", taken.getsockname()[1])
        valkey = PrivateValkey(tmp_path)

        assert taken.getsockname()[1] != valkey.port
        assert not valkey.is_default


def test_finds_the_example_mind() -> None:
    assert (example_mind() / "__main__.py").is_file()
