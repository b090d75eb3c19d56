"""`GET /history` over all tiers: a real PostgreSQL, a real Valkey, and a bridge in this process."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast.bridge import census, cycles, exports, moment
from broadcast.bridge.access import issue_token
from broadcast.bridge.app import Bridge
from broadcast.bridge.past_events import PastEvent, producer_of
from broadcast.bridge.tiers import Tiers
from broadcast.consumers.exporter import Exporter
from broadcast.event import timestamp
from broadcast.filters import parse_filter
from broadcast.log.archive import Archive
from broadcast.log.places import EVERYTHING, archived_identity
from broadcast.log.position import START, Position
from broadcast.log.stream import StreamReader
from broadcast.log.timeline import Timeline
from broadcast.settings import Settings
from tests.archives import database, fill
from tests.pasts import BEGAN_MS, TYPES, Answer, World, append, ask, bridge_over, event, make_world
from tests.postgresql import PostgresqlServer, running_postgresql
from tests.servers import RedisServer, free_port

SECRET = "a secret of thirty-two bytes, or more"


def seconds(ts: str) -> float:
    return datetime.fromisoformat(ts).timestamp()


def without_n(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "n"}


class Reader:
    """A bridge over a world, asked from tests that are no coroutines."""

    def __init__(self, runner: asyncio.Runner, bridge: Bridge, world: World, url: str) -> None:
        self.url = url
        self.runner = runner
        self.bridge = bridge
        self.world = world

    def walk(self, **query: Any) -> list[dict[str, Any]]:
        return self.runner.run(self._walk(query))

    def ask(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        return self.runner.run(ask(self.bridge, path, headers, **query))

    def lines(self, headers: Mapping[str, str] | None = None, **query: Any) -> list[dict[str, Any]]:
        answer = self.ask("/history", {"Accept": "application/x-ndjson", **(headers or {})}, **query)
        assert 200 == answer.status and "application/x-ndjson" == answer.headers["content-type"], answer.body
        assert not answer.body or answer.body.endswith(b"\n")
        return [without_n(orjson.loads(line)) for line in answer.body.splitlines()]

    async def _walk(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = await ask(self.bridge, "/history", **query, cursor=cursor)
            assert 200 == answer.status, answer.body
            assert len(answer.json["events"]) <= query.get("limit", 100)
            found += map(without_n, answer.json["events"])
            cursor = answer.json["next"]
            if cursor is None:
                return found


@contextlib.contextmanager
def reading(
    seed: int, postgresql: PostgresqlServer, valkey: RedisServer, *, is_lost: bool = False, **more: Any
) -> Iterator[Reader]:
    with database(postgresql) as url, asyncio.Runner() as runner:
        world = make_world(seed, url, valkey)
        if is_lost:
            with valkey.client() as client:
                client.flushall()
        context = bridge_over(valkey, url, **more)
        bridge = runner.run(context.__aenter__())
        try:
            yield Reader(runner, bridge, world, url)
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def reader(postgresql_server: PostgresqlServer, valkey_server: RedisServer) -> Iterator[Reader]:
    with reading(1, postgresql_server, valkey_server) as reader:
        yield reader


@pytest.mark.parametrize(("seed", "ring"), [(0, 10_000), (1, 10_000), (2, 10_000), (0, 12), (1, 12)])
def test_pages_and_lines_of_any_question_are_the_log(
    postgresql_server: PostgresqlServer,
    valkey_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    ring: int,
) -> None:
    monkeypatch.setattr(exports, "SLICE_EVENTS", 20)
    monkeypatch.setattr(moment, "TAIL_EVENTS", 10)
    with reading(seed, postgresql_server, valkey_server, ring_events_max=ring) as reader:
        log = reader.world.log

        @settings(max_examples=25)
        @given(
            begin=st.none() | st.integers(0, len(log) - 1),
            end=st.none() | st.integers(0, len(log) - 1),
            types=st.sampled_from((None, "sense.*", "-sense.*", "cycle.start,error", "nothing.at.all", *TYPES)),
            limit=st.sampled_from((9, 23, 50, 161)),
            order=st.sampled_from(("asc", "desc")),
            by_time=st.booleans(),
        )
        def ask_it(
            begin: int | None, end: int | None, types: str | None, limit: int, order: str, by_time: bool
        ) -> None:
            edge = "ts" if by_time else "id"
            since = None if begin is None else log[begin][edge]
            until = None if end is None else log[end][edge]
            wanted = parse_filter(types).matches
            if by_time:
                expected = [e for e in log if (since or "") <= e["ts"] <= (until or "~")]
            else:
                expected = log[0 if begin is None else begin + 1 : len(log) if end is None else end + 1]
            expected = [e for e in expected if wanted(e["type"])]
            found = reader.walk(since=since, until=until, types=types, limit=limit, order=order)
            assert found == (expected if order == "asc" else expected[::-1])
            assert found == reader.lines(since=since, until=until, types=types, order=order)

        ask_it()


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_meets_every_event_once_while_they_move_into_the_archive(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, order: str
) -> None:
    with database(postgresql_server) as url, asyncio.Runner() as runner:
        events = list(_plain(0, 60))
        fill(url, events[:20])
        with valkey_server.client() as client:
            client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
            for entry in events[10:]:
                append(client, entry)
            context = bridge_over(valkey_server, url)
            bridge = runner.run(context.__aenter__())
            found: list[str] = []
            cursor, archived = None, 20
            while True:
                answer = runner.run(ask(bridge, "/history", order=order, limit=7, cursor=cursor))
                found += [event["id"] for event in answer.json["events"]]
                cursor = answer.json["next"]
                if cursor is None:
                    break
                fill(url, events[archived : archived + 6])
                client.xtrim("v5:stream", maxlen=len(events) - archived, approximate=False)
                archived += 6
                for entry in (*_plain(len(events), 2),):
                    append(client, entry)
                    events.append(entry)
            runner.run(context.__aexit__(None, None, None))
    ids = [event["id"] for event in events]
    # What came behind the beginning of a walk backwards is no part of it; forwards, the end is where the log is.
    begun = 60
    assert found == (ids[: len(found)] if order == "asc" else ids[begun - 1 :: -1])
    assert len(found) >= begun


def test_a_grant_holds_whatever_is_asked(postgresql_server: PostgresqlServer, valkey_server: RedisServer) -> None:
    with reading(2, postgresql_server, valkey_server, secret=SECRET) as reader:
        token = issue_token(SECRET, subject="ada", types="sense.*,cycle.end", ttl_s=60)
        headers = {"Authorization": f"Bearer {token}"}
        allowed = [e for e in reader.world.log if e["type"].startswith("sense.") or e["type"] == "cycle.end"]
        for types in (None, "*", "error,sense.raw", "-sense.raw"):
            wanted = parse_filter(types).matches
            expected = [e for e in allowed if wanted(e["type"])]
            assert expected == reader.lines(headers, types=types)
            answer = reader.ask("/history", headers, types=types, limit=1000)
            assert expected == [without_n(e) for e in answer.json["events"]]
            counted = reader.ask("/history", headers, types=types, bucket="auto").json
            assert len(expected) == sum(bucket["count"] for bucket in counted["buckets"]) == counted["extent"]["events"]
            assert 0 == counted["extent"]["cycles"]
        start = next(e for e in reader.world.log if e["type"] == "cycle.start")
        questions: tuple[tuple[str, dict[str, Any]], ...] = (
            ("/history", {"since": f"cycle:{start['cycle']}"}),
            ("/history", {"until": "cycle:4711", "bucket": "auto"}),
            ("/cycles", {}),
            ("/cycles", {"cycle": "4711"}),
            (f"/cycles/{start['id']}", {}),
            ("/cycles/1-1", {}),
        )
        for path, query in questions:
            answer = reader.ask(path, headers, **query)
            assert (403, "forbidden") == (answer.status, answer.json["code"]), path
        few = issue_token(SECRET, subject="ada", types=None, ttl_s=60, replay={"count": 1})
        for query in ({"since": f"cycle:{start['cycle']}"}, {"until": f"cycle:{start['cycle']}", "bucket": "auto"}):
            answer = reader.ask("/history", {"Authorization": f"Bearer {few}"}, **query)
            assert (404, "not_found") == (answer.status, answer.json["code"]), query
        assert 401 == reader.ask("/history").status
        assert "private, no-cache" == reader.ask("/history", headers).headers["cache-control"]
        assert {"Authorization", "Cookie"} <= set(reader.ask("/history", headers).headers["vary"].split(", "))


@pytest.mark.parametrize(("seed", "ring", "is_lost"), [(1, 10_000, False), (2, 12, False), (2, 12, True)])
def test_nothing_outside_a_grant_is_given_or_counted_whatever_is_asked(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, seed: int, ring: int, is_lost: bool
) -> None:
    with reading(
        seed, postgresql_server, valkey_server, is_lost=is_lost, secret=SECRET, ring_events_max=ring
    ) as reader:
        log = reader.world.log
        now_ms = int(log[-1]["id"].partition("-")[0]) + 1_000
        reader.bridge.fanout.now_ns = lambda: now_ms * 1_000_000  # type: ignore[method-assign]
        later = f"{now_ms + 3_600_000}-0"
        ids = st.sampled_from([*(each["id"] for each in log), "0-0", later, f"{2**64 - 1}-{2**64 - 1}"])
        places = ids | st.builds("{}.{}".format, ids, st.sampled_from(("e1", "e2", "never", "")))
        edges = places | st.sampled_from(log).map(lambda each: each["ts"]) | st.integers(0, 10).map("cycle:{}".format)
        grants: st.SearchStrategy[dict[str, Any]] = st.builds(
            dict,
            types=st.sampled_from((None, "sense.*,cycle.*", "-error", "cycle.start")),
            back_s=st.none() | st.sampled_from((1, 2, 600, 4_000, 10**6)),
            count=st.none() | st.sampled_from((0, 1, 5, 11, 40, 110, 1_000)),
        )
        questions = st.fixed_dictionaries(
            {"order": st.sampled_from(("asc", "desc")), "limit": st.sampled_from((7, 1_000))},
            optional={
                **{"since": edges, "until": edges, "types": st.sampled_from(("sense.*", *TYPES))},
                "cursor": st.builds("{}.{}".format, ids, st.sampled_from(("e1", "e2", "never", ""))),
            },
        )

        @settings(max_examples=15)
        @given(grants, questions, st.sampled_from(("1s", "1m", "1h", "auto")), ids, st.integers(0, 10))
        def ask_it(grant: dict[str, Any], question: dict[str, Any], bucket: str, place: str, cycle: int) -> None:
            replay = {"back": grant["back_s"] and f"{grant['back_s']}s", "count": grant["count"]}
            replay = {name: value for name, value in replay.items() if value is not None}
            token = issue_token(SECRET, subject="kai", types=grant["types"], ttl_s=600, replay=replay or None)
            headers = {"Authorization": f"Bearer {token}"}
            # Of a log that holds nothing, there are no newest events.
            allowed = _allowed([] if is_lost and grant["count"] is not None else log, now_ms, **grant)
            for path, query in (
                ("/history", question),
                ("/cycles", {"before": place}),
                ("/cycles", {"cycle": cycle}),
                (f"/cycles/{place}", {}),
            ):
                answer = reader.ask(path, headers, **query)
                assert answer.status in (200, 400, 403, 404), answer.body
                given = re.findall(rb'"id":"([0-9]+-[0-9]+)"', answer.body) if answer.status == 200 else []
                assert {each.decode() for each in given} <= set(allowed), (path, query)
            lines = reader.ask("/history", {**headers, "Accept": "application/x-ndjson"}, **question)
            given = re.findall(rb'"id":"([0-9]+-[0-9]+)"', lines.body) if lines.status == 200 else []
            assert {each.decode() for each in given} <= set(allowed), question
            counted = reader.ask("/history", headers, **question, bucket=bucket)
            if counted.status == 200:
                _counts_no_more(counted.json, list(allowed.values()))

        ask_it()


def _allowed(
    log: list[dict[str, Any]], now_ms: int, *, types: str | None, back_s: int | None, count: int | None
) -> dict[str, dict[str, Any]]:
    newest = log if count is None else log[len(log) - min(count, len(log)) :]
    oldest_ms = 0 if back_s is None else now_ms - back_s * 1_000
    granted = parse_filter(types).matches
    found = (each for each in newest if int(each["id"].partition("-")[0]) >= oldest_ms)
    return {each["id"]: each for each in found if granted(each["type"])}


def _counts_no_more(counted: dict[str, Any], allowed: list[dict[str, Any]]) -> None:
    extent, width_s = counted["extent"], counted["bucket_s"]
    assert extent["events"] <= len(allowed)
    assert extent["cycles"] <= sum(each["type"] == "cycle.start" for each in allowed)
    assert {extent["first"], extent["last"]} <= {None, *(each["ts"] for each in allowed)}
    there = Counter((math.floor(seconds(each["ts"]) / width_s), each["type"]) for each in allowed)
    for bucket in counted["buckets"]:
        for event_type, events in bucket["types"].items():
            assert events <= there[math.floor(seconds(bucket["ts"]) / width_s), event_type], bucket


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"since": "yesterday"}, "since: expected an id"),
    ({"until": "1-2-3"}, "until: expected an id"),
    ({"since": "cycle:x"}, "since: expected an id"),
    ({"since": "99999999999999999999999-0"}, "since: expected an id"),
    ({"cursor": "1771-0"}, "cursor: expected what `next` said"),
    ({"cursor": "99999999999999999999-1.e1"}, "cursor: expected what `next` said"),
    ({"cursor": "1-1." + "x" * 300}, "cursor: expected what `next` said"),
    ({"limit": "0"}, "limit: expected a whole number of at least 1"),
    ({"limit": "ten"}, "limit: expected a whole number"),
    ({"limit": "9" * 30}, "limit: expected a whole number"),
    ({"limit": "٣"}, "limit: expected a whole number"),
    ({"order": "up"}, "order: expected 'asc' or 'desc'"),
    ({"types": "a b"}, "types: 'a b' is not a pattern"),
    ({"types": "a\x00b"}, "types:"),
    ({"bucket": "7s"}, "bucket: expected whole minutes"),
    ({"bucket": "90s"}, "bucket: expected whole minutes"),
    ({"bucket": "1m", "since": "2020-01-01", "until": "2026-01-01"}, "bucket: this range has"),
    ({"bucket": "-1m"}, "bucket: expected whole minutes"),
)


def test_whatever_is_wrong_is_named(reader: Reader) -> None:
    for query, named in WRONG:
        answer = reader.ask("/history", **query)
        assert (400, "application/problem+json") == (answer.status, answer.headers["content-type"]), answer.body
        assert "bad_request" == answer.json["code"] and named in answer.json["detail"], answer.json
    assert 200 == reader.ask("/history", whatever="it is").status


def test_a_closed_range_is_not_sent_twice(reader: Reader) -> None:
    log = reader.world.log
    closed: dict[str, Any] = {"since": log[3]["id"], "until": log[40]["id"], "limit": 1000}
    etag = ""
    forms: tuple[dict[str, str], ...] = ({}, {"Accept": "application/x-ndjson"})
    for headers in forms:
        first = reader.ask("/history", headers, **closed)
        etag = first.headers["etag"]
        again = reader.ask("/history", {**headers, "If-None-Match": etag}, **closed)
        assert (200, 304, b"") == (first.status, again.status, again.body)
        assert etag == again.headers["etag"] and "private, no-cache" == again.headers["cache-control"]
        assert etag != reader.ask("/history", headers, **{**closed, "limit": 7}).headers["etag"]
    by_time = {"since": log[3]["ts"], "until": log[10]["ts"]}  # nothing that is not archived yet came so late
    assert "etag" in reader.ask("/history", **by_time).headers
    for open_end in ({"since": log[3]["id"]}, {"until": log[-1]["id"]}, {"since": "5h", "until": log[30]["id"]}):
        assert "etag" not in reader.ask("/history", **open_end).headers
    with psycopg.connect(reader.url, autocommit=True) as connection:
        connection.execute("INSERT INTO erasures (asked, events) VALUES ('{}', 1)")
    for change in ("erasures SET events = events + 1", "checkpoint SET imports = imports + 1"):  # its second batch
        etag = reader.ask("/history", **closed).headers["etag"]
        with psycopg.connect(reader.url, autocommit=True) as connection:
            connection.execute(f"UPDATE {change}".encode())
        assert 200 == reader.ask("/history", {"If-None-Match": etag}, **closed).status


def test_what_came_late_and_is_not_archived_yet_leaves_a_closed_range_without_an_etag(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> None:
    events = list(_plain(0, 200))
    closed = {"since": events[3]["ts"], "until": events[30]["ts"], "limit": 1000}
    late = {**events[-1], "ts": events[9]["ts"], "id": f"{BEGAN_MS + 300_000}-0", "by": "ada:1"}
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events)
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        append(client, events[-1])
        context = bridge_over(valkey_server, url)
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World(events), url)
        etag = reader.ask("/history", **closed).headers["etag"]
        append(client, late)
        runner.run(_until(lambda: str(bridge.fanout.head.id) == late["id"]))
        answer = reader.ask("/history", {"If-None-Match": etag}, **closed)
        assert 200 == answer.status and "etag" not in answer.headers
        assert late == without_n(answer.json["events"][-1])
        fill(url, [late])
        answer = reader.ask("/history", {"If-None-Match": etag}, **closed)
        assert 200 == answer.status and etag != answer.headers["etag"]
        runner.run(context.__aexit__(None, None, None))


def test_an_etag_is_the_same_on_every_bridge_and_cannot_be_made_up_without_the_secret(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> None:
    events = list(_plain(0, 30))
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events)
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        append(client, events[-1])
        etags: list[str] = []
        for secret in (SECRET, SECRET, SECRET[::-1], "", ""):
            context = bridge_over(valkey_server, url, secret=secret)
            reader = Reader(runner, runner.run(context.__aenter__()), World(events), url)
            bearer = f"Bearer {issue_token(secret, subject='kai', types=None, ttl_s=600)}" if secret else ""
            answer = reader.ask("/history", {"Authorization": bearer}, since=events[3]["id"], until=events[9]["id"])
            assert 200 == answer.status, answer.body
            etags.append(answer.headers["etag"])
            runner.run(context.__aexit__(None, None, None))
    assert etags[0] == etags[1]
    assert 4 == len(set(etags))


def test_buckets_are_what_one_counts(reader: Reader) -> None:
    log = reader.world.log
    for bucket, width_s in (("5s", 5), ("20s", 20), ("1m", 60), ("7m", 420), ("1h", 3600)):
        for begin, end, types in ((None, None, None), (20, 120, "sense.*,error")):
            since, until = ((None if at is None else log[at]["ts"]) for at in (begin, end))
            wanted = parse_filter(types).matches
            times = [e["ts"] for e in log if wanted(e["type"])]
            first, last = (math.floor(seconds(ts) / width_s) for ts in (since or min(times), until or max(times)))
            expected: dict[int, Counter[str]] = {}
            for each in log:
                at = math.floor(seconds(each["ts"]) / width_s)
                if first <= at <= last and wanted(each["type"]):
                    expected.setdefault(at * width_s, Counter())[each["type"]] += 1
            answer = reader.ask("/history", since=since, until=until, types=types, bucket=bucket).json
            found = {seconds(b["ts"]): Counter(b["types"]) for b in answer["buckets"]}
            assert expected == found and width_s == answer["bucket_s"]
            assert [c.total() for c in found.values()] == [b["count"] for b in answer["buckets"]]
    extent = reader.ask("/history", bucket="auto").json["extent"]
    assert extent == {
        **{"first": log[0]["ts"], "last": log[-1]["ts"], "events": len(log)},
        "cycles": sum(e["type"] == "cycle.start" for e in log),
    }


def test_a_cycle_is_told_as_a_whole(reader: Reader) -> None:
    log = reader.world.log
    starts = [at for at, e in enumerate(log) if e["type"] == "cycle.start"]
    for turn, at in enumerate(starts):
        behind = starts[turn + 2] if turn + 2 < len(starts) else len(log)
        expected = [e for e in log[at:behind] if e["cycle"] == log[at]["cycle"]]
        end = next((e for e in expected if e["type"] == "cycle.end"), None)
        told = reader.ask(f"/cycles/{log[at]['id']}").json
        assert expected == [without_n(e) for e in told["events"]]
        assert (log[at], end) == (without_n(told["start"]), told["end"] and without_n(told["end"]))
        assert (log[at]["cycle"], True) == (told["cycle"], told["whole"])
        took_ms = None if end is None else round((seconds(end["ts"]) - seconds(log[at]["ts"])) * 1000)
        assert took_ms == told["duration_ms"]
    newest = {log[at]["cycle"]: log[at]["id"] for at in starts}
    for number, entry_id in newest.items():
        assert entry_id == reader.ask("/cycles", cycle=number).json["start"]["id"]
        begun = next(at for at, e in enumerate(log) if e["id"] == entry_id)
        following = next((at for at in starts if at > begun), len(log))
        asked: dict[str, Any] = {"since": f"cycle:{number}", "until": f"cycle:{number}", "limit": 1000}
        assert log[begun:following] == [without_n(e) for e in reader.ask("/history", **asked).json["events"]]
    assert (404, "not_found") == ((answer := reader.ask("/cycles", cycle=4711)).status, answer.json["code"])
    assert 404 == reader.ask("/cycles/1-1").status
    assert 400 == reader.ask("/cycles/latest").status


def test_a_cycle_of_many_events_has_its_end_too(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycles, "EVENTS_MAX", 2)
    monkeypatch.setattr(cycles, "PAGE_EVENTS", 1)
    log = reader.world.log
    starts = [at for at, e in enumerate(log) if e["type"] == "cycle.start"]
    ends = []
    for turn, at in enumerate(starts):
        behind = starts[turn + 2] if turn + 2 < len(starts) else len(log)
        own = [e for e in log[at:behind] if e["cycle"] == log[at]["cycle"]]
        end = next((e for e in own if e["type"] == "cycle.end"), None)
        told = reader.ask(f"/cycles/{log[at]['id']}").json
        assert (end is None, end) == (told["duration_ms"] is None, told["end"] and without_n(told["end"]))
        if end is not None and not told["whole"] and told["events"]:
            ends.append(end)
            rest = reader.walk(since=told["events"][-1]["id"], until=end["id"])
            found = [without_n(e) for e in told["events"]] + [e for e in rest if e["cycle"] == log[at]["cycle"]]
            assert own[: own.index(end) + 1] == found[: len(own)]
    assert ends


def test_the_latest_cycles_come_page_by_page(reader: Reader) -> None:
    log = reader.world.log
    starts = [at for at, e in enumerate(log) if e["type"] == "cycle.start"]
    errors = [
        sum(e["type"] == "error" for e in log[at:following])
        for at, following in zip(starts, [*starts[1:], len(log)], strict=True)
    ]
    found: list[dict[str, Any]] = []
    before = None
    while True:
        answer = reader.ask("/cycles", limit=5, before=before).json
        found += answer["cycles"]
        before = answer["next"]
        if before is None:
            break
    assert [log[at]["id"] for at in reversed(starts)] == [each["id"] for each in found]
    assert errors[::-1] == [each["errors"] for each in found]
    for each in found:
        whole = reader.ask(f"/cycles/{each['id']}").json
        assert (whole["duration_ms"], whole["cycle"]) == (each["duration_ms"], each["cycle"])


def test_pages_of_large_events_are_cut_and_say_that_there_are_more(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.log.archive.BYTES_MAX", 1500)
    monkeypatch.setattr("broadcast.bridge.tiers.PAGE_BYTES_MAX", 1000)
    log = reader.world.log
    for order, expected in (("asc", log), ("desc", log[::-1])):
        answer = reader.ask("/history", order=order, limit=1000)
        assert len(answer.body) < 1500 and answer.json["next"]
        assert expected == reader.walk(order=order, limit=1000)
    starts = [e["id"] for e in log if e["type"] == "cycle.start"]
    assert starts[::-1] == [each["id"] for each in reader.ask("/cycles", limit=100).json["cycles"]]


def test_without_an_archive_there_is_what_the_stream_holds(valkey_server: RedisServer) -> None:
    events = list(_plain(0, 30))
    with valkey_server.client() as client, asyncio.Runner() as runner:
        for entry in events:
            append(client, entry)
        context = bridge_over(valkey_server, "")
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World(events), "")
        assert events == reader.walk(limit=7) == reader.lines()
        assert events[::-1] == reader.walk(limit=7, order="desc")
        assert reader.ask("/history").json["archive"] is False
        assert 30 == reader.ask("/history", bucket="auto").json["extent"]["events"]
        runner.run(context.__aexit__(None, None, None))


def test_what_the_stream_holds_is_read_while_the_archive_is_away(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = list(_plain(0, 30))
    with valkey_server.client() as client, asyncio.Runner() as runner:
        for entry in events[10:]:
            append(client, entry)
        monkeypatch.setattr("broadcast.log.archive.CONNECT_TIMEOUT_S", 0.5)
        context = bridge_over(valkey_server, f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World(events), "")
        assert events[11:] == reader.walk(since=events[10]["id"], limit=7)
        assert events[:19:-1] == reader.walk(since=events[19]["id"], order="desc", limit=7)
        assert events[:-6:-1] == [without_n(e) for e in reader.ask("/history", order="desc", limit=5).json["events"]]
        queries: tuple[dict[str, Any], ...] = ({}, {"bucket": "auto"})
        for query in queries:
            answer = reader.ask("/history", **query)
            assert (503, "unavailable") == (answer.status, answer.json["code"])
            assert "this range cannot be read just now" == answer.json["detail"]
        # It is known by now that it is away: nobody waits for it every time anew.
        began = time.monotonic()
        assert [503] * 10 == [reader.ask("/history").status for _ in range(10)]
        assert time.monotonic() - began < 2.5
        runner.run(context.__aexit__(None, None, None))


def test_what_the_archive_says_is_in_utf_8_whatever_libpq_is_told(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with reading(1, postgresql_server, valkey_server, ring_events_max=10) as reader:
        assert reader.world.log == reader.lines() == reader.walk()


def test_a_log_of_which_nothing_is_gone_is_read_from_any_time_while_the_archive_is_away(
    valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the archive has had another log: what that has of the range would be missing, and nobody would know."""
    events = list(_plain(0, 30))
    before: dict[str, Any] = {"since": "2026-02-13T00:00:00Z"}
    monkeypatch.setattr("broadcast.log.archive.CONNECT_TIMEOUT_S", 0.5)
    with running_postgresql() as server, valkey_server.client() as client, asyncio.Runner() as runner:
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events:
            append(client, entry)
        fill(server.url, events[:20])
        context = bridge_over(valkey_server, server.url, ring_events_max=10)
        reader = Reader(runner, runner.run(context.__aenter__()), World(events), server.url)
        assert events == reader.walk(**before)
        server.stop(9)
        assert events == reader.walk(**before) == reader.lines()
        time.sleep(2.5)
        server.start()
        fill(server.url, list(_plain(40, 1)), epoch="e2")
        assert 200 == reader.ask("/history", **before).status
        server.stop(9)
        deadline = time.monotonic() + 20  # what the one that was killed has begun may answer for a moment
        while (status := reader.ask("/history", **before).status) == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert 503 == status
        runner.run(context.__aexit__(None, None, None))


