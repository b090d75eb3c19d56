"""Limits of posted events: a repeat costs no other event, and the log tells what is withheld as `emit()` tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer
from tests.test_ingest import SECRET, entries, post

LIMITS: Final = "often.*=100/s,seldom.*=1/h"


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
