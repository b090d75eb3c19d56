"""Limits of posted events: a repeat costs no other event, and the log tells what is withheld as `emit()` tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridges import PATIENCE_S, BridgeProcess, serving
from tests.servers import RedisServer
from tests.test_ingest import SECRET, entries, post

LIMITS: Final = "often.*=100/s,seldom.*=1/h,rare.*=1/h"


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    more = {"BROADCAST_SECRET": SECRET, "BROADCAST_LIMITS": LIMITS}
    with serving(shared_server.url, tmp_path_factory.mktemp("limits"), constants=None, **more) as process:
        yield process


def often(kind: str, count: int) -> list[dict[str, Any]]:
    return [{"type": f"often.{kind}", "data": {"i": i}} for i in range(count)]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_repeat_costs_no_other_event(bridge: BridgeProcess, valkey_server: RedisServer, at_once: bool) -> None:
    await asyncio.sleep(1)  # a second's worth may come at once, whatever came before
    body, key = often("a", 60), f"once {at_once}".replace(" ", "-")
    if at_once:
        answers = await asyncio.gather(*(post(bridge, body, key=key) for _ in range(8)))
    else:
        answers = [await post(bridge, body, key=key) for _ in range(8)]
    status, new = await post(bridge, often("b", 40), key=f"new-{key}")

    assert (202, 40) == (status, len([entry_id for entry_id in new["ids"] if entry_id]))
    assert 1 == len({json.dumps(answer) for answer in answers})
    assert 100 == len(entries(valkey_server))


async def test_what_cannot_be_written_costs_nothing_either(own_server: RedisServer, tmp_path: Path) -> None:
    more = {"BROADCAST_SECRET": SECRET, "BROADCAST_LIMITS": LIMITS}
    body = [{"type": "seldom.x"}]
    with serving(own_server.url, tmp_path, constants=None, **more) as bridge:
        own_server.stop()
        assert 503 == (await post(bridge, body, key="k"))[0]
        own_server.start()
        status, told = await post(bridge, body, key="k")
    assert (202, True) == (status, told["ids"][0] is not None)


async def test_another_body_under_a_known_key_costs_nothing(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    assert 202 == (await post(bridge, [{"type": "free"}], key="taken"))[0]
    await asyncio.sleep(1)
    assert [422] * 3 == [(await post(bridge, often("c", 60), key="taken"))[0] for _ in range(3)]
    _, told = await post(bridge, often("d", 100))
    assert None not in told["ids"]
    assert 101 == len(entries(valkey_server))


# --- what is told of it


def reports(server: RedisServer, pattern: str = "seldom.*") -> list[dict[str, Any]]:
    """Those of one pattern; a Redis that was emptied is told again of what it had only just acknowledged."""
    found = [event for event in entries(server) if event["type"] == "broadcast.limited"]
    return [event for event in found if pattern in event["data"]["withheld"]]


def withheld_in(server: RedisServer, pattern: str = "seldom.*") -> int:
    return sum(report["data"]["withheld"][pattern] for report in reports(server, pattern))


async def until_told(server: RedisServer, count: int, pattern: str = "seldom.*") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while withheld_in(server, pattern) < count:
            await asyncio.sleep(0.1)


async def test_what_is_withheld_is_told_in_the_log_by_the_bridge(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    withheld = 0
    times = [f"2026-02-14T19:01:{second:02d}.000Z" for second in range(10, 20)]
    for i, ts in enumerate(times):
        _, told = await post(bridge, [{"type": "seldom.x", "ts": ts}, {"type": "free"}], key=f"told-{i}")
        await post(bridge, [{"type": "seldom.x", "ts": ts}, {"type": "free"}], key=f"told-{i}")
        withheld += told["ids"].count(None)
    await until_told(valkey_server, withheld)
    (first, *_), last = reports(valkey_server), reports(valkey_server)[-1]
    assert withheld == withheld_in(valkey_server) >= 9
    assert {"withheld", "first_ts", "last_ts", "producer"} == set(first["data"])
    assert (times[10 - withheld], times[-1]) == (first["data"]["first_ts"], last["data"]["last_ts"])
    assert first["data"]["producer"] == first["by"].rpartition(":")[0]


async def test_it_is_told_at_most_once_a_second(bridge: BridgeProcess, valkey_server: RedisServer) -> None:
    withheld = 0
    for _ in range(25):
        _, told = await post(bridge, [{"type": "rare.x"}] * 3)
        withheld += told["ids"].count(None)
        await asyncio.sleep(0.1)
    await until_told(valkey_server, withheld, "rare.*")
    found = reports(valkey_server, "rare.*")
    assert withheld == withheld_in(valkey_server, "rare.*")
    assert len(found) >= 2
    for report in found:
        told_at, first_at = (datetime.fromisoformat(ts) for ts in (report["ts"], report["data"]["first_ts"]))
        assert (told_at - first_at).total_seconds() > 0.9


async def test_a_bridge_that_ends_has_told_what_it_withheld(own_server: RedisServer, tmp_path: Path) -> None:
    with serving(own_server.url, tmp_path, BROADCAST_SECRET=SECRET, BROADCAST_LIMITS=LIMITS) as bridge:
        await post(bridge, [{"type": "seldom.x"}] * 5)
        bridge.stop()
    assert 4 == withheld_in(own_server)


async def test_while_redis_is_away_it_waits(own_server: RedisServer, tmp_path: Path) -> None:
    with serving(own_server.url, tmp_path, BROADCAST_SECRET=SECRET, BROADCAST_LIMITS=LIMITS) as bridge:
        await post(bridge, [{"type": "seldom.x"}] * 5)
        own_server.stop()
        await asyncio.sleep(2)  # it is due meanwhile
        assert 200 == bridge.get("/healthz")[0]
        own_server.start()
        await until_told(own_server, 4)
        assert 4 == withheld_in(own_server)