def test_a_clock_that_is_ahead_is_forgiven_as_much_by_every_tier_and_way(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> None:
    """Of three events dated 4, 20 and 60 s ahead of their ids, a time finds what stands at most 5 s before it."""
    events = list(_plain(0, 60))
    for at, ahead_s in ((27, 4), (28, 20), (29, 60)):
        events[at] = {**events[at], "ts": timestamp((BEGAN_MS + (at + ahead_s) * 1000) * 1_000_000)}
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events)
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events:
            append(client, entry)
        asked = [
            (events[since]["ts"], [*early, *range(since, 60)])
            for since, early in ((31, (27, 28, 29)), (34, (29,)), (36, ()))
        ]
        ways: tuple[dict[str, Any], ...] = ({"url": ""}, {"url": "", "ring": 10}, {"url": url, "ring": 10})
        for way in ways:
            context = bridge_over(valkey_server, way["url"], ring_events_max=way.get("ring", 100))
            reader = Reader(runner, runner.run(context.__aenter__()), World(events), url)
            for ts, expected in asked:
                assert expected == _numbers(reader.walk(since=ts)) == _numbers(reader.lines(since=ts)), way
            runner.run(context.__aexit__(None, None, None))
        assert [expected for _, expected in asked] == [runner.run(_exported(url, ts)) for ts, _ in asked]
        assert [expected for _, expected in asked] == [
            runner.run(_replayed(valkey_server, None, ts)) for ts, _ in asked
        ]
        client.xtrim("v5:stream", maxlen=1, approximate=False)
        assert [expected for _, expected in asked] == [runner.run(_replayed(valkey_server, url, ts)) for ts, _ in asked]


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["at"] for event in events]


