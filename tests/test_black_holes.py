"""Peers that swallow: packets to a port that are dropped, names that are never resolved, a server that is stopped.

Nobody answers, nobody refuses; every wait of the emitter has to end by itself, and none of them is the mind's.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.programs import environment, in_time, timed, wait_until
from tests.sentinels import assert_whole
from tests.servers import RedisServer, valkey_binary

EXIT_TIMEOUT_S = 0.7
LEAVING_S = 0.5
"""How much longer than its timeout an exit may take."""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses rather than drops")


class SynHole:
    """A port that drops every SYN: its queue of connections nobody accepts is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._queue: list[socket.socket] = []
        while self._takes_one_more():
            assert len(self._queue) < 10, "this system's queue has no end"

    def _takes_one_more(self) -> bool:
        knock = socket.socket()
        knock.settimeout(0.5)
        try:
            knock.connect(("127.0.0.1", self.port))
        except TimeoutError:
            knock.close()
            return False
        self._queue.append(knock)
        return True

    def close(self) -> None:
        for each in (*self._queue, self._listener):
            each.close()


@pytest.fixture
def syn_hole() -> Iterator[SynHole]:
    hole = SynHole()
    yield hole
    hole.close()


@contextlib.contextmanager
def emitting_to(url: str, **changes: Any) -> Iterator[Broadcaster]:
    emitter = Broadcaster(settings=Settings(redis_url=url, **{"stream_events_max": 1_000_000, **changes}))
    try:
        yield emitter
    finally:
        emitter.close(0)


@dataclass
class Left:
    code: int
    err: str
    after_s: float
    """How long it took from its last line to its end."""


def leave(code: str, url: str, *, last: str = "") -> Left:
    """Run a program that emits, and look at how it ends; that has to be in time."""
    return in_time(lambda: _leave(code, url, last), lambda left: left.after_s, max_s=EXIT_TIMEOUT_S + LEAVING_S)


def _leave(code: str, url: str, last: str) -> Left:
    told = "import time\nprint(time.monotonic(), flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{textwrap.dedent(code)}\n{told}{last}"],
        env=environment(url, BROADCAST_EXIT_TIMEOUT_S=str(EXIT_TIMEOUT_S)),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    # One clock for all processes of the machine.
    return Left(done.returncode, done.stderr, time.monotonic() - float(done.stdout))


# --- SYNs that are dropped


@linux_only
def test_a_port_that_drops_every_packet_costs_the_mind_nothing(syn_hole: SynHole, tmp_path: Path) -> None:
    """And when a server listens there at last, everything arrives."""
    with emitting_to(f"redis://127.0.0.1:{syn_hole.port}/0") as emitter:
        worst_s = 0.0
        for i in range(2000):
            began_s = time.thread_time()
            emitter.emit("x", {"i": i})
            worst_s = max(worst_s, time.thread_time() - began_s)
            if i % 100 == 0:
                time.sleep(0.02)
        assert worst_s < 0.05
        assert min(timed(lambda: emitter.flush(0.3)) for _ in range(3)) < 0.6
        assert not emitter.flush(0)
        wait_until(lambda: "timeout" in str(emitter.stats().last_error).lower())  # dropped, not refused
        assert (emitter.stats().connects, emitter.stats().buffered) == (0, 2000)
        syn_hole.close()
        server = RedisServer(valkey_binary(), tmp_path)
        server.port = syn_hole.port
        try:
            server.start()
            assert emitter.flush(20), emitter.stats()
            assert_whole(server, 2000)
        finally:
            server.stop(signal.SIGKILL)


@linux_only
@pytest.mark.parametrize(("last", "code"), [("", 0), ("raise SystemExit(3)", 3)])
def test_a_process_leaves_a_port_that_drops_every_packet_in_time(syn_hole: SynHole, last: str, code: int) -> None:
    url = f"redis://127.0.0.1:{syn_hole.port}"
    left = leave("from broadcast import emit\nfor i in range(100): emit('x')", url, last=last)
    assert (code, "") == (left.code, left.err)


