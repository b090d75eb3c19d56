"""append.lua on real servers: each event exactly once, in order, whatever fails on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from broadcast.emitter.connection import AppendReply, LogConnection
from broadcast.emitter.ledger import Batch
from broadcast.emitter.replies import is_transient
from broadcast.event import decode, delivered
from tests.servers import RedisServer, running, valkey_binary

EVENT = '{"type":"x.y","ts":"2026-02-14T19:01:23.456Z","cycle":42,"day":1551,"data":{"i":%d}}'


def payload(number: int) -> bytes:
    return (EVENT % number).encode()


def batch(first: int, last: int, *, after: int | None = None) -> Batch:
    payloads = tuple(payload(number) for number in range(first, last + 1))
    return Batch(first, payloads, first - 1 if after is None else after)


class Log:
    """One producer's connection to an empty log, and a second one to look at it."""

    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        self.server = server
        self.client: Any = client
        self.connections: list[LogConnection] = []
        self.producer = "here-1-ab"
        self.connection = self.connect()

    def connect(self, url: str | None = None, producer: str = "here-1-ab", maxlen: int = 10_000) -> LogConnection:
        connection = LogConnection(
            url or self.server.url,
            stream="v5:stream",
            channel="v5:events",
            producer=producer,
            stream_events_max=maxlen,
        )
        self.connections.append(connection)
        return connection

    def append(self, batch: Batch, connection: LogConnection | None = None) -> AppendReply:
        return (connection or self.connection).append(batch, epoch_if_none="fresh")

    @property
    def numbers(self) -> list[int]:
        return [json.loads(fields[b"event"])["data"]["i"] for _, fields in self.client.xrange("v5:stream")]

    @property
    def bys(self) -> list[str]:
        return [fields[b"by"].decode() for _, fields in self.client.xrange("v5:stream")]


@pytest.fixture
def log(any_server: RedisServer) -> Iterator[Log]:
    with any_server.client() as client:
        client.flushall()
        log = Log(any_server, client)
        yield log
        for connection in log.connections:
            connection.close()
        client.config_set("maxmemory", 0)
        client.acl_deluser("guest")


@pytest.fixture
def guest(log: Log) -> Callable[..., LogConnection]:
    """Connects with an account of these rights alone."""

    def connect(*rights: str) -> LogConnection:
        log.client.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">secret", *rights)
        return log.connect(f"redis://guest:secret@127.0.0.1:{log.server.port}/0")

    return connect


def test_a_batch_is_appended_in_order_with_its_identity(log: Log) -> None:
    assert log.append(batch(1, 3)) == AppendReply(3, "fresh", 0, "")
    assert log.numbers == [1, 2, 3]
    assert log.bys == ["here-1-ab:1", "here-1-ab:2", "here-1-ab:3"]
    [(_, fields), *_] = log.client.xrange("v5:stream")
    assert fields == {b"event": payload(1), b"by": b"here-1-ab:1"}


def test_a_repeat_is_recognised(log: Log) -> None:
    log.append(batch(1, 3))
    assert log.append(batch(1, 3)) == AppendReply(3, "fresh", 0, "")
    assert log.append(batch(2, 5)) == AppendReply(5, "fresh", 0, "")
    assert log.numbers == [1, 2, 3, 4, 5]


def test_an_empty_batch_only_asks(log: Log) -> None:
    assert log.append(Batch(1, (), 0)).stored == 0
    log.append(batch(1, 2))
    assert log.append(Batch(3, (), 2)).stored == 2
    assert log.append(Batch(9, (), 8)).stored == 2
    assert log.numbers == [1, 2]


def test_a_log_that_is_behind_gets_nothing_and_says_where_it_is(log: Log) -> None:
    log.append(batch(1, 2))
    assert log.append(batch(5, 6)) == AppendReply(2, "fresh", 0, "")
    assert log.numbers == [1, 2]


def test_a_hole_that_the_caller_knows_of_is_passed_over(log: Log) -> None:
    log.append(batch(1, 2))
    assert log.append(batch(5, 6, after=2)) == AppendReply(6, "fresh", 0, "")
    assert log.append(batch(5, 6, after=2)) == AppendReply(6, "fresh", 0, "")
    assert log.bys == [f"here-1-ab:{seq}" for seq in (1, 2, 5, 6)]


def test_a_hole_larger_than_the_caller_knows_of_is_not_passed_over(log: Log) -> None:
    """Between the question and the batch, Redis may lose its tail once more."""
    log.append(batch(1, 2))
    assert log.append(batch(7, 8, after=4)) == AppendReply(2, "fresh", 0, "")
    assert log.numbers == [1, 2]


