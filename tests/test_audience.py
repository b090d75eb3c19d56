"""The bytes that one set of viewers shares."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcast.bridge.audience import STRETCH_BYTES_MAX, STRETCH_ITEMS_MAX, Audience
from broadcast.bridge.engine.packets import parse_packet
from broadcast.bridge.ring import Ring
from broadcast.bridge.wire import POLLING, POLLING_PLACED, SSE, WEBSOCKET, WEBSOCKET_PLACED, Form
from broadcast.filters import ALL, parse_filter
from broadcast.log.position import START, EntryId, Gap, Position
from tests.memory_log import MemoryLog


def ring_of(*types: str) -> Ring:
    log = MemoryLog()
    ring = Ring(events_max=10_000, bytes_max=10**9)
    ring.append([log.append(event_type, i, f"mind:{i + 1}") for i, event_type in enumerate(types)])
    return ring


def texts(form: Form, data: bytes) -> list[str]:
    """The Socket.IO messages in what is written."""
    if form in (POLLING, POLLING_PLACED):
        return [packet[1:] for packet in data.decode().split("\x1e")[:-1]]
    found = []
    while data:
        size, at = data[1], 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        assert data[0] == 0x81, "one whole text frame"
        found.append(data[at + 1 : at + size].decode())
        data = data[at + size :]
    return found


def test_all_who_stand_at_the_same_place_get_the_very_same_bytes() -> None:
    ring = ring_of("a", "b", "a")
    audience = Audience(ring, ALL, ALL, WEBSOCKET)
    assert audience.stretch(0, "e").data is audience.stretch(0, "e").data
    assert audience.stretch(1, "e").data in audience.stretch(0, "e").data


def test_what_is_new_is_in_the_next_stretch() -> None:
    ring = ring_of("a")
    audience = Audience(ring, ALL, ALL, SSE)
    assert audience.stretch(0, "e").end == 1
    ring.append([MemoryLog(added=1).append("b", 1, "mind:2")])
    assert audience.stretch(0, "e").end == 2


def test_it_passes_over_what_is_not_wanted_or_not_granted_and_says_what_the_viewer_knows() -> None:
    ring = ring_of("a.x", "b", "a.y", "c")
    audience = Audience(ring, parse_filter("a.*,b"), parse_filter("-b"), SSE)
    stretch = audience.stretch(0, "e")
    assert (4, 2) == (stretch.end, stretch.sent)
    assert (4, 3) == (stretch.place.n, stretch.told and stretch.told.n)
    nothing = Audience(ring, parse_filter("z"), ALL, SSE).stretch(0, "e")
    assert (4, b"", None) == (nothing.end, nothing.data, nothing.told)


@pytest.mark.parametrize("form", [WEBSOCKET, WEBSOCKET_PLACED, POLLING, POLLING_PLACED])
def test_each_form_carries_the_events_whole_and_a_place_for_who_recovers(form: Form) -> None:
    ring = ring_of("a", "b" * 60_000, "c")
    got = [parse_packet(text).data for text in texts(form, Audience(ring, ALL, ALL, form).stretch(0, "e").data)]
    events: list[Any] = [json.loads(item.json) for item in ring.read(0, 3)]  # type: ignore[union-attr]
    placed = form in (WEBSOCKET_PLACED, POLLING_PLACED)
    assert [["event", event, *([event["id"]] if placed else [])] for event in events] == got


def test_a_gap_of_the_log_stands_among_the_events_and_names_the_epoch_behind_it() -> None:
    ring = ring_of("a")
    place = Position(START, 0, "f")
    ring.append_gap(Gap(EntryId(1001, 0), None, None, "rewound"), place)
    stretch = Audience(ring, ALL, ALL, SSE).stretch(0, "f")
    assert (2, 1, 1, place, place) == (stretch.end, stretch.sent, stretch.gaps, stretch.place, stretch.told)
    names = [line[7:] for line in stretch.data.decode().split("\n") if line.startswith("event: ")]
    assert ["gap", "position"] == names


def test_so_much_is_written_at_once_and_no_more() -> None:
    ring = ring_of(*["a"] * (STRETCH_ITEMS_MAX + 5))
    assert Audience(ring, parse_filter("z"), ALL, SSE).stretch(0, "e").end == STRETCH_ITEMS_MAX
    large = ring_of(*["x" * 60_000] * 10)
    stretch = Audience(large, ALL, ALL, SSE).stretch(0, "e")
    assert STRETCH_BYTES_MAX <= len(stretch.data) < STRETCH_BYTES_MAX + 130_000
    assert stretch.end == stretch.sent < 10
