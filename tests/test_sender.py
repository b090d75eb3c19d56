"""The sender between emit() and a Redis that refuses, stops, dies, forgets: once, in order, or announced."""

from __future__ import annotations

import _thread
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from broadcast import Broadcaster
from broadcast.emitter import sender as sender_module
from broadcast.emitter.buffer import Buffer, Loss
from broadcast.emitter.connection import AppendReply
from broadcast.emitter.ledger import Batch
from broadcast.emitter.sender import Sender
from broadcast.settings import Settings
from tests.faults import Direction, FaultProxy
from tests.programs import wait_until
from tests.servers import RedisServer, free_port, valkey_binary


def emitter_of(url: str, **changes: Any) -> Broadcaster:
    return Broadcaster(settings=Settings(redis_url=url, **changes))


def entries(server: RedisServer) -> list[tuple[int, Any]]:
    """The log: the seq and the event of every entry, all of one producer."""
    with server.client() as client:
        read: Any = client.xrange("v5:stream")
    return [(int(fields[b"by"].rpartition(b":")[2]), json.loads(fields[b"event"])) for _, fields in read]


def numbers(server: RedisServer) -> list[int]:
    return [event["data"]["i"] for _, event in entries(server) if event["type"] == "x"]


def seqs(server: RedisServer) -> list[int]:
    return [seq for seq, _ in entries(server)]


def lost(server: RedisServer) -> list[Any]:
    return [event["data"] for _, event in entries(server) if event["type"] == "broadcast.lost"]


def emit_numbers(emitter: Broadcaster, first: int, last: int) -> None:
    for i in range(first, last):
        emitter.emit("x", {"i": i})


@pytest.fixture
def emitter(own_server: RedisServer) -> Iterator[Broadcaster]:
    emitter = emitter_of(own_server.url)
    yield emitter
    emitter.close(0)


@pytest.fixture
def absent_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that nobody has started yet."""
    server = RedisServer(valkey_binary(), tmp_path)
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def curious(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle sender asks soon."""
    monkeypatch.setattr(sender_module, "IDLE_ASK_S", 0.1)


# --- Redis is away


def test_what_was_emitted_before_redis_was_there_arrives_with_its_own_times(absent_server: RedisServer) -> None:
    emitter = emitter_of(absent_server.url)
    events = [emitter.emit("x", {"i": i}) for i in range(50)]
    assert not emitter.flush(0.3)
    assert "refused" in str(emitter.stats().last_error).lower()
    assert emitter.stats().buffered == 50
    absent_server.start()
    assert emitter.flush(15)
    assert entries(absent_server) == list(enumerate(events, 1))
    assert emitter.stats().last_error is None
    emitter.close()


def test_a_stopped_redis_that_goes_on_has_every_event_once(own_server: RedisServer, emitter: Broadcaster) -> None:
    """It still acknowledges TCP: the batch times out, is sent again, and the first copy is carried out as well."""
    emit_numbers(emitter, 0, 50)
    assert emitter.flush()
    own_server.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 3
    i = 50
    while time.monotonic() < deadline:
        emitter.emit("x", {"i": i})
        i += 1
        time.sleep(0.002)
    assert not emitter.flush(0.01)
    own_server.send_signal(signal.SIGCONT)
    assert emitter.flush(15)
    assert numbers(own_server) == list(range(i))
    assert seqs(own_server) == list(range(1, i + 1))


def test_kill_and_restart_under_steady_emission_neither_lose_nor_double(
    own_server: RedisServer, emitter: Broadcaster
) -> None:
    done = threading.Event()
    count = 0

    def emit_steadily() -> None:
        nonlocal count
        while not done.is_set():
            emitter.emit("x", {"i": count})
            count += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=emit_steadily)
    thread.start()
    for _ in range(4):
        time.sleep(0.3)
        own_server.restart(signal.SIGKILL, away_s=0.1)
    done.set()
    thread.join()
    assert emitter.flush(15)
    assert numbers(own_server) == list(range(count))
    assert seqs(own_server) == list(range(1, count + 1))
    assert emitter.stats().appended == count
    assert emitter.stats().connects >= 4


