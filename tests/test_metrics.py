"""`GET /metrics`: the numbers of a bridge, as Prometheus' own parser reads them; and nothing of any event."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.ring import Ring
from broadcast.errors import CODES
from broadcast.log.archiving import Archiving
from broadcast.log.position import EntryId, Gap
from tests.archives import database
from tests.bridges import ROOT, BridgeProcess, serving
from tests.memory_log import MemoryLog
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer, free_port
from tests.viewers import raw_viewer

PATIENCE_S: Final = 20.0
SECRET: Final = "of this test, and long enough for it"


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with shared_server.client() as client:
        client.flushall()
    tell_of_an_archiver(shared_server)
    # An archive that nobody can read: its numbers are there, too.
    nowhere = f"postgresql://127.0.0.1:{free_port()}/nowhere"
    with serving(shared_server.url, tmp_path_factory.mktemp("bridge"), DATABASE_URL=nowhere) as process:
        yield process


def tell_of_an_archiver(server: RedisServer) -> None:
    """What it tells, so that its numbers are there, too."""
    with server.client() as client:
        epoch: Any = client.hget("{v5:stream}:log", "epoch") or b""
        told = Archiving("test", int(time.time() * 1000), epoch.decode(), EntryId(1, 0), 1, 2.0, "")
        client.hset("{v5:stream}:archive", mapping=told.as_fields())


@pytest.fixture
def mind(bridge: BridgeProcess) -> Iterator[Broadcaster]:
    from broadcast.settings import Settings

    broadcaster = Broadcaster(settings=Settings(redis_url=bridge.redis_url))
    yield broadcaster
    broadcaster.close(2)


def numbers(bridge: BridgeProcess) -> dict[tuple[str, str], float]:
    """Every sample by its name and its label's value; no sample has more than one label that matters."""
    status, body = bridge.get("/metrics")
    assert 200 == status, body
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


def until(bridge: BridgeProcess, name: str, at_least: float, label: str = "") -> dict[tuple[str, str], float]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := numbers(bridge)).get((name, label), -1) < at_least:
        assert time.monotonic() < deadline, (name, label, found)
        time.sleep(0.05)
    return found


async def test_events_are_counted_on_their_way_in_and_out(bridge: BridgeProcess, mind: Broadcaster) -> None:
    before = numbers(bridge)
    async with raw_viewer(bridge.url, "websocket", catchup=0) as viewer:
        await viewer.until("position")
        for i in range(7):
            mind.emit("count", {"i": i, "text": "x" * 100})
        await viewer.until_event(6)
        during = until(bridge, "broadcast_events_in_total", before["broadcast_events_in_total", ""] + 7)
        assert 1 == during["broadcast_viewers", "websocket"] - before["broadcast_viewers", "websocket"]
    after = until(bridge, "broadcast_viewer_ends_total", 1, "left")

    def grew(name: str) -> float:
        return after[name, ""] - before[name, ""]

    assert 7 == grew("broadcast_events_in_total") == grew("broadcast_events_out_total")
    assert 700 < grew("broadcast_events_in_bytes_total") < grew("broadcast_events_out_bytes_total") < 7000
    assert 0 == after["broadcast_viewers", "websocket"]
    assert 1 <= grew("broadcast_append_delay_seconds_count") <= 7
    assert grew("broadcast_append_delay_seconds_sum") < PATIENCE_S
    assert 1 == after["broadcast_redis_up", ""]
    assert 0 == after["broadcast_bridge_stuck", ""]
    assert after["process_resident_memory_bytes", ""] > 10_000_000


def test_what_producers_lost_is_counted_under_reasons_that_are_known(bridge: BridgeProcess, mind: Broadcaster) -> None:
    for reason, count in (("buffer_full", 40), ('an\nevil"reason', 2), (None, 3), (["full"], 1), ("rejected", "many")):
        mind.emit("broadcast.lost", {"reason": reason, "count": count})
    assert mind.flush()

    found = until(bridge, "broadcast_lost_events_total", 6, "other")

    assert 40 == found["broadcast_lost_events_total", "buffer_full"]
    assert 1 == found["broadcast_lost_events_total", "rejected"]
    assert {"buffer_full", "rejected", "other"} == {k[1] for k in found if k[0] == "broadcast_lost_events_total"}