async def _exported(url: str, since: str) -> list[int]:
    text = b"".join([data async for data in Exporter(url, since=since).lines()])
    return _numbers([line for line in map(orjson.loads, text.splitlines()) if "id" in line])


async def _replayed(server: RedisServer, url: str | None, since: str) -> list[int]:
    async with contextlib.AsyncExitStack() as stack:
        reader = await stack.enter_async_context(contextlib.aclosing(StreamReader(server.url, "v5:stream")))
        archive = None if url is None else await stack.enter_async_context(contextlib.aclosing(Archive(url)))
        found = [event async for event in Timeline(reader, archive).read(since, "0ms")]
    return _numbers([event for event in found if "id" in event])


def test_what_a_token_may_not_read_of_the_past_is_not_counted_for_it_either(valkey_server: RedisServer) -> None:
    token = issue_token(SECRET, subject="kai", types=None, ttl_s=600, replay={"count": 1})
    with valkey_server.client() as client, asyncio.Runner() as runner:
        for at, entry in enumerate(_plain(0, 8)):
            # The clock of the mind that emitted the first ones is an hour ahead.
            append(client, entry if at == 7 else {**entry, "ts": timestamp((BEGAN_MS + 3_600_000) * 1_000_000)})
        context = bridge_over(valkey_server, "", secret=SECRET)
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World([]), "")
        headers = {"Authorization": f"Bearer {token}"}
        assert 1 == len(reader.ask("/history", headers).json["events"])
        counted = reader.ask("/history", headers, bucket="1m").json
        assert sum(bucket["count"] for bucket in counted["buckets"]) <= 1
        assert 1 == counted["extent"]["events"]
        runner.run(context.__aexit__(None, None, None))


