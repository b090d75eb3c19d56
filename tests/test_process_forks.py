"""Forks of every kind: from many threads, unseen by Python, into a daemon, before an exec. Each process is its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.hosts import producers_in, run_patiently, types_by_producer
from tests.programs import in_time, wait_until
from tests.servers import RedisServer

# What Python's own fork does around the system call, and this one does not: it is what uWSGI does, or any C library.
UNSEEN_FORK = """if True:
    import ctypes, os, sys, time
    from broadcast import emit, flush, stats
    libc = ctypes.PyDLL(None)  # holds the interpreter's lock, so that the child has it too
    def unseen_fork():
        time.sleep(0.1)  # a thread that waits for that lock just then would leave it broken in the child, for ever
        return libc.fork()
    def wait(pid):
        assert os.waitpid(pid, 0)[1] == 0
"""


# --- a fork that Python does not see


def test_a_child_that_python_knows_nothing_of_emits_under_its_own_name(valkey_server: RedisServer) -> None:
    """And its own children too, whichever way they are made; what their parents had not sent is not theirs."""
    code = (
        UNSEEN_FORK
        + """
    emit("parent.before"); emit("parent.before")
    assert flush(20)
    pid = unseen_fork()
    if pid == 0:
        assert emit("child")["data"] == {}
        assert stats().emitted == 1, stats()
        assert flush(20)
        grandchild = unseen_fork()
        if grandchild == 0:
            emit("grandchild"); sys.exit(0)
        wait(grandchild)
        seen = os.fork()
        if seen == 0:
            emit("grandchild.seen"); sys.exit(0)
        wait(seen)
        emit("child.after")
        sys.exit(0)
    wait(pid)
    emit("parent.after")
    """
    )
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    expected = [["child", "child.after"], ["grandchild"], ["grandchild.seen"]]
    assert [*expected, ["parent.before", "parent.before", "parent.after"]] == types_by_producer(valkey_server)


def test_a_child_unseen_by_python_leaves_its_parents_unanswered_batch_alone(own_server: RedisServer) -> None:
    """The server is stopped at the fork: a batch is on its way, more waits, and both have the same connection."""
    assert own_server.process is not None
    code = (
        UNSEEN_FORK
        + f"""
    import signal
    emit("parent"); assert flush(20)
    os.kill({own_server.process.pid}, signal.SIGSTOP)
    emit("parent")
    while stats().buffered: time.sleep(0.01)
    for _ in range(500): emit("parent")
    pid = unseen_fork()
    os.kill({own_server.process.pid}, signal.SIGCONT)
    if pid == 0:
        for _ in range(500): emit("child")
        sys.exit(0)
    wait(pid)
    emit("parent")
    """
    )
    done = run_patiently(code, own_server.url)

    assert (0, "") == (done.code, done.err)
    assert [["child"] * 500, ["parent"] * 503] == types_by_producer(own_server)


def test_a_flush_before_its_first_event_is_nothing_to_a_child_unseen_by_python(valkey_server: RedisServer) -> None:
    """Its parent's events are its parent's to wait for; at exit, which only flushes, likewise."""
    code = (
        UNSEEN_FORK
        + """
    os.environ["REDIS_URL"] = "redis://127.0.0.1:1"
    emit("parent"); time.sleep(0.5)
    pid = unseen_fork()
    if pid == 0:
        began = time.monotonic()
        assert flush(20)
        print(time.monotonic() - began, flush=True)
        sys.exit(0)
    wait(pid)
    os._exit(0)
    """
    )
    done = in_time(lambda: run_patiently(code, valkey_server.url), lambda done: float(done.out), max_s=5)

    assert (0, "") == (done.code, done.err)
    assert done.took_s < 20


# --- forks in many threads


def fork_in_threads(*, threads: int, children: int, ready: str) -> str:
    return f"""
        import os, threading, time
        from broadcast import emit, flush
        {ready}
        stop = threading.Event()
        def keep_emitting():
            while not stop.is_set():
                emit("noise")
                time.sleep(0.0005)
        def fork_again_and_again(thread):
            for n in range({children}):
                pid = os.fork()
                if pid == 0:
                    emit("child", {{"thread": thread, "n": n, "i": 0}})
                    emit("child", {{"thread": thread, "n": n, "i": 1}})
                    os._exit(0 if flush(60) else 9)
                emit("parent", {{"thread": thread, "n": n}})
                ended.append(os.waitpid(pid, 0)[1])
        ended = []
        noise = [threading.Thread(target=keep_emitting) for _ in range(2)]
        forks = [threading.Thread(target=fork_again_and_again, args=(t,)) for t in range({threads})]
        for each in noise + forks: each.start()
        for each in forks: each.join()
        stop.set()
        for each in noise: each.join()
        assert ended == [0] * {threads * children}, ended
    """


def assert_every_child_spoke(server: RedisServer, *, threads: int, children: int) -> None:
    everyone = {(thread, n) for thread in range(threads) for n in range(children)}
    spoke, parents = [], []
    for events in producers_in(server).values():
        if events[0]["type"] == "child":
            assert [0, 1] == [event["data"]["i"] for event in events]
            assert {"child"} == {event["type"] for event in events}
            spoke.append((events[0]["data"]["thread"], events[0]["data"]["n"]))
        else:
            assert {"noise", "parent"} == {event["type"] for event in events}
            parents.append([(e["data"]["thread"], e["data"]["n"]) for e in events if e["type"] == "parent"])
    assert sorted(everyone) == sorted(spoke)
    assert [sorted(everyone)] == [sorted(each) for each in parents]


FORKED_WHEN = {
    "connected": "emit('noise'); assert flush(20)",
    "while the sender still imports": "emit('noise')",
}


@pytest.mark.parametrize("when", FORKED_WHEN)
def test_children_forked_in_eight_threads_at_once_each_deliver_their_own(valkey_server: RedisServer, when: str) -> None:
    code = fork_in_threads(threads=8, children=2, ready=FORKED_WHEN[when])
    done = run_patiently(code, valkey_server.url, BROADCAST_STREAM_EVENTS_MAX="1000000")

    assert (0, "") == (done.code, done.err)
    assert_every_child_spoke(valkey_server, threads=8, children=2)


def test_a_fork_that_begins_before_the_senders_imports_and_ends_after_them_says_nothing(
    valkey_server: RedisServer,
) -> None:
    """What is imported has hooks for forks, that take a lock before and release it behind; this fork had no before."""
    code = """
        import os, sys, time
        from broadcast import emit, flush
        assert not {"logging", "concurrent.futures.thread", "redis"} & set(sys.modules)
        waited = False
        def wait_for_the_imports():
            global waited
            until = time.monotonic() + 20
            while not (waited or flush(0)):
                assert time.monotonic() < until
                time.sleep(0.01)
            waited = True
        os.register_at_fork(before=wait_for_the_imports)
        emit("parent")
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                emit("child")
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        import concurrent.futures, logging
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(len, "ab").result() == 2
        assert not logging._lock._is_owned()
    """
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    assert [["child"]] * 3 + [["parent"]] == types_by_producer(valkey_server)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_sixteen_hundred_children_of_eight_threads_each_deliver_their_own(valkey_server: RedisServer) -> None:
    code = fork_in_threads(threads=8, children=200, ready=FORKED_WHEN["connected"])
    done = run_patiently(code, valkey_server.url, timeout_s=500, BROADCAST_STREAM_EVENTS_MAX="1000000")

    assert (0, "") == (done.code, done.err)
    assert_every_child_spoke(valkey_server, threads=8, children=200)


# --- daemons


DAEMON = """if True:
    import gc, json, os, socket, sys, time
    from broadcast import emit, flush, stats
    def close_everything():
        os.closerange(0, 256)
        for _ in range(3): os.open(os.devnull, os.O_RDWR)
    def open_its_own(folder):
        "So many that every number a connection had is taken; by sockets and by files."
        taken = []
        for n in range(20):
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            taken.append((near, far, open(f"{folder}/{n}", "w+b", buffering=0)))
        return taken
    def are_untouched(taken):
        for near, far, file in taken:
            for end in near, far:
                try:
                    return f"{end.fileno()} was sent {end.recv(1000)}"
                except BlockingIOError:
                    pass
            file.write(b"mine")
            if os.pread(file.fileno(), 100, 0) != b"mine":
                return f"{file.fileno()} holds {os.pread(file.fileno(), 100, 0)}"
            far.send(b"ping")
            if near.recv(10) != b"ping":
                return "a pair is not a pair any more"
        return "untouched"
    def daemonize():
        if os.fork(): os._exit(0)
        os.setsid()
        if os.fork(): os._exit(0)