@pytest.mark.chaos
def test_a_restart_every_second_for_a_minute_neither_loses_nor_doubles(
    own_server: RedisServer, emitter: Broadcaster
) -> None:
    count = 0
    for _ in range(60):
        until = time.monotonic() + 0.9
        own_server.restart(signal.SIGKILL)
        while time.monotonic() < until:
            emitter.emit("x", {"i": count})
            count += 1
            time.sleep(0.0005)
    assert emitter.flush(15)
    assert seqs(own_server)[-1] == count
    assert numbers(own_server) == list(range(count))[-len(numbers(own_server)) :]


def test_a_listener_that_never_answers_costs_nothing_but_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        emitter = emitter_of(f"redis://127.0.0.1:{hole.getsockname()[1]}")
        began = time.monotonic()
        emit_numbers(emitter, 0, 2000)
        assert time.monotonic() - began < 2
        assert not emitter.flush(0.2)
        assert not emitter.close(0.1)
        assert time.monotonic() - began < 4
        assert emitter.stats().buffered == 2000


def test_a_name_that_is_never_resolved_holds_up_the_sender_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving = threading.Event()

    def hang(*_arguments: Any, **_options: Any) -> Any:
        resolving.set()
        time.sleep(8)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    emitter = emitter_of("redis://nowhere.invalid")
    emitter.emit("x")
    assert resolving.wait(10)
    began = time.monotonic()
    emit_numbers(emitter, 0, 1000)
    assert not emitter.close(0.2)
    assert time.monotonic() - began < 6


def test_an_address_that_is_none_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "BACKOFF_MAX_S", 0.05)
    emitter = emitter_of("gopher://localhost")
    emitter.emit("x")
    wait_until(lambda: "begins with" in str(emitter.stats().last_error))
    emitter.close(0)


# --- Redis comes back without its tail