def test_a_count_is_of_nothing_while_the_log_is_empty_however_full_the_archive_is(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> None:
    token = issue_token(SECRET, subject="kai", types=None, ttl_s=600, replay={"count": 5})
    headers = {"Authorization": f"Bearer {token}"}
    events = list(_plain(0, 30))
    with database(postgresql_server) as url, asyncio.Runner() as runner:
        fill(url, events)
        context = bridge_over(valkey_server, url, secret=SECRET)
        reader = Reader(runner, runner.run(context.__aenter__()), World(events), url)
        questions: tuple[dict[str, Any], ...] = (
            {},
            {"order": "desc"},
            {"until": events[-1]["id"]},
            {"cursor": f"{events[3]['id']}.e1"},
        )
        for query in questions:
            assert [] == reader.ask("/history", headers, **query).json["events"] == reader.lines(headers, **query)
        for bucket in ("auto", "1s", "1m", "1d"):
            for more in ({}, {"until": "1m"}, {"since": events[0]["ts"], "until": events[-1]["ts"]}):
                counted = reader.ask("/history", headers, bucket=bucket, **more)
                assert 200 == counted.status, counted.body
                assert ([], 0) == (counted.json["buckets"], counted.json["extent"]["events"])
        assert [] == reader.ask("/cycles", headers).json["cycles"]
        start = next(each for each in events if each["type"] == "cycle.start")
        assert 404 == reader.ask(f"/cycles/{start['id']}", headers).status
        runner.run(context.__aexit__(None, None, None))


def test_so_much_of_the_past_a_minute_holds_for_a_token_over_http_too(valkey_server: RedisServer) -> None:
    tokens = [issue_token(SECRET, subject=name, types=None, ttl_s=600) for name in ("kai", "mira")]
    kai, mira = ({"Authorization": f"Bearer {token}"} for token in tokens)
    with valkey_server.client() as client, asyncio.Runner() as runner:
        for entry in _plain(0, 30):
            append(client, entry)
        context = bridge_over(valkey_server, "", replay_events_per_minute=40, secret=SECRET, anonymous="read")
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World([]), "")
        assert [200, 200] == [reader.ask("/history", kai, limit=30).status for _ in range(2)]
        for path in ("/history", "/cycles"):
            answer = reader.ask(path, kai)
            assert (429, "too_many_requests") == (answer.status, answer.json["code"])
            assert int(answer.headers["retry-after"]) >= 1
        # Nor does it help to come without a token: then it is the address.
        assert [200, 200, 429] == [reader.ask("/history", limit=30).status for _ in range(3)]
        assert 429 == reader.ask("/cycles").status
        # A range as lines is bounded by how many there are at once, not by how long it is.
        lines = {**mira, "Accept": "application/x-ndjson"}
        assert [200] * 3 == [reader.ask("/history", lines).status for _ in range(3)]
        runner.run(context.__aexit__(None, None, None))


