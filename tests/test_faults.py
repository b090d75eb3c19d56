"""The emitter behind a network and a server that fail in every way: once, in order, or announced.

Nothing here is pretended but the network: the server is a Valkey, its states are its own, and the proof is what XRANGE
gives afterwards.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.emitter import sender as sender_module
from broadcast.settings import Settings
from tests.faults import Direction, FaultProxy
from tests.programs import wait_until
from tests.servers import RedisServer, running, valkey_binary

BATCH = 3
MIND = ("--user", "mind", "on", ">secret", "allkeys", "allchannels", "+@all")


def emitter_of(url: str, **changes: Any) -> Broadcaster:
    return Broadcaster(settings=Settings(redis_url=url, **{"stream_events_max": 1_000_000, **changes}))


@pytest.fixture
def proxy(valkey_server: RedisServer) -> Iterator[FaultProxy]:
    """In front of the shared Valkey."""
    proxy = FaultProxy(valkey_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def own_proxy(own_server: RedisServer) -> Iterator[FaultProxy]:
    """In front of this test's own Valkey."""
    proxy = FaultProxy(own_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that hardly waits before it connects again."""
    monkeypatch.setattr(sender_module, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(sender_module, "BACKOFF_MAX_S", 0.05)


Entry = tuple[int, Any]


def entries_of(server: RedisServer, producer: str, *, after: str = "-") -> list[Entry]:
    """The seq, from `by`, and the event of every entry of one producer, in the order of the log."""
    with server.client() as client:
        read: Any = client.xrange("v5:stream", after)
    found = []
    for _, fields in read:
        name, _, seq = fields[b"by"].decode().rpartition(":")
        if name == producer:
            found.append((int(seq), json.loads(fields[b"event"])))
    return found


def assert_whole(server: RedisServer, emitter: Broadcaster, streams: dict[int, int]) -> int:
    """The log holds every event of every thread once and in order, but for what it announces; the stats say the same.

    Args:
        server: where the log is.
        emitter: who appended; flushed.
        streams: how many events each thread emitted, as `{"t": thread, "i": 0, 1, 2, …}`.

    Returns:
        How many are announced as lost.
    """
    stats = emitter.stats()
    entries = entries_of(server, stats.producer)
    assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1)), "by: doubled, missing or out of order"
    emitted = sum(streams.values())
    lost: int = sum(event["data"]["count"] for _, event in entries if event["type"] == "broadcast.lost")
    seen: dict[int, list[int]] = {thread: [] for thread in streams}
    for _, event in entries:
        if event["type"] == "x":
            seen[event["data"]["t"]].append(event["data"]["i"])
    for thread, numbers in seen.items():
        assert all(one < other for one, other in pairwise(numbers)), f"order of thread {thread}"
    assert sum(map(len, seen.values())) + lost == emitted
    if not lost:
        assert seen == {thread: list(range(count)) for thread, count in streams.items()}
    assert stats.emitted == emitted
    assert stats.appended == len(entries)
    assert (stats.buffered, stats.buffered_bytes, stats.last_error) == (0, 0, None)
    assert sum(stats.dropped.values()) == stats.dropped["buffer_full"] == lost
    return lost


# --- a cut at every byte


class Cutter:
    """Emits batches of one producer, each into one cut, and looks at the log after each."""

    def __init__(self, server: RedisServer, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.server = server
        self.emitter = emitter_of(proxy.url)
        self.sent = 0
        self._client = server.client()
        self._seen = "-"

    def emit(self, count: int = BATCH) -> None:
        for _ in range(count):
            self.emitter.emit("x", {"t": 0, "i": self.sent, "pad": 10**9 + self.sent})
            self.sent += 1

    def prove(self, where: object) -> None:
        """What came since the last look is what was emitted since, by `by`, once and in order."""
        assert self.emitter.flush(20), f"{where}: {self.emitter.stats()}"
        fresh: Any = self._client.xrange("v5:stream", self._seen)
        prefix = f"{self.emitter.stats().producer}:".encode()
        seqs = [int(f[b"by"].removeprefix(prefix)) for _, f in fresh if f[b"by"].startswith(prefix)]
        assert seqs == list(range(self.sent - len(seqs) + 1, self.sent + 1)), where
        assert len(seqs) >= min(BATCH, self.sent), where
        self._seen = "(" + fresh[-1][0].decode()

    def close(self) -> None:
        self.emitter.close(0)
        self._client.close()


@pytest.fixture
def cutter(valkey_server: RedisServer, proxy: FaultProxy, hasty: None) -> Iterator[Cutter]:
    cutter = Cutter(valkey_server, proxy)
    yield cutter
    cutter.close()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_cut_at_any_byte_of_a_batch_neither_doubles_nor_loses(
    cutter: Cutter, proxy: FaultProxy, direction: Direction, reset: bool
) -> None:
    """Every N of the reply; every N of the request with FIN, every third with RST."""
    cutter.emit()
    cutter.prove("before")
    before = proxy.passed[direction]
    cutter.emit()
    cutter.prove("measured")
    # A reply is passed before its reader can see it and counted right after.
    wait_until(lambda: proxy.passed[direction] > before)
    length = proxy.passed[direction] - before
    assert length > (30 if direction == "reply" else 400)
    step = 3 if reset and direction == "request" else 1
    places = range(0, length + 1, step)
    for after in places:
        proxy.cut(direction, after, reset=reset)
        cutter.emit()
        cutter.prove((direction, after))
    assert proxy.cuts == len(places)
    # The last cut may fall behind a batch that is settled: its end is met by the next one.
    cutter.emit()
    cutter.prove("after")
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0
    assert cutter.emitter.stats().connects >= proxy.cuts


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_cut_while_it_connects_is_no_different(cutter: Cutter, proxy: FaultProxy, direction: Direction) -> None:
    """The handshake, the script (loaded anew by every connection) and the question, with a batch behind them."""
    cutter.emit()
    cutter.prove("before")
    length = proxy.passed[direction]
    for after in sorted({*range(0, length, max(1, length // 40)), *range(max(0, length - 30), length)}):
        proxy.cut("reply", 0)  # the batch is carried out, and nobody hears of it
        cutter.emit()
        wait_until(lambda: not proxy.is_armed)
        proxy.cut(direction, after)
        cutter.emit()
        cutter.prove((direction, after))
    proxy.heal()
    cutter.emit()
    cutter.prove("after")
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0


@pytest.mark.parametrize("when", ["right before it is sent again", "after that", "after later ones"])
def test_a_copy_of_a_batch_that_arrives_late_is_recognised(cutter: Cutter, proxy: FaultProxy, when: str) -> None:
    """What the sender gave up for lost was only slow: its question was answered before the batch was carried out."""
    cutter.emit()
    cutter.prove("before")
    for i in range(20):
        proxy.hold(release_before=b'"type":"x"' if when.startswith("right") else None)
        cutter.emit()
        assert cutter.emitter.flush(20)
        if when == "after later ones":
            cutter.emit()
            assert cutter.emitter.flush(20)
        if not when.startswith("right"):
            assert proxy.release().startswith(b"*4")
        cutter.prove((when, i))
    assert proxy.release() == b""
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0


faults = st.tuples(st.sampled_from(["request", "reply"]), st.integers(0, 4000), st.booleans(), st.integers(1, 40))


@given(plan=st.lists(faults, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_cuts_comes_to_the_same(
    valkey_server: RedisServer, proxy: FaultProxy, hasty: None, plan: list[tuple[Direction, int, bool, int]]
) -> None:
    cutter = Cutter(valkey_server, proxy)
    try:
        for direction, after, reset, count in plan:
            proxy.cut(direction, after, reset=reset)
            cutter.emit(count)
            time.sleep(0.001)
        proxy.heal()
        cutter.emit()
        assert cutter.emitter.flush(20)
        assert assert_whole(valkey_server, cutter.emitter, {0: cutter.sent}) == 0
    finally:
        proxy.heal()
        cutter.close()


# --- replies that are slow or make no sense


def test_a_connection_that_drips_byte_by_byte_is_waited_for(cutter: Cutter, proxy: FaultProxy) -> None:
    cutter.emit()
    cutter.prove("before")
    proxy.drip("request", 0.0005)
    proxy.drip("reply", 0.01)
    for i in range(2):
        cutter.emit()
        cutter.prove(i)
    assert cutter.emitter.stats().connects == 1
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0


def test_a_delay_costs_time_and_nothing_else(cutter: Cutter, proxy: FaultProxy) -> None:
    cutter.emit()
    cutter.prove("before")
    proxy.delay(0.1)
    began = time.monotonic()
    cutter.emit(500)
    assert time.monotonic() - began < 5  # had each of them waited, it were a minute
    cutter.prove("delayed")
    assert cutter.emitter.stats().connects == 1
    assert (cutter.emitter.stats().append_ms or 0) >= 200
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0


GARBAGE = [
    b"?\r\n",
    b"\r\n",
    b"\x00" * 64,
    b"*1\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*4\r\n:1\r\n",
    b"*4\r\n$1\r\nx\r\n$0\r\n\r\n:0\r\n$0\r\n\r\n",
    b"*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
    b":5\r\n",
    b"$-1\r\n",
    b"$999999999\r\nx",
    b"+OK\r\n",
    b"-\r\n",
    b"-ERR\r\n",
    b"\xff\xfe\xfd\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    random.Random(5).randbytes(200),
]


def test_garbage_is_survived_whatever_it_is(cutter: Cutter, proxy: FaultProxy) -> None:
    cutter.emit()
    cutter.prove("before")
    for i, garbage in enumerate(GARBAGE):
        proxy.garble(garbage)
        cutter.emit()
        wait_until(lambda: not proxy.is_armed)
        cutter.emit()
        # Some of it is the beginning of a reply: the real one that comes behind does not complete it. Cut it off.
        time.sleep(0.02)
        proxy.reset_all()
        cutter.prove(garbage)
        assert proxy.garbled == i + 1
    assert assert_whole(cutter.server, cutter.emitter, {0: cutter.sent}) == 0


# --- four threads emit meanwhile


class Minds:
    """Threads that emit without a pause worth the name, and one that notes what the stats tell."""

    def __init__(self, emitter: Broadcaster, *, threads: int = 4, pause_s: float = 0.001) -> None:
        self.emitter = emitter
        self.counts = dict.fromkeys(range(threads), 0)
        self.raised: list[BaseException] = []
        self.slowest_s = 0.0
        self.told: set[str] = set()
        self._pause_s = pause_s
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._emit, args=(t,)) for t in self.counts]
        self._threads.append(threading.Thread(target=self._watch))

    def _emit(self, thread: int) -> None:
        try:
            while not self._done.wait(self._pause_s):
                began = time.thread_time()
                self.emitter.emit("x", {"t": thread, "i": self.counts[thread]})
                self.slowest_s = max(self.slowest_s, time.thread_time() - began)
                self.counts[thread] += 1
        except BaseException as error:
            self.raised.append(error)

    def _watch(self) -> None:
        while not self._done.wait(0.003):
            if error := self.emitter.stats().last_error:
                self.told.add(error.lower())

    def have_been_told(self, words: list[str]) -> bool:
        """Whether the stats have told of one of them; at once where there is nothing to tell."""
        return words == [""] or any(word in told for word in words for told in set(self.told))

    def __enter__(self) -> Minds:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(10)


Fault = Callable[[RedisServer, FaultProxy], AbstractContextManager[None]]
"""A server and the proxy in front of it fail inside, and are whole behind."""

FAULT_S = 0.35


def _command(server: RedisServer, *arguments: str) -> Any:
    with server.client() as client:
        return client.execute_command(*arguments)


def _repeatedly(act: Callable[[], object], *, every_s: float, for_s: float = FAULT_S) -> None:
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        act()
        time.sleep(every_s)


@contextlib.contextmanager
def refused_port(_server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    proxy.refuse()
    yield
    proxy.heal()


@contextlib.contextmanager
def black_hole(_server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    proxy.swallow()
    yield
    wait_until(lambda: proxy.swallowed > 0)  # the sender may have been pausing
    proxy.heal()


@contextlib.contextmanager
def dripping(_server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    proxy.drip("request", 0.01)
    proxy.drip("reply", 0.01)
    yield
    proxy.heal()


@contextlib.contextmanager
def resets_in_replies(_server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    chance = random.Random(1)
    _repeatedly(lambda: proxy.cut("reply", chance.randrange(50), reset=True), every_s=0.01)
    yield
    proxy.heal()


@contextlib.contextmanager
def garbled_replies(_server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    chance = random.Random(2)
    _repeatedly(lambda: proxy.garble(chance.choice(GARBAGE)), every_s=0.02)
    yield
    proxy.heal()
    proxy.reset_all()


@contextlib.contextmanager
def misconf(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    """A directory stands where the snapshot goes, which stops root too."""
    in_the_way = server.folder / "dump.rdb"
    in_the_way.mkdir()

    def saved(status: bytes) -> bool:
        with server.client() as client:
            info: Any = client.info("persistence")
        return bool(info["rdb_last_bgsave_status"].encode() == status and not info["rdb_bgsave_in_progress"])

    _command(server, "CONFIG", "SET", "save", "3600 1000000")
    _command(server, "BGSAVE")
    wait_until(lambda: saved(b"err"))
    yield
    in_the_way.rmdir()
    _command(server, "BGSAVE")
    wait_until(lambda: saved(b"ok"))
    _command(server, "CONFIG", "SET", "save", "")
    in_the_way.unlink()


@contextlib.contextmanager
def replica(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _command(server, "REPLICAOF", "127.0.0.1", "1")
    yield
    _command(server, "REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def loading(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for i in range(600):
            pipe.set(f"ballast:{i}", "x" * 200)
        pipe.execute()
        # As a snapshot, in whose loading the server answers now and then.
        client.bgrewriteaof()

        def rewritten() -> bool:
            info: Any = client.info("persistence")
            return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

        wait_until(rewritten)
    kept, server.options = server.options, (*server.options, "--key-load-delay", "1000")
    server.options += ("--loading-process-events-interval-bytes", "1024")
    server.restart(signal.SIGKILL)
    server.options = kept
    _command(server, "CONFIG", "SET", "key-load-delay", "0")
    yield


@contextlib.contextmanager
def no_right_to_the_stream(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _command(server, "ACL", "SETUSER", "mind", "resetkeys", "~{v5:stream}:*")
    yield
    _command(server, "ACL", "SETUSER", "mind", "allkeys")


@contextlib.contextmanager
def no_right_to_the_channel(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _command(server, "ACL", "SETUSER", "mind", "resetchannels")
    yield
    _command(server, "ACL", "SETUSER", "mind", "allchannels")


@contextlib.contextmanager
def no_right_to_append(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _command(server, "ACL", "SETUSER", "mind", "-xadd")
    yield
    _command(server, "ACL", "SETUSER", "mind", "+xadd")


@contextlib.contextmanager
def _something_else_under(pattern: str, server: RedisServer) -> Iterator[None]:
    """Another kind of value stands there; what stood there comes back later."""
    with server.client() as client:
        found: Any = client.keys(pattern)
        [key] = found
        client.pipeline(transaction=True).rename(key, "aside").rpush(key, "in the way").execute()
        yield
        client.rename("aside", key)


def wrong_type_of_the_stream(server: RedisServer, _proxy: FaultProxy) -> AbstractContextManager[None]:
    return _something_else_under("v5:stream", server)


def wrong_type_of_the_logs_hash(server: RedisServer, _proxy: FaultProxy) -> AbstractContextManager[None]:
    return _something_else_under("{v5:stream}:log", server)


def wrong_type_of_the_producers_seq(server: RedisServer, _proxy: FaultProxy) -> AbstractContextManager[None]:
    return _something_else_under("{v5:stream}:producer:*", server)


@contextlib.contextmanager
def out_of_memory(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _command(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    _command(server, "CONFIG", "SET", "maxmemory", "1")
    yield
    _command(server, "CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def no_authentication(server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    _command(server, "ACL", "SETUSER", "mind", "off")
    proxy.reset_all()
    yield
    _command(server, "ACL", "SETUSER", "mind", "on")


@contextlib.contextmanager
def flushed_scripts(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    _repeatedly(lambda: _command(server, "SCRIPT", "FLUSH"), every_s=0.01)
    yield


@contextlib.contextmanager
def too_many_clients(server: RedisServer, proxy: FaultProxy) -> Iterator[None]:
    """Others take every place; the sender loses its own, and gets one when they leave."""
    with server.client() as client, contextlib.ExitStack() as others:
        client.config_set("maxclients", 6)
        until = time.monotonic() + 10
        # The places have to be full while the sender, which tries all the time, has none.
        while len(client.client_list()) < 6 or any(c["name"] == "broadcast-emitter" for c in client.client_list()):
            assert time.monotonic() < until
            proxy.reset_all()
            others.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.02)
        yield
        others.close()
        client.config_set("maxclients", 1000)


@contextlib.contextmanager
def killed_clients(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    with server.client() as client:
        kill = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        _repeatedly(lambda: client.execute_command(*kill), every_s=0.01, for_s=2 * FAULT_S)
    yield


@contextlib.contextmanager
def restarts(server: RedisServer, _proxy: FaultProxy) -> Iterator[None]:
    for _ in range(5):
        time.sleep(0.3)
        server.restart(signal.SIGKILL)
    yield


# What the stats tell meanwhile; any of the words will do, and none at all means that there is nothing to complain of.
FAULTS: dict[Fault, str] = {
    refused_port: "refused",
    black_hole: "timeout",
    dripping: "timeout",
    resets_in_replies: "reset|closed|connection",
    garbled_replies: "error",
    misconf: "misconf|unable to persist|snapshot",
    replica: "read only",
    loading: "loading",
    no_right_to_the_stream: "permission|noperm|acl",
    no_right_to_the_channel: "",
    no_right_to_append: "permission|noperm|acl|can't run",
    wrong_type_of_the_stream: "wrong kind",
    wrong_type_of_the_logs_hash: "wrong kind",
    wrong_type_of_the_producers_seq: "wrong kind",
    out_of_memory: "oom|maxmemory",
    no_authentication: "invalid username-password|noauth|wrongpass|authentication",
    flushed_scripts: "",
    too_many_clients: "max number of clients",
    killed_clients: "closed|reset|connection",
    restarts: "refused|closed|reset|connection",
}


@pytest.fixture
def mind_url(own_server: RedisServer, own_proxy: FaultProxy) -> str:
    """Through the proxy, with an account of its own."""
    _command(own_server, "ACL", "SETUSER", *MIND[1:])
    own_server.options += MIND  # a restart forgets it otherwise
    return f"redis://mind:secret@127.0.0.1:{own_proxy.port}/0"


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_four_threads_emit_through_it(
    own_server: RedisServer, own_proxy: FaultProxy, mind_url: str, fault: Fault
) -> None:
    emitter = emitter_of(mind_url, buffer_events_max=100_000)
    words = FAULTS[fault].split("|")
    with Minds(emitter) as minds:
        wait_until(lambda: emitter.stats().appended > 20)
        with fault(own_server, own_proxy):
            time.sleep(FAULT_S)
            wait_until(lambda: minds.have_been_told(words), what=f"{words} among {minds.told}")
        time.sleep(0.1)
    assert emitter.flush(20), emitter.stats()
    assert minds.raised == []
    assert min(minds.counts.values()) > 50
    assert minds.slowest_s < 0.1  # of the thread's own time: what a busy machine takes is not emit()'s
    assert assert_whole(own_server, emitter, minds.counts) == 0
    if words == [""]:
        assert minds.told == set()
    if fault is no_right_to_the_channel:
        assert emitter.stats().unpublished > 20
    else:
        assert emitter.stats().unpublished == 0
    assert emitter.close()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fault", [refused_port, replica, resets_in_replies], ids=lambda fault: fault.__name__)
def test_what_a_small_buffer_drops_meanwhile_is_announced_to_the_event(
    own_server: RedisServer, own_proxy: FaultProxy, mind_url: str, fault: Fault
) -> None:
    emitter = emitter_of(mind_url, buffer_events_max=50)
    with Minds(emitter) as minds:
        wait_until(lambda: emitter.stats().appended > 20)
        with fault(own_server, own_proxy):
            time.sleep(FAULT_S)
        own_proxy.refuse()
        time.sleep(0.3)
        own_proxy.heal()
        time.sleep(0.1)
    assert emitter.flush(20), emitter.stats()
    assert minds.raised == []
    assert assert_whole(own_server, emitter, minds.counts) == emitter.stats().dropped["buffer_full"] > 0
    emitter.close()


# --- longer


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
def test_every_fault_in_any_order_upon_one_emitter(tmp_path: Path, seed: int) -> None:
    """With the sender's real pauses, a buffer that sometimes is too small, and two faults at once now and then."""
    chance = random.Random(seed)
    with running(valkey_binary(), tmp_path / "valkey", options=MIND) as server:
        proxy = FaultProxy(server.port)
        emitter = emitter_of(f"redis://mind:secret@127.0.0.1:{proxy.port}/0", buffer_events_max=3000)
        try:
            with Minds(emitter) as minds:
                wait_until(lambda: emitter.stats().appended > 20)  # some faults want something to spoil
                for fault in chance.sample(list(FAULTS), len(FAULTS)):
                    with fault(server, proxy):
                        if chance.random() < 0.5:
                            proxy.cut("reply", chance.randrange(60), reset=True)
                        time.sleep(chance.uniform(0, 3))
                    time.sleep(chance.uniform(0, 1))
                proxy.heal()
            assert emitter.flush(30), emitter.stats()
            assert minds.raised == []
            assert_whole(server, emitter, minds.counts)
        finally:
            emitter.close(0)
            proxy.close()


@pytest.mark.chaos
@pytest.mark.usefixtures("hasty")
def test_a_restart_every_third_of_a_second_for_twenty_seconds(
    own_server: RedisServer, own_proxy: FaultProxy, mind_url: str
) -> None:
    emitter = emitter_of(mind_url, buffer_events_max=100_000)
    with Minds(emitter) as minds:
        _repeatedly(lambda: own_server.restart(signal.SIGKILL), every_s=0.3, for_s=20)
    assert emitter.flush(20), emitter.stats()
    assert minds.raised == []
    assert assert_whole(own_server, emitter, minds.counts) == 0
    assert emitter.close()
