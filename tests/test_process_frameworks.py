"""Hosts as they are in the world: gevent, eventlet, gunicorn, uWSGI, a logging handler. Emitting is nothing to them."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import PATIENT_S, producers_in, run, run_patiently
from tests.programs import environment, in_time, wait_until
from tests.servers import RedisServer, free_port

# --- gevent and eventlet

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
SPAWNS = {
    "gevent": "import gevent; spawn, wait = gevent.spawn, gevent.joinall",
    "eventlet": "import eventlet; spawn, wait = eventlet.spawn, lambda all: [each.wait() for each in all]",
}
QUIET: dict[str, Any] = {"PYTHONWARNINGS": "ignore"}  # eventlet tells that it is deprecated


def green(loop: str, patched: str) -> str:
    lines = [PATCHES[loop], "from broadcast import emit, flush, stats"]
    if patched == "late":  # the sender runs, and is connected, before the world changes under it
        lines = [lines[1], "emit('early'); assert flush(20)", lines[0]]
    if patched == "later, unconnected":
        lines = [lines[1], lines[0]]
    return "\n".join([*lines, SPAWNS[loop], "import os, time", ""])


GREEN = [(loop, patched) for loop in PATCHES for patched in ("before", "late", "later, unconnected")]


@pytest.mark.parametrize(("loop", "patched"), GREEN)
def test_a_patched_host_delivers_all_and_its_loop_goes_on_while_it_flushes(
    loop: str, patched: str, valkey_server: RedisServer
) -> None:
    code = green(loop, patched) + textwrap.dedent("""
        ticks = []
        def tick():
            while not ticks or ticks[-1] is not None:
                ticks.append(time.monotonic()); time.sleep(0.001)
        def work(number):
            for i in range(200):
                emit("work", {"number": number, "i": i})
                if i % 50 == 0: time.sleep(0)
        ticker = spawn(tick)
        wait([spawn(work, number) for number in range(5)])
        assert flush(20), stats()
        during_flush = len(ticks)
        began = time.monotonic()
        emit("flushed"); assert flush(20), stats()
        assert time.monotonic() - began < 10
        time.sleep(0.05)
        ticks.append(None)
        wait([ticker])
        assert len(ticks) > during_flush > 3, (during_flush, len(ticks))
        emit("last")
    """)
    done = run_patiently(code, valkey_server.url, **QUIET)

    assert (0, "", "") == (done.code, done.out, done.err)
    [events] = producers_in(valkey_server).values()
    early = ["early"] if patched == "late" else []
    assert [*early, *["work"] * 1000, "flushed", "last"] == [event["type"] for event in events]
    everything = {(number, i) for number in range(5) for i in range(200)}
    assert everything == {(e["data"]["number"], e["data"]["i"]) for e in events if e["type"] == "work"}
    assert done.took_s < 40


@pytest.mark.parametrize(("loop", "patched"), [each for each in GREEN if each[1] != "late"])
def test_a_patched_loop_keeps_its_pace_while_redis_is_silent_and_its_host_leaves_in_time(
    loop: str, patched: str
) -> None:
    code = green(loop, patched) + textwrap.dedent("""
        worst = 0.0
        deadline = time.monotonic() + 3  # one of redis' time-outs lies within
        while time.monotonic() < deadline:
            emit("x", {"text": "y" * 100})
            began = time.monotonic()
            time.sleep(0.001)
            worst = max(worst, time.monotonic() - began)
        print(worst)
    """)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}"
        # Importing redis takes the interpreter; a wait would be 2 s.
        done = in_time(lambda: run(code, url, **QUIET), lambda done: float(done.out), max_s=1.5)

    assert (0, "") == (done.code, done.err)
    assert done.took_s < 20


# --- gunicorn


APPLICATION = """
import os, time
from broadcast import emit, flush
emit("loaded", {"pid": os.getpid()})
if os.environ.get("SETTLE"):
    assert flush(20)
    time.sleep(0.2)

