"""A failover behind Sentinels, as the bridge's viewers see it: they miss nothing, or hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridges import IGNORE_CLIENT, BridgeProcess, Client, EventStream, serving
from tests.sentinels import PATIENCE_S, Pair, emit_steadily, emit_until_failed_over, emitting_to, watched_pair

pytestmark = IGNORE_CLIENT


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Pair]:
    with watched_pair(tmp_path, sentinels=3) as pair:
        yield pair


@pytest.fixture
def bridge(trio: Pair, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(trio.url, tmp_path) as process:
        yield process


def once_by_identity(events: list[dict[str, Any]]) -> list[int]:
    """The numbers that were emitted, without what came again under its old `by`: as `client.js` does it."""
    seen: dict[str, int] = {event["by"]: event["data"]["i"] for event in reversed(events) if event["type"] == "x"}
    return list(reversed(seen.values()))


async def test_viewers_have_every_event_through_a_failover_live_and_when_they_come_back(
    trio: Pair, bridge: BridgeProcess
) -> None:
    with emitting_to(trio.url) as emitter:
        emitted = await emit_steadily(emitter, 0, seconds=0.3)
        async with (
            Client(bridge.url, types="x", catchup=1000) as stays,
            EventStream(bridge.url, path="/events?types=x&catchup=1000") as stream,
        ):
            async with Client(bridge.url, types="x", catchup=1000) as leaves:
                await leaves.until(lambda: leaves.events)
                await stays.until(lambda: len(once_by_identity(stays.events)) == emitted)
            known = leaves.events[-1]
            epoch = leaves.all("hello")[0]["epoch"]
            trio.sentinel.ask("failover", "kai")
            emitted = await emit_until_failed_over(emitter, trio, emitted)
            emitted = await emit_steadily(emitter, emitted, seconds=0.5)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S)
            await stays.until(lambda: len(once_by_identity(stays.events)) == emitted)
            streamed = await stream.messages(emitted)
        since = {"id": known["id"], "n": known["n"], "epoch": epoch}
        async with Client(bridge.url, types="x", since=since) as returns:
            await returns.until(lambda: returns.events and returns.events[-1]["data"]["i"] == emitted - 1)
    assert list(range(emitted)) == once_by_identity(stays.events)
    assert list(range(emitted)) == sorted({event["data"]["i"] for event in streamed})
    numbers = once_by_identity(leaves.events + returns.events)
    told = {gap["reason"] for gap in returns.all("gap")}
    assert told <= {"rewound"}
    assert told or list(range(emitted)) == numbers
    assert sorted(numbers) == list(range(emitted))