def test_what_the_archiver_has_seen_before_the_bridge_is_given_once(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer
) -> None:
    events = list(_plain(0, 20))
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events)
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        ms = BEGAN_MS + 20_000
        foreign = [
            event(ms, at, by, "error", ts_ms=ms, cycle=4) for at, by in enumerate(("a counter from nothing:0", None))
        ]
        for entry in (*events, *foreign):
            append(client, entry)
        context = bridge_over(valkey_server, url)
        bridge = runner.run(context.__aenter__())
        reader = Reader(runner, bridge, World(events), url)
        assert [*events, *foreign] == reader.walk(limit=1000)
        of_the_next_log = list(_plain(30, 5))
        fill(url, foreign, epoch="e1")
        fill(url, of_the_next_log, epoch="e2")
        assert [*events, *foreign, *of_the_next_log] == reader.walk(limit=1000)
        runner.run(context.__aexit__(None, None, None))


def test_a_producer_and_its_seq_are_what_the_archiver_takes_them_for() -> None:
    for by in ("a:0", "a:9223372036854775807", "a:9223372036854775808", "a:b:7", ":7", "a:", "a:x", "a\0:1", "7"):
        row = archived_identity(by)
        found = producer_of(PastEvent(Position(START), "x", "", orjson.dumps({"by": by})))
        assert (row or ("", 0)) == found, by


