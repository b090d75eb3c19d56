"""Exit, fork, signals, threads, event loops: the host's life goes on as if nobody emitted."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts import EXIT_TIMEOUT_S, assert_once, events_in, run, run_in_time, types_in
from tests.programs import environment, in_time
from tests.servers import RedisServer, free_port


@pytest.fixture
def refused_url() -> str:
    return f"redis://127.0.0.1:{free_port()}"


@pytest.fixture
def hole_url() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        yield f"redis://127.0.0.1:{hole.getsockname()[1]}"


# --- leaving


def test_a_program_of_one_line_delivers_its_event_and_ends(valkey_server: RedisServer) -> None:
    done = run("from broadcast import emit; emit('only')", valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert types_in(valkey_server) == ["only"]


def test_everything_emitted_before_the_end_arrives(valkey_server: RedisServer) -> None:
    code = """
        from broadcast import emit
        for i in range(5000):
            emit("x", {"i": i})
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert [event["data"]["i"] for event in events_in(valkey_server)] == list(range(5000))


ENDINGS = {
    "the end": ("", 0, ""),
    "sys.exit": ("import sys; sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "os._exit": ("import os; os._exit(4)", 4, ""),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("where", ["up", "refused", "hole"])
def test_no_ending_is_changed_and_none_takes_long(
    ending: str, where: str, valkey_server: RedisServer, refused_url: str, hole_url: str
) -> None:
    line, code, said = ENDINGS[ending]
    url = {"up": valkey_server.url, "refused": refused_url, "hole": hole_url}[where]
    program = f"from broadcast import emit\nfor i in range(100): emit('x')\n{line}"
    done = run_in_time(program, url, max_s=EXIT_TIMEOUT_S + 5)
    assert done.code == code
    assert done.err.strip().splitlines()[-1:] == ([said] if said else [])
    assert "broadcast" not in done.err


def test_several_broadcasters_share_the_time_they_may_take_at_the_end(refused_url: str) -> None:
    code = """
        from broadcast import Broadcaster
        many = [Broadcaster() for _ in range(20)]
        for each in many:
            each.emit("x")
    """
    done = run_in_time(code, refused_url, max_s=EXIT_TIMEOUT_S + 5)
    assert (done.code, done.err) == (0, "")


def test_ctrl_c_while_leaving_leaves_at_once_and_says_nothing(refused_url: str) -> None:
    code = """if True:
        import signal
        from broadcast import emit
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        emit("x")
        print("leaving", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(refused_url, BROADCAST_EXIT_TIMEOUT_S="30"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert err == b""
    finally:
        process.kill()
        process.wait()


def test_what_handlers_at_exit_emit_arrives_too(valkey_server: RedisServer) -> None:
    code = """
        import atexit
        from broadcast import emit
        atexit.register(lambda: emit("later"))
        atexit.register(lambda: emit("last of all, and first of all"))
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server) == ["last of all, and first of all", "later"]


def test_a_thread_that_emits_while_the_program_leaves_harms_nothing(valkey_server: RedisServer) -> None:
    code = """
        import threading
        from broadcast import emit
        def forever():
            while True:
                emit("x")
        threading.Thread(target=forever, daemon=True).start()
        import time; time.sleep(0.2)
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert_once(valkey_server)


def test_a_destructor_that_emits_at_the_very_end_harms_nothing(valkey_server: RedisServer) -> None:
    code = """
        import gc
        from broadcast import emit
        gc.set_threshold(1)
        class Last:
            def __del__(self, emit=emit):
                emit("gone", {"x": [1]})
        kept = Last()
        for _ in range(200):
            circle = [Last()]
            circle.append(circle)
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server).count("gone") >= 150


# --- fork