def test_a_hole_is_not_taken_for_stored_while_nothing_behind_it_is(log: Log) -> None:
    log.client.set("v5:stream", "in the way")
    reply = log.append(batch(5, 6, after=0))
    assert (reply.stored, reply.error.split()[0]) == (0, "WRONGTYPE")


def test_the_published_json_is_the_delivered_form(log: Log) -> None:
    pubsub = log.client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("v5:events")
    pubsub.get_message(timeout=1)
    log.append(batch(1, 2))
    heard: list[Any] = []
    deadline = time.monotonic() + 5
    while len(heard) < 2 and time.monotonic() < deadline:
        if (message := pubsub.get_message(timeout=0.2)) is not None:
            heard.append(json.loads(message["data"]))
    pubsub.close()
    expected = [
        delivered(decode(fields[b"event"]), entry_id=entry_id.decode(), by=fields[b"by"].decode(), n=None)
        for entry_id, fields in log.client.xrange("v5:stream")
    ]
    assert heard == expected
    assert list(heard[0]) == ["type", "ts", "cycle", "day", "data", "id", "by"]


def test_two_producers_do_not_touch_each_others_seqs(log: Log) -> None:
    other = log.connect(producer="there-2-cd")
    log.append(batch(1, 2))
    assert log.append(batch(1, 1), other).stored == 1
    assert log.append(batch(3, 3)).stored == 3
    assert log.bys == ["here-1-ab:1", "here-1-ab:2", "there-2-cd:1", "here-1-ab:3"]


def test_the_epoch_is_made_once(log: Log) -> None:
    assert log.append(Batch(1, (), 0)).epoch == "fresh"
    reply = log.connection.append(batch(1, 1), epoch_if_none="another")
    assert reply.epoch == "fresh"
    assert log.client.hget("{v5:stream}:log", "epoch") == b"fresh"


def test_the_seq_outlives_the_producer_by_days_and_is_refreshed_by_asking(log: Log) -> None:
    log.append(batch(1, 1))
    key = "{v5:stream}:producer:here-1-ab"
    log.client.pexpire(key, 5000)
    log.append(Batch(2, (), 1))
    assert log.client.get(key) == b"1"
    assert log.client.pttl(key) > 6 * 24 * 3600 * 1000


@pytest.mark.parametrize("maxlen", ["100", "100.0", "1e2"])
def test_the_logs_hash_says_how_long_the_stream_is(log: Log, maxlen: str) -> None:
    log.client.hset("{v5:stream}:log", mapping={"maxlen": maxlen, "epoch": "mine"})
    for first in range(1, 1001, 100):
        log.append(batch(first, first + 99))
    assert 100 <= log.client.xlen("v5:stream") <= 300
    assert log.numbers[-1] == 1000


@pytest.mark.parametrize("maxlen", ["", "many", "-5", "0", "nan", "inf", "1e400", "9" * 30])
def test_a_length_that_is_none_stops_nobody(log: Log, maxlen: str) -> None:
    log.client.hset("{v5:stream}:log", "maxlen", maxlen)
    assert log.append(batch(1, 1)) == AppendReply(1, "fresh", 0, "")
    assert log.append(batch(2, 2), log.connect(maxlen=10**40)) == AppendReply(2, "fresh", 0, "")
    assert log.append(batch(3, 3), log.connect(maxlen=0)) == AppendReply(3, "fresh", 0, "")
    assert log.numbers == [1, 2, 3]


@pytest.mark.parametrize("nonsense", ["many", "nan", "inf", "-3", ""])
def test_a_stored_seq_that_is_none_counts_as_nothing(log: Log, nonsense: str) -> None:
    log.client.set("{v5:stream}:producer:here-1-ab", nonsense)
    assert log.append(batch(1, 1)) == AppendReply(1, "fresh", 0, "")


def test_a_stream_of_the_wrong_type_appends_nothing_and_says_why(log: Log) -> None:
    log.append(batch(1, 2))
    log.client.rename("v5:stream", "aside")
    log.client.lpush("v5:stream", "in the way")
    reply = log.append(batch(3, 4))
    assert (reply.stored, reply.error.split()[0]) == (2, "WRONGTYPE")
    log.client.rename("aside", "v5:stream")
    assert log.append(batch(3, 4)).stored == 4
    assert log.numbers == [1, 2, 3, 4]


def test_an_xadd_that_fails_in_the_middle_tells_how_far_it_came(log: Log) -> None:
    """The stream's last possible id is one away: the first event fits, the second does not."""
    top = 2**64 - 1
    log.client.xadd("v5:stream", {"event": payload(0), "by": "x:1"}, id=f"{top}-{top - 1}")
    reply = log.append(batch(1, 3))
    assert reply.stored == 1
    assert "last possible ID" in reply.error
    assert log.append(batch(1, 3)).stored == 1
    assert log.numbers == [0, 1]
    log.client.delete("v5:stream")
    assert log.append(batch(2, 3)) == AppendReply(3, "fresh", 0, "")
    assert log.numbers == [2, 3]