def test_without_redis_there_is_what_is_archived(postgresql_server: PostgresqlServer) -> None:
    events = list(_plain(0, 30))
    with database(postgresql_server) as url, asyncio.Runner() as runner:
        fill(url, events)
        bridge = Bridge(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", database_url=url))
        reader = Reader(runner, bridge, World(events), url)
        assert events == reader.walk(until=events[-1]["id"], limit=7)
        assert events[3:20] == reader.walk(since=events[3]["ts"], until=events[19]["id"], order="desc")[::-1]
        answer = reader.ask("/history")
        assert (503, "unavailable") == (answer.status, answer.json["code"])
        assert "this range cannot be read just now" == answer.json["detail"]
        runner.run(bridge.stop())


def test_until_it_is_known_who_is_revoked_no_token_is_answered_from_the_archive(
    postgresql_server: PostgresqlServer,
) -> None:
    events = list(_plain(0, 30))
    all_of_it, newest = (
        {"Authorization": f"Bearer {issue_token(SECRET, subject='kai', types=None, ttl_s=60, replay=replay)}"}
        for replay in (None, {"count": 5})
    )
    until = events[-1]["id"]
    paths: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/history", {"until": until, "limit": 100}),
        ("/history", {"until": until, "bucket": "1m"}),
        ("/cycles", {"before": until}),
        ("/plain", {}),
    )
    with database(postgresql_server) as url, asyncio.Runner() as runner:
        fill(url, events)
        bridge = Bridge(
            Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", database_url=url, secret=SECRET, anonymous="read")
        )
        reader = Reader(runner, bridge, World(events), url)
        for path, query in paths:
            for headers in (all_of_it, newest):
                answer = reader.ask(path, headers, **query)
                assert (503, "unavailable") == (answer.status, answer.json["code"]), path
        assert 503 == reader.ask("/history", {**all_of_it, "Accept": "application/x-ndjson"}, until=until).status
        assert events == reader.walk(until=until), "who needs no token is answered"
        bridge._revocations.looked.set()
        assert 30 == len(reader.ask("/history", all_of_it, until=until, limit=100).json["events"])
        for path, query in paths[:3]:
            answer = reader.ask(path, newest, **query)
            assert (503, "unavailable") == (answer.status, answer.json["code"]), "which are the newest is not known yet"
        runner.run(bridge.stop())