def test_a_forked_child_emits_under_its_own_name_and_nothing_twice(valkey_server: RedisServer) -> None:
    """What the parent had not sent at the fork is the parent's to send."""
    code = """
        import os, sys
        from broadcast import emit, stats, flush
        for i in range(1000):
            emit("parent.before", {"i": i})
        pid = os.fork()
        if pid == 0:
            assert stats().emitted == 0
            emit("child", {"parent": os.getppid()})
            sys.exit(0)
        for i in range(1000):
            emit("parent.after", {"i": i})
        assert os.waitpid(pid, 0)[1] == 0
        sys.exit(0)
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    types = types_in(valkey_server)
    assert (types.count("parent.before"), types.count("parent.after"), types.count("child")) == (1000, 1000, 1)
    assert_once(valkey_server)
    producers = {event["type"]: event["by"].rpartition(":")[0] for event in events_in(valkey_server)}
    assert producers["child"] != producers["parent.after"] == producers["parent.before"]


def test_a_child_whose_parent_cannot_reach_redis_waits_for_its_own_events_alone(refused_url: str) -> None:
    code = """
        import os, sys, time
        from broadcast import emit
        for _ in range(100):
            emit("parent")
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)
        print(time.monotonic() - began, flush=True)
        os._exit(0)
    """
    done = run(code, refused_url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert done.err == ""
    assert float(done.out) < 10


def test_children_of_children_and_many_at_once_lose_nothing(valkey_server: RedisServer) -> None:
    code = """
        import os, sys, threading, time
        from broadcast import emit, flush
        stop = False
        def keep_emitting():
            while not stop:
                for _ in range(10): emit("noise")
                time.sleep(0.001)
        noise = threading.Thread(target=keep_emitting); noise.start()
        children = []
        for number in range(4):
            pid = os.fork()
            if pid == 0:
                if os.fork() == 0:
                    emit("grandchild", {"n": number}); sys.exit(0)
                emit("child", {"n": number})
                os.wait()
                sys.exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        stop = True; noise.join()
        sys.exit(0)
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20", BROADCAST_STREAM_EVENTS_MAX="1000000")
    assert (done.code, done.err) == (0, "")
    types = types_in(valkey_server)
    assert (types.count("child"), types.count("grandchild")) == (4, 4)
    assert_once(valkey_server)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_last_event_of_a_multiprocessing_child_arrives(
    valkey_server: RedisServer, method: str, tmp_path: Any
) -> None:
    """A forked one leaves by os._exit and runs no atexit."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing
        from broadcast import emit

        def work(number):
            for i in range(20):
                emit("child", {{"n": number, "i": i}})

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            emit("parent")
            children = [context.Process(target=work, args=(n,)) for n in range(2)]
            for child in children: child.start()
            for child in children: child.join()
            with context.Pool(2) as pool:
                pool.map(work, [2, 3], chunksize=1)
                pool.close()
                pool.join()
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment(valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="10"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    events = events_in(valkey_server)
    assert sorted((e["data"]["n"], e["data"]["i"]) for e in events if e["type"] == "child") == [
        (n, i) for n in range(4) for i in range(20)
    ]
    assert_once(valkey_server)


def test_a_multiprocessing_child_without_redis_ends_in_time_with_its_own_code(refused_url: str) -> None:
    code = """
        import multiprocessing, sys
        from broadcast import emit
        def work():
            emit("child"); sys.exit(7)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=work); child.start(); child.join()
        print(child.exitcode)
    """
    done = run_in_time(code, refused_url, max_s=EXIT_TIMEOUT_S + 6)
    assert (done.code, done.out, done.err) == (0, "7\n", "")


def test_a_fork_in_the_middle_of_a_hostile_emit_is_survived(valkey_server: RedisServer) -> None:
    code = """
        import os, sys
        from broadcast import emit
        class Forks:
            def __str__(self):
                return "child" if os.fork() == 0 else "parent"
        event = emit("x", {"who": Forks()})
        try:
            os.wait()
        except ChildProcessError:
            pass
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert sorted(event["data"]["who"] for event in events_in(valkey_server)) == ["child", "parent"]
    assert_once(valkey_server)