class Rewinder:
    """Puts a server back to where it was when this was made."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        server.wait_until_written()
        self.copy = server.folder.with_name("copy")
        shutil.copytree(server.folder, self.copy)

    def rewind(self) -> None:
        self.server.fall_back_to(self.copy)


def test_a_lost_tail_is_appended_again(own_server: RedisServer, emitter: Broadcaster) -> None:
    emit_numbers(emitter, 0, 20)
    assert emitter.flush()
    rewinder = Rewinder(own_server)
    emit_numbers(emitter, 20, 50)
    assert emitter.flush()
    rewinder.rewind()
    assert numbers(own_server) == list(range(20))
    emit_numbers(emitter, 50, 60)
    assert emitter.flush(15)
    assert numbers(own_server) == list(range(60))
    assert seqs(own_server) == list(range(1, 61))
    assert emitter.stats().appended == 60


@pytest.mark.usefixtures("curious")
def test_an_idle_producer_asks_and_heals_its_lost_tail(own_server: RedisServer, emitter: Broadcaster) -> None:
    emit_numbers(emitter, 0, 20)
    assert emitter.flush()
    rewinder = Rewinder(own_server)
    emit_numbers(emitter, 20, 40)
    assert emitter.flush()
    rewinder.rewind()
    wait_until(lambda: len(seqs(own_server)) == 40)
    assert numbers(own_server) == list(range(40))


@pytest.mark.usefixtures("curious")
def test_what_is_no_longer_kept_is_announced_where_it_stood(own_server: RedisServer, emitter: Broadcaster) -> None:
    emit_numbers(emitter, 0, 10)
    assert emitter.flush()
    rewinder = Rewinder(own_server)
    emit_numbers(emitter, 10, 30)
    assert emitter.flush()
    emitter._sender._ledger.keep_s = 0.0
    wait_until(lambda: not emitter._sender._ledger._kept)  # the idle question lets go of what is too old
    emitter._sender._ledger.keep_s = 60.0
    emit_numbers(emitter, 30, 35)
    assert emitter.flush()
    rewinder.rewind()
    wait_until(lambda: emitter.flush(0) and len(seqs(own_server)) == 16)
    assert numbers(own_server) == [*range(10), *range(30, 35)]
    assert seqs(own_server) == [*range(1, 11), 30, *range(31, 36)]
    [loss] = lost(own_server)
    assert (loss["count"], loss["reason"]) == (20, "redis_rewound")
    assert emitter.stats().dropped["redis_rewound"] == 20


@pytest.mark.usefixtures("curious")
def test_a_flushed_redis_gets_the_kept_tail_and_a_new_epoch(own_server: RedisServer, emitter: Broadcaster) -> None:
    emit_numbers(emitter, 0, 10)
    assert emitter.flush()
    with own_server.client() as client:
        before = client.hget("{v5:stream}:log", "epoch")
        client.flushall()
        wait_until(lambda: len(seqs(own_server)) == 10)
        assert client.hget("{v5:stream}:log", "epoch") not in (before, None)


# --- Redis refuses


def test_a_script_that_was_flushed_is_loaded_again(own_server: RedisServer, emitter: Broadcaster) -> None:
    emit_numbers(emitter, 0, 1)
    assert emitter.flush()
    with own_server.client() as client:
        client.script_flush()
    emit_numbers(emitter, 1, 2)
    assert emitter.flush()
    assert numbers(own_server) == [0, 1]
    assert emitter.stats().connects == 1


def refusing_password(client: Any) -> Callable[[], None]:
    client.config_set("requirepass", "secret")
    return lambda: client.config_set("requirepass", "")


def refusing_memory(client: Any) -> Callable[[], None]:
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def refusing_type(client: Any) -> Callable[[], None]:
    client.lpush("v5:stream", "in the way")
    return lambda: client.delete("v5:stream")


def refusing_as_replica(client: Any) -> Callable[[], None]:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: client.execute_command("REPLICAOF", "NO", "ONE")


def refusing_rights(client: Any) -> Callable[[], None]:
    client.execute_command("ACL", "SETUSER", "default", "-xadd")
    return lambda: client.execute_command("ACL", "SETUSER", "default", "+@all")


def refusing_clients(client: Any) -> Callable[[], None]:
    client.ping()
    client.config_set("maxclients", 1)
    return lambda: client.config_set("maxclients", 100)


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (refusing_password, "authentication"),
        (refusing_memory, "oom|maxmemory"),
        (refusing_type, "wrong kind"),
        (refusing_as_replica, "read only"),
        (refusing_rights, "acl|permission|can't run"),
        (refusing_clients, "max number of clients"),
    ],
)
def test_a_refusal_is_waited_out(
    own_server: RedisServer, refuse: Callable[[Any], Callable[[], None]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "BACKOFF_MAX_S", 0.1)
    emitter = emitter_of(own_server.url)
    with own_server.client() as client:
        repair = refuse(client)
        emit_numbers(emitter, 0, 30)
        wait_until(lambda: any(word in str(emitter.stats().last_error).lower() for word in said.split("|")))
        time.sleep(0.5)  # several tries
        assert not emitter.flush(0)
        repair()
    emit_numbers(emitter, 30, 40)
    assert emitter.flush(15)
    assert numbers(own_server) == list(range(40))
    assert seqs(own_server) == list(range(1, 41))
    assert emitter.stats().dropped["rejected"] == 0
    assert emitter.stats().last_error is None
    emitter.close()


class FakeRedis:
    """Refuses a batch that holds a poisoned event, as a server with a permanent objection would."""

    def __init__(self, objection: Callable[[Batch], bool]) -> None:
        self.objection = objection
        self.stored = 0
        self.log: list[bytes] = []
        self.batches: list[int] = []
        self.is_replaced = False

    def watch(self, wake: Callable[[], None]) -> None:
        pass

    def append(self, batch: Batch, *, epoch_if_none: str) -> AppendReply:
        self.batches.append(len(batch.payloads))
        if batch.payloads and self.objection(batch):
            return AppendReply(self.stored, epoch_if_none, 0, "ERR this I will never take")
        for seq, payload in enumerate(batch.payloads, batch.first):
            if seq > self.stored:
                self.log.append(payload)
                self.stored = seq
        return AppendReply(self.stored, epoch_if_none, 0, "")

    def close(self) -> None:
        pass


def run_against(fake: FakeRedis, payloads: list[bytes], *, settle: int, timeout_s: float = 10) -> Sender:
    buffer = Buffer(events_max=100, bytes_max=10**6)
    for payload in payloads:
        buffer.append(payload)
    connect: Any = lambda: fake  # noqa: E731
    sender = Sender(buffer, connect=connect, announce=lambda loss: f"lost {loss.events} {loss.reason}".encode())
    sender.run(settle=settle, deadline_s=time.monotonic() + timeout_s)
    return sender


def test_an_event_that_will_never_be_taken_is_announced_in_its_place() -> None:
    fake = FakeRedis(lambda batch: b"poison" in batch.payloads)
    sender = run_against(fake, [b"a", b"poison", b"b"], settle=3)
    assert fake.log == [b"a", b"lost 1 rejected", b"b"]
    assert (sender.rejected, sender.settled, sender.last_error) == (1, 3, None)
    assert fake.batches[0] == 0  # a fresh connection begins with the question how far Redis is


def test_a_redis_that_refuses_everything_costs_one_event_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "BACKOFF_MAX_S", 0.01)
    closed = True
    fake = FakeRedis(lambda _batch: closed)
    buffer = Buffer(events_max=100, bytes_max=10**6)
    for payload in (b"a", b"b", b"c"):
        buffer.append(payload)
    connect: Any = lambda: fake  # noqa: E731
    sender = Sender(buffer, connect=connect, announce=lambda loss: f"lost {loss.events} {loss.reason}".encode())
    sender.run(settle=3, deadline_s=time.monotonic() + 0.5)
    assert len(fake.batches) > 10
    assert sender.rejected == 1
    closed = False
    sender.run(settle=3, deadline_s=time.monotonic() + 5)
    assert fake.log == [b"lost 1 rejected", b"b", b"c"]


# --- the connection breaks


@pytest.fixture
def proxy(valkey_server: RedisServer) -> Iterator[FaultProxy]:
    proxy = FaultProxy(valkey_server.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_connection_cut_after_any_number_of_bytes_doubles_nothing(
    proxy: FaultProxy, valkey_server: RedisServer, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the cut falls, the sender cannot know whether the batch was carried out, and Redis can."""
    monkeypatch.setattr(sender_module, "BACKOFF_FIRST_S", 0.001)
    emitter = emitter_of(proxy.url)
    sent = 0
    for after in [0, 1, 2, 3, 5, 8, 13, 20, 21, 22, 40, 70, 100, 200, 300, 400, 500, 600, 700]:
        proxy.cut(direction, after)
        emit_numbers(emitter, sent, sent + 3)
        sent += 3
        assert emitter.flush(10)
    assert proxy.cuts >= 10
    assert numbers(valkey_server) == list(range(sent))
    assert seqs(valkey_server) == list(range(1, sent + 1))
    emitter.close()