@pytest.mark.parametrize("where", ["refused", "silent"])
def test_a_process_leaves_a_port_where_nobody_listens_or_answers_in_time(where: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if where == "silent":
            listener.listen(64)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        left = leave("from broadcast import emit\nfor i in range(100): emit('x')", url, last="raise SystemExit(4)")
    assert (4, "") == (left.code, left.err)


# --- names that are never resolved

RESOLVER = """
    import ctypes, socket, time
    waits = {waits}
    socket.getaddrinfo = lambda *_, **__: waits(60)
    from broadcast import emit
    for i in range(100):
        emit("x", {{"i": i}})
    time.sleep({before_s})
"""


IN_PYTHON, IN_C = "time.sleep", "ctypes.CDLL(None).sleep"
ONE, SENTINELS = "redis://nowhere.invalid", "redis+sentinel://nowhere.invalid/kai"


@pytest.mark.parametrize(
    ("url", "waits", "last", "code", "said"),
    [
        (ONE, IN_PYTHON, "", 0, ""),
        (ONE, IN_C, "raise SystemExit(3)", 3, ""),
        (SENTINELS, IN_C, "", 0, ""),
        (SENTINELS, IN_PYTHON, "raise ValueError('mine')", 1, "ValueError: mine"),
    ],
)
def test_a_resolver_that_never_answers_does_not_keep_a_process_from_leaving(
    url: str, waits: str, last: str, code: int, said: str
) -> None:
    before_s = 0.5 if code else 0
    left = leave(RESOLVER.format(waits=waits, before_s=before_s), url, last=last)
    assert left.code == code
    assert left.err.strip().splitlines()[-1:] == ([said] if said else [])
    assert "broadcast" not in left.err


# --- a server that is stopped


def emit_while_stopped(server: RedisServer, *, seconds: float) -> None:
    chance = random.Random(4)
    with emitting_to(server.url) as emitter:
        emitter.emit("x", {"i": 0})
        assert emitter.flush(20)
        count = 1
        worst_s = 0.0
        server.send_signal(signal.SIGSTOP)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            began_s = time.thread_time()
            emitter.emit("x", {"i": count})
            worst_s = max(worst_s, time.thread_time() - began_s)
            count += 1
            time.sleep(chance.uniform(0.001, 0.006))
        assert not emitter.flush(0.1)
        server.send_signal(signal.SIGCONT)
        assert emitter.flush(20), emitter.stats()
        assert worst_s < 0.05
        assert emitter.stats().appended == count
    assert_whole(server, count)


@pytest.mark.parametrize("seconds", [pytest.param(3, id="3 s"), pytest.param(30, id="30 s", marks=pytest.mark.chaos)])
def test_a_server_that_is_stopped_for_a_while_has_every_event_once_afterwards(
    own_server: RedisServer, seconds: float
) -> None:
    emit_while_stopped(own_server, seconds=seconds)


# --- a subscriber that reads nothing


def test_a_subscriber_that_reads_nothing_is_cut_and_disturbs_nobody(own_server: RedisServer) -> None:
    """At the server's own limit of 32 MB for such clients.

    Events below 16 KB: of larger ones Valkey 9.1 queues references, does not count them, and cuts nobody
    (Redis did so too, see its pull request 14934).
    """
    text = "y" * 8000
    with emitting_to(own_server.url) as emitter, own_server.client() as client, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", own_server.port))
        slow.sendall(b"SUBSCRIBE v5:events\r\n")
        wait_until(lambda: subscribers(client) == 1)
        emitted = 0
        took: list[float] = []
        while subscribers(client):
            assert emitted < 20_000, "it never was cut"
            began_s = time.monotonic()
            for _ in range(250):
                emitter.emit("x", {"i": emitted, "text": text})
                emitted += 1
            assert emitter.flush(10)
            took.append(time.monotonic() - began_s)
        assert emitted * len(text) > 32_000_000
        emitter.emit("x", {"i": emitted})
        assert emitter.flush(10)
        assert sorted(took)[len(took) // 2] < 1  # one of them may meet a busy machine
        assert (1, 0, None) == (emitter.stats().connects, emitter.stats().unpublished, emitter.stats().last_error)
    assert_whole(own_server, emitted + 1)


def subscribers(client: Any) -> int:
    return int(client.pubsub_numsub("v5:events")[0][1])