def application(environ, start_response):
    emit("request", {"pid": os.getpid(), "path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [str(os.getpid()).encode()]
"""


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serve(arguments: list[str], port: int, folder: Path, url: str, **more: str) -> tuple[int, list[str]]:
    """Start the server on the application, ask it 60 times, end it; its code and who has answered."""
    (folder / "app.py").write_text(APPLICATION)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment(url, BROADCAST_EXIT_TIMEOUT_S=PATIENT_S, **QUIET, **more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: is_up(port) or server.poll() is not None, what="the server")
        answers = [get(port, f"/{n}") for n in range(60)]
        time.sleep(1)  # a worker of gunicorn that has not yet begun to serve misses its SIGTERM, with us or without
        server.terminate()
        return server.wait(30), answers
    except (OSError, AssertionError, subprocess.TimeoutExpired) as error:
        raise AssertionError((folder / "log").read_text()) from error
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def assert_each_its_own(server: RedisServer, answers: list[str]) -> None:
    """One producer per process; every request once, told by the process that answered it."""
    by_pid: dict[int, list[str]] = {}
    for events in producers_in(server).values():
        [pid] = {event["data"]["pid"] for event in events}
        assert pid not in by_pid
        by_pid[pid] = [event["data"].get("path", "loaded") for event in events]
    expected: dict[int, list[str]] = {}
    for n, answer in enumerate(answers):
        expected.setdefault(int(answer), []).append(f"/{n}")
    masters = [pid for pid, told in by_pid.items() if told == ["loaded"]]
    assert 1 == len(masters)
    assert {masters[0]: ["loaded"], **expected} == by_pid


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_under_gunicorn_with_preload_master_and_workers_each_emit_their_own(
    worker: str, valkey_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    bind = ["--bind", f"127.0.0.1:{port}", "--workers", "3", "--worker-class", worker, "--no-control-socket"]
    command = [sys.executable, "-m", "gunicorn", "--preload", *bind, "app:application"]
    code, answers = serve(command, port, tmp_path, valkey_server.url)

    assert 0 == code
    assert_each_its_own(valkey_server, answers)
    assert "Traceback" not in (tmp_path / "log").read_text()


# --- uWSGI


@pytest.mark.parametrize("told", ["--enable-threads", "--py-call-osafterfork", "--threads=2"])
def test_under_uwsgi_which_forks_unseen_master_and_workers_each_emit_their_own(
    told: str, valkey_server: RedisServer, tmp_path: Path
) -> None:
    """What the master emits it has to flush: uWSGI forks without the interpreter's lock, and a thread that holds it
    just then, whoever's, holds it in the worker for ever, before any line of the application runs."""
    port = free_port()
    bind = [f"--http-socket=127.0.0.1:{port}", "--master", "--processes=3", "--need-app", "--die-on-term"]
    run_it = "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])"
    threads = ["--enable-threads", told] if told != "--threads=2" else [told]
    command = [
        sys.executable,
        "-c",
        run_it,
        *bind,
        *threads,
        f"--virtualenv={sys.prefix}",
        "--pythonpath=.",
        "--module=app",
    ]
    code, answers = serve(command, port, tmp_path, valkey_server.url, SETTLE="yes")

    assert 0 == code, (tmp_path / "log").read_text()
    assert_each_its_own(valkey_server, answers)


# --- logging


def test_logging_that_emits_feeds_nothing_back_while_redis_is_away(valkey_server: RedisServer) -> None:
    """Whatever redis-py or anything else logs in the sender's thread becomes an event at most once, not a flood."""
    code = """
        import logging, os, time, warnings
        from broadcast import emit, stats
        class Handler(logging.Handler):
            def emit(self, record):
                emit("log", {"message": record.getMessage(), "logger": record.name, "args": record})
        logging.basicConfig(level=1, handlers=[Handler()])
        logging.captureWarnings(True)
        class Logs:
            def __str__(self):
                logging.getLogger("mine").info("while it is encoded")
                return "encoded"
        for n in range(100): logging.getLogger("mine").info("hello %d", n)
        emit("x", {"object": Logs()})
        warnings.warn("odd")
        time.sleep(1.5)  # some tries to connect
        told = stats()
        assert told.connects == 0 and told.last_error, told
        print(told.emitted + told.dropped["nested"])
        os._exit(0)
    """
    done = run(code, f"redis://127.0.0.1:{free_port()}")
    assert (0, "") == (done.code, done.err)
    assert 103 <= int(done.out) < 120


def test_logging_that_emits_in_many_threads_loses_and_doubles_nothing(valkey_server: RedisServer) -> None:
    code = """
        import logging, threading
        from broadcast import emit
        class Handler(logging.Handler):
            def emit(self, record):
                emit("log", {"message": record.getMessage()})
        logging.basicConfig(level=logging.INFO, handlers=[Handler()])
        def talk(who):
            for n in range(200): logging.getLogger(f"mine.{who}").info("%d %d", who, n)
        talkers = [threading.Thread(target=talk, args=(who,)) for who in range(5)]
        for each in talkers: each.start()
        for each in talkers: each.join()
    """
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    [events] = producers_in(valkey_server).values()
    expected = sorted(f"{who} {n}" for who in range(5) for n in range(200))
    assert expected == sorted(event["data"]["message"] for event in events)