# --- signals, loops, threads


def test_the_first_emit_of_all_may_come_from_a_signal_handler(valkey_server: RedisServer) -> None:
    code = """
        import os, signal, threading
        from broadcast import emit, flush
        signal.signal(signal.SIGUSR1, lambda *_: emit("from the handler"))
        with threading.Lock(), threading.Condition():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert flush(10)
    """
    done = run(code, valkey_server.url)
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server) == ["from the handler"]


def test_a_handler_that_emits_a_thousand_times_a_second_hangs_nothing(valkey_server: RedisServer) -> None:
    """Nor is any of its events refused because the one that it interrupts is with the sanitizer just then."""
    code = """
        import signal, datetime
        from broadcast import emit, flush, stats
        calls = 0
        def handler(*_):
            global calls
            calls += 1
            emit("alarm", {"n": calls} if calls % 2 else {"n": calls, "needs care": datetime.date(2026, 1, 1)})
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for i in range(30_000):
            emit("x", {"i": i} if i % 3 else {"i": datetime.date(2026, 1, 1)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert flush(20)
        told = stats()
        assert told.emitted == 30_000 + calls - told.dropped["nested"], (told, calls)
        assert told.dropped["nested"] == told.dropped["unencodable"] == 0, told
        print(calls)
    """
    done = run(code, valkey_server.url, BROADCAST_BUFFER_EVENTS_MAX="100000", BROADCAST_STREAM_EVENTS_MAX="1000000")
    assert (done.code, done.err) == (0, "")
    types = types_in(valkey_server)
    assert (types.count("x"), types.count("alarm")) == (30_000, int(done.out))
    assert_once(valkey_server)


def test_an_event_loop_keeps_its_pace_while_redis_is_away(hole_url: str) -> None:
    code = """
        import asyncio, time
        from broadcast import emit
        async def main():
            worst = 0.0
            for _ in range(300):
                emit("x", {"text": "y" * 100})
                began = time.monotonic()
                await asyncio.sleep(0.001)
                worst = max(worst, time.monotonic() - began)
            return worst
        print(asyncio.run(main()), flush=True)
        import os; os._exit(0)
    """
    # Importing redis in the sender's thread shares the interpreter; a wait would be 2 s.
    done = in_time(lambda: run(code, hole_url), lambda done: float(done.out), max_s=1.5)
    assert done.err == ""


def test_logging_that_emits_and_warnings_harm_nothing(valkey_server: RedisServer) -> None:
    code = """
        import logging
        from broadcast import emit
        class Handler(logging.Handler):
            def emit(self, record):
                emit("log", {"message": record.getMessage(), "args": record})
        logging.basicConfig(level=logging.DEBUG, handlers=[Handler()])
        logging.getLogger("mine").info("hello")
    """
    done = run(code, valkey_server.url, BROADCAST_EXIT_TIMEOUT_S="20")
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server) == ["log"]


def test_a_process_without_file_descriptors_emits_once_it_has_some(valkey_server: RedisServer) -> None:
    code = """
        import os, resource
        from broadcast import emit, flush, stats
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        import redis  # its files are read while there are descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        emit("x")
        assert not flush(0.5)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert flush(10), stats()
    """
    done = run(code, valkey_server.url)
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server) == ["x"]


def test_many_events_without_redis_need_no_more_memory_than_the_buffer(refused_url: str) -> None:
    code = """
        import resource
        from broadcast import emit, stats
        for i in range(20_000):
            emit("x", {"i": i, "text": "y" * 50})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(300_000):
            emit("x", {"i": i, "text": "y" * 50})
        told = stats()
        assert told.emitted == 320_000 == told.buffered + told.dropped["buffer_full"], told
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
        import os; os._exit(0)
    """
    done = run(code, refused_url)
    assert (done.code, done.err) == (0, "")
    assert int(done.out) < 40_000  # KiB; redis itself is loaded meanwhile