"""
DAEMONS = {
    "silent until all is closed": ("", 0),
    "emits before it closes": ("emit('daemon'); assert flush(20)", 1),
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_nothing_is_written_into_what_a_daemon_opens_after_it_closed_everything(
    valkey_server: RedisServer, daemon: str, tmp_path: Path
) -> None:
    """python-daemon's order: fork, setsid, fork, close every descriptor. The numbers are used again at once."""
    before, count = DAEMONS[daemon]
    code = (
        DAEMON
        + f"""
    emit("parent"); assert flush(20)
    daemonize()
    {before or "pass"}
    close_everything()
    taken = open_its_own({str(tmp_path)!r})
    for _ in range(100): emit("daemon")
    try:
        told = {{"flushed": flush(20), "error": stats().last_error, "taken": None}}
        gc.collect()
        told["taken"] = are_untouched(taken)
    except BaseException as error:
        told = {{"failed": repr(error)}}
    with open({str(tmp_path / "told.new")!r}, "w") as file:
        json.dump(told, file)
    os.rename({str(tmp_path / "told.new")!r}, {str(tmp_path / "told")!r})
    """
    )
    done = run_patiently(code, valkey_server.url)  # its output ends when the daemon has closed it
    wait_until((tmp_path / "told").exists, what="what the daemon tells")

    assert (0, "", "") == (done.code, done.out, done.err)
    assert {"flushed": True, "error": None, "taken": "untouched"} == json.loads((tmp_path / "told").read_text())
    assert [["daemon"] * (100 + count), ["parent"]] == types_by_producer(valkey_server)


