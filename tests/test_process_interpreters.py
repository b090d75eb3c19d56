"""Where an interpreter begins and ends: subinterpreters, events at the last moment, descriptors that run out."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.hosts import events_in, producers_in, run_in_time, run_patiently, types_by_producer
from tests.servers import RedisServer, free_port

# --- subinterpreters

# Before 3.12 all interpreters share one lock, and orjson can be loaded by any of them.
only_before_312 = pytest.mark.skipif(sys.version_info >= (3, 12), reason="orjson loads in the main interpreter alone")
SUBINTERPRETER = """if True:
    import _xxsubinterpreters as interpreters, textwrap
    from broadcast import emit, flush, stats
    def inside(interpreter, code):
        interpreters.run_string(interpreter, textwrap.dedent(code))
"""


@only_before_312
@pytest.mark.parametrize("before", ["", "emit('main'); assert flush(20)"])
def test_a_subinterpreter_is_a_producer_of_its_own_and_delivers_at_its_end(
    before: str, valkey_server: RedisServer
) -> None:
    """It may have no daemon threads: events wait for flush() or the end, which send them in the caller's thread."""
    code = (
        SUBINTERPRETER
        + f"""
    {before or "pass"}
    for number in range(2):
        sub = interpreters.create()
        inside(sub, '''
            from broadcast import emit, flush, stats
            for n in range(3): emit("sub", {{"n": n, "set": {{n}}}})
            assert flush(20), stats()
            emit("sub.last")
            assert stats().buffered == 1
        ''')
        interpreters.destroy(sub)
    emit("main.after")
    """
    )
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    main = ["main", "main.after"] if before else ["main.after"]
    assert [main, *[["sub"] * 3 + ["sub.last"]] * 2] == types_by_producer(valkey_server)


@only_before_312
def test_a_subinterpreter_without_redis_keeps_what_fits_and_ends_in_time() -> None:
    code = (
        SUBINTERPRETER
        + """
    sub = interpreters.create()
    inside(sub, '''
        from broadcast import emit, stats
        for n in range(20_000): emit("sub")
        told = stats()
        assert told.emitted == 20_000 == told.buffered + told.dropped["buffer_full"], told
    ''')
    interpreters.destroy(sub)
    emit("main")
    """
    )
    done = run_in_time(code, f"redis://127.0.0.1:{free_port()}", max_s=15)

    assert (0, "", "") == (done.code, done.out, done.err)


@only_before_312
def test_an_interpreter_with_threads_ends_in_peace_once_its_broadcaster_is_closed(valkey_server: RedisServer) -> None:
    """As mod_wsgi makes them. Python aborts where any daemon thread is left in one, ours too: so close it before."""
    code = (
        SUBINTERPRETER
        + """
    sub = interpreters.create(isolated=False)
    inside(sub, '''
        import _thread, time
        from broadcast import emit, get_broadcaster, stats
        for n in range(3): emit("sub")
        assert get_broadcaster().close(20), stats()
        while _thread._count(): time.sleep(0.01)
    ''')
    interpreters.destroy(sub)
    emit("main")
    """
    )
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    assert [["main"], ["sub"] * 3] == types_by_producer(valkey_server)


# --- the first event at the last moment

LAST_MOMENTS = {
    "a handler from before the import": """
        import atexit
        atexit.register(lambda: (emit("late", {"from": "before"}), flush(20)))
        from broadcast import emit, flush
    """,
    "a handler from after the import": """
        import atexit
        from broadcast import emit
        atexit.register(lambda: emit("late", {"from": "after"}))
    """,
    "a handler that imports": """
        import atexit
        def late():
            from broadcast import emit, flush
            emit("late", {"from": "handler"})
            assert flush(20)
        atexit.register(late)
    """,
    "a thread that outlives the main one": """
        import threading, time
        def late():
            threading.main_thread().join()
            from broadcast import emit
            emit("late", {"from": "thread"})
        threading.Thread(target=late).start()
    """,
    "a thread that leaves": """
        import sys, threading
        from broadcast import emit
        def late():
            emit("late")
            sys.exit(3)
        leaver = threading.Thread(target=late); leaver.start(); leaver.join()
    """,
}