def told_of_a_loss(i: int) -> dict[str, str]:
    event = {"type": "broadcast.lost", "ts": "2026-02-14T19:01:23.456Z", "cycle": 0, "day": 0}
    return {"event": json.dumps({**event, "data": {"count": 7, "reason": "redis_rewound"}}), "by": f"again:{i}"}


def test_a_loss_that_is_appended_again_is_counted_once(bridge: BridgeProcess, shared_server: RedisServer) -> None:
    repeated = numbers(bridge)["broadcast_repeated_events_total", ""]
    with shared_server.client() as client:
        for i in (1, 1, 2, 1):
            client.xadd("v5:stream", told_of_a_loss(i))
    found = until(bridge, "broadcast_repeated_events_total", repeated + 2)
    assert 14 == found["broadcast_lost_events_total", "redis_rewound"]


def test_what_a_rewound_log_has_again_is_told_to_nobody_who_counts() -> None:
    log, told = MemoryLog(), list[str | None]()
    fanout = Fanout(cast("Any", log), Ring(events_max=10, bytes_max=10**6))
    fanout.on_taken = lambda entries: told.extend(entry.by for entry in entries)
    lost = [log.append("broadcast.lost", i, f"mind:{i}") for i in (1, 2)]
    fanout.take_in(lost)
    log.rewind(2)
    fanout.take_in(Gap(lost[-1].id, None, None, "rewound"))
    again = [log.append("broadcast.lost", i, f"mind:{i}") for i in (1, 2, 3)]
    fanout.take_in(again)
    fanout.take_in(again[:1])
    assert ["mind:1", "mind:2", "mind:3"] == told
    assert 3 == fanout.repeated


async def test_all_bytes_of_events_are_counted_whichever_way_they_go(bridge: BridgeProcess, mind: Broadcaster) -> None:
    for i in range(5):
        mind.emit("heavy", {"i": i, "text": "x" * 10_000})
    assert mind.flush()
    bridge.wait_until_caught_up()
    sent = numbers(bridge)["broadcast_events_out_bytes_total", ""]
    async with raw_viewer(bridge.url, "websocket", types="heavy", catchup=5) as viewer:
        await viewer.until("position")
        caught_up = until(bridge, "broadcast_events_out_bytes_total", sent + 50_000)
        await viewer.request("replay", {"count": 5}, ack_id=1)
        await viewer.until("ack")
        replayed = until(bridge, "broadcast_events_out_bytes_total", sent + 100_000)
        await viewer.request("replay", {"since": "1-0", "speed": 64, "idle_s": 0}, ack_id=2)
        await viewer.until("replay.end")
        timed = until(bridge, "broadcast_events_out_bytes_total", sent + 150_000)
    counted = [found["broadcast_events_out_bytes_total", ""] - sent for found in (caught_up, replayed, timed)]
    assert [5, 10, 15] == [int(each) // 10_000 for each in counted]


def test_what_was_put_in_later_does_not_count_as_delayed(bridge: BridgeProcess, shared_server: RedisServer) -> None:
    before = numbers(bridge)
    with shared_server.client() as client:
        for ts in ("0001-01-01T00:00:00.000Z", "2026-02-14T19:01:23.456Z"):
            event: dict[str, Any] = {"type": "a", "ts": ts, "cycle": 0, "day": 0, "data": {}}
            client.xadd("v5:stream", {"event": json.dumps(event)})
    after = until(bridge, "broadcast_events_in_total", before["broadcast_events_in_total", ""] + 2)
    assert after["broadcast_append_delay_seconds_sum", ""] == before["broadcast_append_delay_seconds_sum", ""]


def test_nothing_of_an_event_stands_in_them(bridge: BridgeProcess, mind: Broadcaster) -> None:
    mind.emit("very.private.type", {"secret": "do not tell"})
    assert mind.flush()
    bridge.wait_until_caught_up()

    _, body = bridge.get("/metrics")

    assert "private" not in body
    assert "do not tell" not in body


def test_they_are_told_to_this_machine_alone(bridge: BridgeProcess) -> None:
    status, body = bridge.get("/metrics", {"X-Forwarded-For": "127.0.0.1"})

    # Nobody has said who else may come: so nobody does, whatever the path.
    assert (403, "forbidden_proxy") == (status, json.loads(body)["code"])


def test_elsewhere_a_token_for_administrators_is_wanted(shared_server: RedisServer, tmp_path: Path) -> None:
    tokens = {admin: issue_token(SECRET, subject="x", types=None, ttl_s=600, is_admin=admin) for admin in (True, False)}
    with serving(shared_server.url, tmp_path, BROADCAST_SECRET=SECRET) as bridge:
        for admin, status in ((True, 200), (False, 403)):
            headers = {"X-Forwarded-For": "10.0.0.1", "Authorization": f"Bearer {tokens[admin]}"}
            assert status == bridge.get("/metrics", headers)[0]
        assert 401 == bridge.get("/metrics", {"X-Forwarded-For": "10.0.0.1"})[0]


def test_refusals_are_counted_by_codes_that_there_are_and_posted_events_too(
    shared_server: RedisServer, tmp_path: Path
) -> None:
    token = issue_token(SECRET, subject="lamp", types="-*", ttl_s=600, emit=True)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": "metrics"}
    with serving(shared_server.url, tmp_path, BROADCAST_SECRET=SECRET, BROADCAST_LIMITS="often=1/h") as bridge:
        body = b'[{"type": "a"}, {"type": "often"}, {"type": "often"}]'
        for _ in range(3):  # a repeat counts for nothing
            request = urllib.request.Request(f"{bridge.url}/events", data=body, headers=headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                assert 202 == answer.status
        asked: tuple[tuple[str, dict[str, str]], ...] = (
            ("/nothing", {}),
            ("/events", {}),
            ("/events", {"Host": "evil.example"}),
            ("/events?token=x", {}),
            ("/socket.io/?EIO=4&transport=polling", {"Origin": "https://evil.example"}),
        )
        for path, more in asked:
            assert bridge.get(path, more)[0] >= 400
        body_of_metrics = bridge.get_as_operator("/metrics")[1]
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body_of_metrics)
        for sample in family.samples
    }
    refused = {labels[0]: count for (name, *labels), count in found.items() if name == "broadcast_refusals_total"}
    expected = {"not_found", "unauthorized", "forbidden_host", "bad_request", "forbidden_origin"}
    assert dict.fromkeys(expected, 1) == refused
    assert refused.keys() <= CODES.keys()
    assert 2 == found["broadcast_posted_events_total",]
    assert 1 == found["broadcast_posted_events_withheld_total",]