def test_what_leaves_the_stream_on_the_way_to_it_is_looked_for_in_the_archive_again(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = list(_plain(0, 60))
    with database(postgresql_server) as url, asyncio.Runner() as runner, valkey_server.client() as client:
        fill(url, events[:20])
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events[15:]:
            append(client, entry)
        context = bridge_over(valkey_server, url, ring_events_max=10)
        bridge = runner.run(context.__aenter__())
        past = bridge.fanout.history.forward
        trimmed: list[bool] = []

        def archive_first(*arguments: Any, **named: Any) -> Any:
            if not trimmed:
                trimmed.append(True)
                with ThreadPoolExecutor() as pool:
                    pool.submit(fill, url, events[20:40]).result()
                client.xtrim("v5:stream", maxlen=25, approximate=False)
            return past(*arguments, **named)

        monkeypatch.setattr(bridge.fanout.history, "forward", archive_first)
        reader = Reader(runner, bridge, World(events), url)
        assert events == [without_n(e) for e in reader.ask("/history", limit=1000).json["events"]]
        assert trimmed
        runner.run(context.__aexit__(None, None, None))


def test_a_long_tail_is_read_in_pages_also_while_the_ring_moves_on(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, "TAIL_EVENTS", 20)
    events = list(_plain(0, 150))

    async def read(bridge: Bridge, *, newest_first: bool) -> list[int]:
        found: list[int] = []

        async def pages(at: moment.Moment) -> None:
            async for page in at.pages_of_tail(EVERYTHING, lambda name: name != "error", newest_first=newest_first):
                assert len(page) <= 20
                found.extend(orjson.loads(each.json)["data"]["at"] for each in page)
                if len(found) == 40:  # what comes pushes the oldest out of the ring
                    with valkey_server.client() as client:
                        for entry in _plain(bridge.fanout.ring.end, 30):
                            append(client, entry)
                    while bridge.fanout.ring.end < before + 30:
                        await asyncio.sleep(0.01)

        before = bridge.fanout.ring.end
        await Tiers(bridge.fanout, bridge.archive).at_one_moment(pages)
        return found

    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events[:10])
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events:
            append(client, entry)
        context = bridge_over(valkey_server, url, ring_events_max=150)
        bridge = runner.run(context.__aenter__())
        expected = [at for at in range(10, 210) if TYPES[at % len(TYPES)] != "error"]
        assert [at for at in expected if at < 150] == runner.run(read(bridge, newest_first=False))
        assert [at for at in expected if at < 180][::-1] == runner.run(read(bridge, newest_first=True))
        runner.run(context.__aexit__(None, None, None))


