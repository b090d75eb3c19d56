"""A walk over the past, where its log was cut back or its end lies before the newest event."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from broadcast.bridge.held import Held
from broadcast.bridge.past import Wanted
from broadcast.bridge.ring import Ring
from broadcast.bridge.walk import RING_EVENTS, Walk
from broadcast.log.position import Gap, Position
from tests.memory_log import MemoryLog


def test_a_walk_goes_on_behind_however_many_events_that_the_log_lost() -> None:
    log = MemoryLog()
    kept = [log.append("x", i, f"a:{i + 1}") for i in range(100)]
    lost = [log.append("x", i, f"a:{i + 1}") for i in range(100, 100 + RING_EVENTS + 50)]
    ring = Ring(events_max=10_000, bytes_max=10**9)
    ring.append(kept + lost)
    stood = log.last
    log.rewind(len(lost))
    ring.append_gap(Gap(stood, None, None, "rewound"), log.now().end)
    new = [log.append("x", i, f"b:{i + 1}") for i in range(RING_EVENTS + 30)]
    ring.append(new)
    history = SimpleNamespace(past=None, held=Held(), is_ring_whole=False)
    fanout: Any = SimpleNamespace(ring=ring, head=log.now().end, history=history, ring_reaches=lambda _: True)

    async def walked() -> list[str]:
        walk = Walk(fanout, Position(kept[9].id, kept[9].n, log.epoch), Wanted(), until=fanout.head)
        return [str(event.id) async for page in walk.pages() if not isinstance(page, Gap) for event in page]

    assert [str(entry.id) for entry in kept[10:] + new] == asyncio.run(walked())