@pytest.mark.parametrize("garbage", [b"?\r\n", b"*1\r\n", b":5\r\n", b"$-1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_reply_that_makes_no_sense_is_survived(proxy: FaultProxy, valkey_server: RedisServer, garbage: bytes) -> None:
    emitter = emitter_of(proxy.url)
    emit_numbers(emitter, 0, 3)
    assert emitter.flush(10)
    proxy.garble(garbage)
    emit_numbers(emitter, 3, 6)
    assert emitter.flush(10)
    assert numbers(valkey_server) == list(range(6))
    emitter.close()


def test_connections_killed_by_the_server_are_opened_again(own_server: RedisServer, emitter: Broadcaster) -> None:
    with own_server.client() as client:
        for i in range(5):
            emitter.emit("x", {"i": i})
            assert emitter.flush()
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert numbers(own_server) == list(range(5))


# --- the buffer overflows


def test_what_was_dropped_is_counted_exactly_and_announced_before_what_is_left(absent_server: RedisServer) -> None:
    emitter = emitter_of(absent_server.url, buffer_events_max=100)
    events = [emitter.emit("x", {"i": i}) for i in range(1000)]
    assert emitter.stats().dropped["buffer_full"] == 900
    absent_server.start()
    assert emitter.flush(15)
    assert seqs(absent_server) == list(range(1, 102))
    absent_server.send_signal(signal.SIGSTOP)
    emitter.emit("late")
    assert not emitter.flush(0.2)  # what was dropped does not count twice
    absent_server.send_signal(signal.SIGCONT)
    assert emitter.flush(15)
    [(_, first), *rest, _] = entries(absent_server)
    assert first["type"] == "broadcast.lost"
    assert first["data"] == {
        "count": 900,
        "reason": "buffer_full",
        "first_ts": events[0]["ts"],
        "last_ts": events[899]["ts"],
        "producer": emitter.stats().producer,
    }
    assert [event for _, event in rest] == events[900:]
    assert emitter.stats().emitted == 1001
    assert emitter.stats().appended == 102
    emitter.close()


def test_a_loss_stands_in_the_log_where_the_events_are_missing(own_server: RedisServer) -> None:
    emitter = emitter_of(own_server.url, buffer_bytes_max=20_000)
    emit_numbers(emitter, 0, 20)
    assert emitter.flush()
    own_server.send_signal(signal.SIGSTOP)
    emit_numbers(emitter, 20, 25)
    time.sleep(0.2)  # these are on their way now
    emit_numbers(emitter, 25, 2000)
    own_server.send_signal(signal.SIGCONT)
    assert emitter.flush(15)
    position = 0
    for _, event in entries(own_server):
        if event["type"] == "broadcast.lost":
            position += event["data"]["count"]
        else:
            assert event["data"]["i"] == position
            position += 1
    assert position == 2000
    assert sum(loss["count"] for loss in lost(own_server)) == emitter.stats().dropped["buffer_full"] > 0
    emitter.close()


def test_an_event_larger_than_the_buffer_is_announced_although_nothing_follows(own_server: RedisServer) -> None:
    emitter = emitter_of(own_server.url, buffer_bytes_max=200)
    emitter.emit("x", {"text": "y" * 300})
    assert emitter.flush(5)
    assert [loss["count"] for loss in lost(own_server)] == [1]
    emitter.close()


def test_a_sender_does_not_go_to_sleep_over_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "IDLE_ASK_S", 0.05)
    buffer = Buffer(events_max=1, bytes_max=0)
    never: Any = None
    sender = Sender(buffer, connect=never, announce=never)
    assert not sender._wait_for_events()
    buffer.append(b"too large")
    assert sender._wait_for_events()


def test_flush_waits_for_what_is_on_its_way_though_later_events_were_dropped(own_server: RedisServer) -> None:
    emitter = emitter_of(own_server.url, buffer_events_max=10)
    emitter.emit("x", {"i": -1})
    assert emitter.flush()
    own_server.send_signal(signal.SIGSTOP)
    emitter.emit("x", {"i": 0})
    time.sleep(0.2)
    emit_numbers(emitter, 1, 100)
    assert not emitter.flush(0.2)
    own_server.send_signal(signal.SIGCONT)
    assert emitter.flush(15)
    emitter.close()


# --- no thread


def test_without_a_thread_flush_does_the_work_itself(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is at exit from Python 3.12 on."""

    def refuse(*_arguments: Any) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(sender_module, "start_new_thread", refuse)
    emitter = emitter_of(own_server.url)
    emit_numbers(emitter, 0, 500)
    assert emitter.stats().buffered == 500
    assert emitter.flush(10)
    assert numbers(own_server) == list(range(500))
    refused = emitter_of(f"redis://127.0.0.1:{free_port()}")
    refused.emit("x")
    began = time.monotonic()
    assert not refused.flush(0.3)
    assert time.monotonic() - began < 3


def test_a_thread_that_could_not_start_starts_with_a_later_event(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = _thread.start_new_thread
    refusals = iter([True, True, False])

    def reluctantly(*arguments: Any) -> int:
        if next(refusals, False):
            raise RuntimeError("can't start new thread")
        return start(*arguments)

    monkeypatch.setattr(sender_module, "start_new_thread", reluctantly)
    emitter = emitter_of(own_server.url)
    emit_numbers(emitter, 0, 5)
    wait_until(lambda: len(seqs(own_server)) == 5)
    emitter.close()


def test_of_many_first_emits_at_once_one_sender_comes(own_server: RedisServer, emitter: Broadcaster) -> None:
    barrier = threading.Barrier(8)

    def emit() -> None:
        barrier.wait()
        emit_numbers(emitter, 0, 20)

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert emitter.flush(10)
    assert seqs(own_server) == list(range(1, 161))
    assert emitter.stats().connects == 1


def test_an_announcement_is_made_once_per_loss() -> None:
    buffer = Buffer(events_max=1, bytes_max=1000)
    for payload in (b"a", b"b", b"c"):
        buffer.append(payload)
    fake = FakeRedis(lambda _batch: False)
    connect: Any = lambda: fake  # noqa: E731
    losses: list[Loss] = []

    def announce(loss: Loss) -> bytes:
        losses.append(loss)
        return b"lost"

    Sender(buffer, connect=connect, announce=announce).run(settle=3, deadline_s=time.monotonic() + 5)
    assert losses == [Loss(2, "buffer_full", b"a", b"b")]
    assert fake.log == [b"lost", b"c"]


def test_the_servers_client_list_names_the_emitter(own_server: RedisServer, emitter: Broadcaster) -> None:
    emitter.emit("x")
    assert emitter.flush()
    with own_server.client() as client:
        listed: Any = client.client_list()
    assert "broadcast-emitter" in [each["name"] for each in listed]
    assert isinstance(client, redis.Redis)