def test_seconds_are_told_apart_of_few_events_only(
    postgresql_server: PostgresqlServer, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = list(_plain(0, 100))
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events[:80])
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events[80:]:
            append(client, entry)
        context = bridge_over(valkey_server, url)
        reader = Reader(runner, runner.run(context.__aenter__()), World(events), url)
        told = reader.ask("/history", bucket="auto").json
        assert (1, [1] * 100) == (told["bucket_s"], [bucket["count"] for bucket in told["buckets"]])
        monkeypatch.setattr(census, "FINE_EVENTS_MAX", 79)
        assert 60 == reader.ask("/history", bucket="auto").json["bucket_s"]
        refused = reader.ask("/history", bucket="5s")
        assert 400 == refused.status and "this range has more; ask for 1m or more" in refused.json["detail"]
        last = reader.ask("/history", bucket="5s", since=events[70]["ts"]).json["buckets"]
        assert [5] * 6 == [bucket["count"] for bucket in last]
        runner.run(context.__aexit__(None, None, None))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_clock_that_is_astray_spoils_no_map(postgresql_server: PostgresqlServer, valkey_server: RedisServer) -> None:
    """An event of the year 9999, and one of a machine that does not know the time; archived, and not yet."""
    events = list(_plain(0, 100))
    for at, ts in (
        (20, "9999-12-31T23:59:59.999Z"),
        (90, "9999-12-31T23:59:59.999Z"),
        (91, "1970-01-01T00:00:07.000Z"),
    ):
        events[at] = {**events[at], "ts": ts}
    with database(postgresql_server) as url, valkey_server.client() as client, asyncio.Runner() as runner:
        fill(url, events[:80])
        client.hset("{v5:stream}:log", mapping={"epoch": "e1"})
        for entry in events[80:]:
            append(client, entry)
        context = bridge_over(valkey_server, url)
        reader = Reader(runner, runner.run(context.__aenter__()), World(events), url)
        for bucket in ("auto", "1m"):
            told = reader.ask("/history", bucket=bucket).json
            assert 97 == sum(bucket["count"] for bucket in told["buckets"]) and told["bucket_s"] <= 60
            assert 100 == told["extent"]["events"]
        asked = reader.ask("/history", bucket="auto", until="9999-12-31T23:59:59.999Z").json
        assert 99 == sum(bucket["count"] for bucket in asked["buckets"])
        runner.run(context.__aexit__(None, None, None))


def _plain(first: int, count: int) -> Iterator[dict[str, Any]]:
    for at in range(first, first + count):
        ms = BEGAN_MS + at * 1000
        yield event(ms, 0, f"kai:{at + 1}", TYPES[at % len(TYPES)], ts_ms=ms, cycle=at // 6, at=at)
