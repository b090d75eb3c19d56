"""The mind's own circumstances: packages that are missing, a clock that steps, a loop and a log that must go on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.emitter import broadcaster as broadcaster_module
from broadcast.event import timestamp
from broadcast.settings import Settings
from tests.hosts import run, types_in
from tests.programs import environment
from tests.servers import RedisServer
from tests.test_process import hole_url, refused_url

__all__ = ["hole_url", "refused_url"]  # fixtures

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run_without(name: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(name=name) + textwrap.dedent(code)],
        env=environment(None, BROADCAST_EXIT_TIMEOUT_S="0.2"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- what runs on the mind's own thread


@pytest.mark.parametrize("screen", ["", "redact=['password', '/sk-[a-z]+/'], limits={'sense.*': '3/s'}"])
def test_on_the_emitting_thread_nothing_is_opened_imported_written_waited_for_or_locked(
    screen: str, valkey_server: RedisServer
) -> None:
    """As the interpreter itself tells it: its audit events, and every function in C that is called."""
    code = f"""
        import datetime, sys
        from _thread import LockType, RLock, get_ident
        from broadcast import Broadcaster
        b = Broadcaster({screen})
        b.emit("first", {{"needs care": object()}})
        assert b.flush(20), b.stats()
        mine, watching = get_ident(), False
        audited, locked, called = set(), set(), set()
        def audit(event, arguments):
            if watching and get_ident() == mine:
                audited.add(event)
        def profile(frame, event, function):
            if event == "c_call":
                called.add(function.__name__)
                if isinstance(getattr(function, "__self__", None), (LockType, RLock)):
                    locked.add(function.__name__)
        sys.addaudithook(audit)
        for data in (None, {{"a": 1}}, {{"a": [1, {{"b": (None, 2.5)}}]}}, {{"password": "sk-abc", 1: {{2}}}},
                     [object()], {{"when": datetime.date(2026, 1, 1), "text": "x" * 10**6}}, chr(0xd800)):
            for kind in ("x", "sense.x", None, "x" * 1000):
                sys.setprofile(profile)
                watching = True
                b.emit(kind, data)
                watching = False
                sys.setprofile(None)
        assert b.flush(20), b.stats()
        assert "dumps" in called, called
        assert audited <= {{"builtins.id", "gc.get_referents", "marshal.dumps", "marshal.loads"}}, audited
        assert locked <= {{"release"}}, locked
        assert not called & {{"open", "write", "sleep", "acquire", "select", "poll", "start_new_thread"}}, called
        assert b.stats().emitted + b.stats().dropped["limited"] == 29, b.stats()
    """
    done = run(code, valkey_server.url)
    assert (done.code, done.err) == (0, "")


# --- packages


def test_without_redis_events_wait_and_are_counted_and_the_reason_is_told() -> None:
    code = """
        import broadcast
        for i in range(20_000):
            assert broadcast.emit("x", {"i": i})["data"] == {"i": i}
        assert not broadcast.flush(1)
        with broadcast.cycle(1):
            pass
        told = broadcast.stats()
        assert told.emitted == 20_002 == told.buffered + told.dropped["buffer_full"], told
        assert told.appended == told.connects == 0, told
        print(told.last_error)
    """
    done = run_without("redis", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ModuleNotFoundError: No module named 'redis'\n"


def test_without_orjson_the_import_says_what_is_missing() -> None:
    done = run_without("orjson", "import broadcast")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'orjson'"
    code = """
        try:
            import broadcast
        except ImportError as error:
            print(error.name)
    """
    assert run_without("orjson", code).stdout == "orjson\n"


# --- the clock


@pytest.fixture
def lonely() -> Iterator[Broadcaster]:
    emitter = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1"))
    emitter._sender.running = True
    yield emitter
    emitter._sender.running = False


S = 10**9


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 250_000_000_000 * S) | st.integers(10**18, 10**18 + 3 * S), min_size=1))
@example([10**18, 10**18 + S - 1, 10**18 + S, 10**18 - 1, 10**18 - S, 10**18 + 999_999_999])
@example([0, S - 1, 1, 0])
def test_however_the_clock_steps_every_event_has_its_time(lonely: Broadcaster, nows: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for now_ns in nows:
            patched.setattr(broadcaster_module, "time_ns", lambda now_ns=now_ns: now_ns)
            assert lonely.emit("x")["ts"] == timestamp(now_ns)


def test_a_clock_that_steps_makes_nobody_wait(valkey_server: RedisServer) -> None:
    """The wall clock of the process jumps to and fro by years while it emits, flushes and leaves."""
    code = """
        import itertools, threading, time
        real, real_ns = time.time, time.time_ns
        steps = itertools.cycle([0, 10**8, -10**8, 3 * 10**8])
        time.time = lambda: real() + next(steps)
        time.time_ns = lambda: real_ns() + next(steps) * 10**9
        from broadcast import emit, flush, stats
        began = time.monotonic()
        for i in range(100):
            emit("x", {"i": i})
            if i % 10 == 0:
                assert flush(10), stats()
        assert flush(10), stats()
        assert time.monotonic() - began < 20
    """
    done = run(code, valkey_server.url)
    assert (done.code, done.err) == (0, "")
    assert types_in(valkey_server) == ["x"] * 100


# --- the event loop


@pytest.mark.parametrize("where", ["hole_url", "refused_url"])
def test_an_event_loop_is_not_a_millisecond_late_because_of_an_outage(
    where: str, request: pytest.FixtureRequest
) -> None:
    """As a rule: of many turns the one in the middle, against the same loop without events."""
    code = """
        import asyncio, time
        from broadcast import emit, stats
        async def turns(is_emitting):
            late = []
            for i in range(400):
                began = time.perf_counter()
                if is_emitting:
                    emit("x", {"i": i, "text": "y" * 100})
                    emit("x", {"i": i, "needs care": object()})
                await asyncio.sleep(0.001)
                late.append(time.perf_counter() - began - 0.001)
            return sorted(late)
        async def main():
            emit("first")
            while stats().connects == 0 and stats().last_error is None:
                await asyncio.sleep(0.01)  # redis is being imported in the sender's thread
            quiet, loud = await turns(False), await turns(True)
            print(quiet[200], loud[200], loud[-1], flush=True)
        asyncio.run(main())
        import os; os._exit(0)
    """
    for _ in range(3):  # a busy machine may spoil one
        done = run(code, request.getfixturevalue(where))
        assert (done.code, done.err) == (0, "")
        quiet, loud, worst = map(float, done.out.split())
        if loud - quiet < 0.001 and worst < 0.5:  # a wait for Redis would be 1 s and more
            return
    pytest.fail(f"{(loud - quiet) * 1000:.1f} ms later with events than without, {worst:.2f} s once")


# --- the log


def test_an_object_that_logs_and_a_log_that_emits_come_to_an_end(valkey_server: RedisServer) -> None:
    """The handler emits the record, whose argument logs when it is read, which the handler emits…"""
    code = """
        import logging
        from broadcast import emit, flush, stats
        log = logging.getLogger("mine")
        class Chatty:
            def __str__(self):
                log.warning("read: %s", "me")
                log.warning("read myself: %s", self)
                return "chatty"
            __repr__ = __str__
        class Handler(logging.Handler):
            def emit(self, record):
                emit("log", {"template": record.msg, "arguments": record.args})
        logging.basicConfig(level=logging.DEBUG, handlers=[Handler()])
        emit("x", {"chatty": Chatty()})
        log.error("hello %s", Chatty())
        assert flush(10), stats()
        told = stats()
        assert told.dropped["unencodable"] == 0, told
        print(told.emitted, told.dropped["nested"])
    """
    done = run(code, valkey_server.url)
    assert (done.code, done.err) == (0, "")
    types = types_in(valkey_server)
    emitted, nested = map(int, done.out.split())
    assert (types.count("x"), len(types)) == (1, emitted)
    assert types.count("log") >= 2
    assert nested >= 1


def test_what_the_sender_does_is_nobodys_log(refused_url: str) -> None:
    """With every logger heard and emitted, an outage would else feed itself."""
    code = """
        import logging, time, warnings
        from broadcast import emit, stats
        class Handler(logging.Handler):
            def emit(self, record):
                emit("log", {"from": record.name})
        logging.basicConfig(level=0, handlers=[Handler()])
        logging.captureWarnings(True)
        warnings.simplefilter("always")
        emit("x")
        deadline = time.monotonic() + 20
        while stats().last_error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        print(stats().emitted, stats().last_error is not None)
    """
    done = run(code, refused_url)
    assert (done.code, done.err, done.out) == (0, "", "1 True\n")