def test_the_archive_is_told_of_as_the_bridge_itself_sees_it(
    bridge: BridgeProcess, shared_server: RedisServer, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    found = until(bridge, "broadcast_postgresql_up", 0)
    assert 0 == found["broadcast_postgresql_up", ""]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{bridge.url}/history?limit=1", timeout=PATIENCE_S)
    until(bridge, "broadcast_archive_read_failures_total", 1)
    with (
        database(postgresql_server) as url,
        serving(shared_server.url, tmp_path, DATABASE_URL=url) as other,
    ):
        until(other, "broadcast_postgresql_up", 1)
        before = numbers(other)["broadcast_archive_read_seconds_count", ""]
        assert 200 == other.get("/history?limit=1")[0]
        after = until(other, "broadcast_archive_read_seconds_count", before + 1)
        assert 0 < after["broadcast_archive_read_seconds_sum", ""] < PATIENCE_S


def test_prometheus_newer_form_is_spoken_too(bridge: BridgeProcess) -> None:
    _, body = bridge.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})

    assert body.endswith("# EOF\n")


def test_every_number_on_the_grafana_dashboard_is_one_that_is_told(
    bridge: BridgeProcess, shared_server: RedisServer
) -> None:
    tell_of_an_archiver(shared_server)  # of the log as it is by now
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    until(bridge, "broadcast_archive_lag_events", 0)
    until(bridge, "broadcast_postgresql_up", 0)
    names = {family.name for family in text_string_to_metric_families(bridge.get("/metrics")[1])}
    told = {f"{name}{end}" for name in names for end in ("", "_total", "_bucket", "_sum", "_count")}

    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

    assert len(asked) > 15
    for expression in asked:
        named = {word for word in _words(expression) if word.startswith(("broadcast_", "process_"))}
        assert named, expression
        assert named <= told, (expression, named - told)


def _words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