@pytest.mark.parametrize("moment", LAST_MOMENTS)
def test_the_first_event_of_all_may_come_while_the_program_leaves(moment: str, valkey_server: RedisServer) -> None:
    done = run_patiently(LAST_MOMENTS[moment], valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    assert [["late"]] == types_by_producer(valkey_server)


def test_what_is_emitted_around_the_exit_comes_in_its_order_and_only_the_unflushed_end_is_lost(
    valkey_server: RedisServer,
) -> None:
    """Handlers run in reverse: those from before the import come after ours, and have to flush for themselves."""
    code = """
        import atexit
        atexit.register(lambda: emit("4 lost or not"))
        atexit.register(lambda: (emit("3 before the import, flushed"), flush(20)))
        from broadcast import emit, flush
        atexit.register(lambda: emit("2 after the import"))
        emit("1 main")
        raise SystemExit(5)
    """
    done = run_patiently(code, valkey_server.url)

    assert (5, "", "") == (done.code, done.out, done.err)
    [events] = producers_in(valkey_server).values()
    types = [event["type"] for event in events]
    assert ["1 main", "2 after the import", "3 before the import, flushed"] == types[:3]
    assert types[3:] in ([], ["4 lost or not"])


# --- sudden ends

SUDDEN = {
    "os._exit": ("os._exit(4)", 4),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL); time.sleep(9)", -signal.SIGKILL),
}


@pytest.mark.parametrize("end", SUDDEN)
def test_a_sudden_end_loses_only_the_unsent_tail_and_holds_up_nobody(end: str, valkey_server: RedisServer) -> None:
    """What flush() has confirmed is there; of the rest a beginning without holes; all of it once."""
    line, code = SUDDEN[end]
    program = f"""
        import os, signal, time
        from broadcast import emit, flush
        for n in range(300): emit("x", {{"n": n}})
        assert flush(20)
        for n in range(300, 20_000): emit("x", {{"n": n}})
        {line}
    """
    done = run_patiently(program, valkey_server.url, BROADCAST_BUFFER_EVENTS_MAX="100000")

    assert (code, "", "") == (done.code, done.out, done.err)
    [events] = producers_in(valkey_server).values()
    assert list(range(len(events))) == [event["data"]["n"] for event in events]
    assert len(events) >= 300


# --- descriptors

STARVED = """if True:
    import os, resource, time
    from broadcast import emit, flush, stats
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    def take_all():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        try:
            while True: taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return taken
    def give_back(taken):
        for each in taken: os.close(each)
"""


@pytest.mark.parametrize("imported", [True, False])
def test_events_wait_while_all_descriptors_are_taken_from_the_first_event_on(
    imported: bool, valkey_server: RedisServer
) -> None:
    """Nor can redis-py be read from its files then; it is, later, and nobody has to ask."""
    code = (
        STARVED
        + f"""
    {"import redis" if imported else "pass"}
    taken = take_all()
    for n in range(300): emit("x", {{"n": n}})
    assert not flush(1)
    assert "Too many open files" in stats().last_error, stats()
    give_back(taken)
    deadline = time.monotonic() + 20
    while stats().appended < 300 and time.monotonic() < deadline: time.sleep(0.01)
    assert (stats().appended, stats().last_error) == (300, None), stats()
    """
    )
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    assert list(range(300)) == [event["data"]["n"] for event in events_in(valkey_server)]
    assert [["x"] * 300] == types_by_producer(valkey_server)


def test_a_connection_lost_while_all_descriptors_are_taken_comes_back_later(valkey_server: RedisServer) -> None:
    """And the host, whose descriptors they are, finds each of them as it was."""
    code = (
        STARVED
        + """
    emit("x"); assert flush(20)
    taken = take_all()
    import redis
    port = int(os.environ["REDIS_URL"].rsplit(":", 1)[1].split("/")[0])
    os.close(taken.pop())
    with redis.Redis(port=port) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    emit("x")
    time.sleep(0.5)
    for each in taken: os.fstat(each)
    give_back(taken)
    emit("x")
    assert flush(20), stats()
    """
    )
    done = run_patiently(code, valkey_server.url)

    assert (0, "", "") == (done.code, done.out, done.err)
    assert [["x"] * 3] == types_by_producer(valkey_server)