def test_full_memory_appends_nothing_and_says_why(log: Log) -> None:
    log.append(batch(1, 1))
    log.client.config_set("maxmemory-policy", "noeviction")
    log.client.config_set("maxmemory", 1)
    reply = log.append(batch(2, 3))
    assert (reply.stored, reply.error.split()[0]) == (1, "OOM")
    log.client.config_set("maxmemory", 0)
    assert log.append(batch(2, 3)) == AppendReply(3, "fresh", 0, "")
    assert log.numbers == [1, 2, 3]


@pytest.mark.parametrize("key", ["{v5:stream}:producer:here-1-ab", "{v5:stream}:log"])
def test_a_key_of_the_wrong_type_appends_nothing_and_rewinds_nothing(log: Log, key: str) -> None:
    log.append(batch(1, 2))
    log.client.rename(key, "aside")
    log.client.lpush(key, "in the way")
    reply = log.append(batch(3, 3))
    assert reply.stored in (-1, 2)
    assert reply.error.startswith("WRONGTYPE")
    log.client.rename("aside", key)
    assert log.append(batch(3, 3)).stored == 3
    assert log.numbers == [1, 2, 3]


def test_a_refused_publish_is_counted_and_not_fatal(log: Log, guest: Callable[..., LogConnection]) -> None:
    connection = guest("~*", "+@all", "resetchannels")
    assert log.append(batch(1, 3), connection) == AppendReply(3, "fresh", 3, "")
    assert log.numbers == [1, 2, 3]


def test_where_the_seq_cannot_be_written_nothing_is_appended(log: Log, guest: Callable[..., LogConnection]) -> None:
    """Else each retry would append the batch again."""
    connection = guest("~*", "&*", "+@all", "-set")
    for _ in range(3):
        reply = log.append(batch(1, 3), connection)
        assert reply.stored == 0
        assert reply.error
        assert is_transient(reply.error)
    assert log.numbers == []


@pytest.mark.parametrize("forbidden", ["get", "hmget", "hset", "xadd"])
def test_whatever_is_forbidden_is_said(log: Log, guest: Callable[..., LogConnection], forbidden: str) -> None:
    connection = guest("~*", "&*", "+@all", f"-{forbidden}")
    reply = log.append(batch(1, 3), connection)
    assert reply.stored <= 0
    assert reply.error
    assert is_transient(reply.error)
    assert log.numbers == []


def test_an_account_that_may_not_name_its_connection_appends_all_the_same(
    log: Log, guest: Callable[..., LogConnection]
) -> None:
    connection = guest("~*", "&*", "+@all", "-client")
    assert log.append(batch(1, 1), connection).stored == 1


def test_a_script_that_the_server_has_forgotten_is_loaded_again(log: Log) -> None:
    log.append(batch(1, 1))
    log.client.script_flush()
    assert log.append(batch(2, 2)).stored == 2
    assert log.numbers == [1, 2]


def test_a_replica_refuses_and_says_so(own_server: RedisServer) -> None:
    with own_server.client() as client:
        log = Log(own_server, client)
        log.append(batch(1, 1))
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        reply = log.append(batch(2, 2))
        assert (reply.stored, reply.error.split()[0]) == (1, "READONLY")
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert log.append(batch(2, 2)).stored == 2
        assert log.numbers == [1, 2]
        log.connection.close()


def test_an_address_that_asks_for_decoding_works_too(own_server: RedisServer) -> None:
    with own_server.client() as client:
        log = Log(own_server, client)
        assert log.append(batch(1, 1), log.connect(f"{own_server.url}?decode_responses=True")).stored == 1
        for connection in log.connections:
            connection.close()


def test_payloads_survive_byte_for_byte(log: Log) -> None:
    text = '{"type":"ü","ts":"","cycle":0,"day":0,"data":{"a":"\\"}%s 😀 \\\\"}}'.encode()
    log.append(Batch(1, (text,), 0))
    [(_, fields)] = log.client.xrange("v5:stream")
    assert fields[b"event"] == text


def test_a_unix_socket_will_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    options = ("--unixsocket", str(folder / "r.sock"))
    with running(valkey_binary(), folder, options=options) as server, server.client() as client:
        log = Log(server, client)
        connection = log.connect(f"unix://{folder}/r.sock")
        assert log.append(batch(1, 1), connection).stored == 1
        for each in log.connections:
            each.close()