# --- subprocess with preexec_fn


def test_what_a_preexec_fn_emits_and_flushes_arrives_before_the_program_starts(valkey_server: RedisServer) -> None:
    """Without flush it ends like os._exit; neither holds up the program or repeats what its parent emitted."""
    code = """
        import subprocess, sys
        from broadcast import emit, flush
        def speak():
            emit("child", {"flushed": flush(0)})
            assert flush(20)
        for n in range(50): emit("parent")
        for act in speak, lambda: emit("unheard"), None:
            done = subprocess.run([sys.executable, "-c", "print('ran')"], preexec_fn=act, capture_output=True)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"ran\\n", b""), done
            emit("parent.after")
    """
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    heard = [types for types in types_by_producer(valkey_server) if types != ["unheard"]]
    assert [["child"], ["parent"] * 50 + ["parent.after"] * 3] == heard


def test_a_preexec_fn_without_redis_holds_up_no_program() -> None:
    code = """
        import subprocess, sys
        from broadcast import emit
        emit("parent")
        subprocess.run(["true"], preexec_fn=lambda: emit("child"), check=True)
        import os; os._exit(0)
    """
    with socket.create_server(("127.0.0.1", 0)) as hole:
        done = run_patiently(code, f"redis://127.0.0.1:{hole.getsockname()[1]}")

    assert (0, "", "") == (done.code, done.out, done.err)
    assert done.took_s < 10
