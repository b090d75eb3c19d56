"""The ring against a plain list that forgets nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.ring import Ring, RingEvent, RingGap, RingItem
from broadcast.log.entry import Entry
from broadcast.log.position import EntryId, Gap, Position

STEPS = st.lists(st.one_of(st.integers(1, 7), st.just("gap"), st.just("clear")), max_size=30)


def entry(i: int) -> Entry:
    event = {
        "type": "even" if i % 2 == 0 else "odd",
        "ts": f"{i:05}",
        "cycle": 0,
        "day": 0,
        "data": {"x": "x" * (i % 9)},
    }
    return Entry(EntryId(i, 0), event, None, i)


def filled(steps: list[int | str], ring: Ring) -> list[RingItem]:
    """All that was ever put in, in order; its index in this list is its index in the ring."""
    everything: list[RingItem] = []
    i = 0
    for step in steps:
        if isinstance(step, int):
            entries = [entry(i + k) for k in range(1, step + 1)]
            i += step
            ring.append(entries)
            everything += [RingEvent(each) for each in entries]
        elif step == "gap":
            gap = Gap(EntryId(i, 0), None, None, "trimmed")
            ring.append_gap(gap, Position(gap.after))
            everything.append(RingGap(gap, Position(gap.after)))
        else:
            ring.clear()
    return everything


def told(item: RingItem) -> object:
    return (item.id, item.n, item.type, item.json) if isinstance(item, RingEvent) else item


def whole(held: list[RingItem]) -> list[RingEvent]:
    """The events behind the newest gap."""
    behind = next((at for at, item in enumerate(reversed(held)) if isinstance(item, RingGap)), len(held))
    return [item for item in held[len(held) - behind :] if isinstance(item, RingEvent)]


@given(STEPS, st.integers(1, 12), st.integers(0, 800))
def test_it_is_the_end_of_all_that_was_put_in_within_its_bounds(
    steps: list[int | str], events_max: int, bytes_max: int
) -> None:
    ring = Ring(events_max=events_max, bytes_max=bytes_max)
    everything = filled(steps, ring)
    assert len(everything) == ring.end
    held = everything[ring.start :]
    assert [told(item) for item in held] == [told(item) for item in ring.read(ring.start, ring.end)]
    events = [item for item in held if isinstance(item, RingEvent)]
    assert len(events) <= events_max
    assert ring.bytes == sum(len(event.json) for event in events)
    assert ring.bytes <= bytes_max or len(events) <= 1
    for first, found in ((ring.first_held(), events), (ring.first_event(), whole(held))):
        assert (first and told(first)) == (told(found[0]) if found else None)
    assert whole(held) == [item for item in everything[ring.whole_start :] if isinstance(item, RingEvent)]


@given(STEPS, st.integers(1, 12), st.integers(0, 60), st.integers(0, 12))
def test_a_cursor_that_goes_on_behind_an_id_gets_all_that_is_left_behind_it(
    steps: list[int | str], events_max: int, at: int, count: int
) -> None:
    ring = Ring(events_max=events_max, bytes_max=10**6)
    held = filled(steps, ring)[ring.start :]
    index = ring.index_after(EntryId(at, 0))
    behind = ring.read(index, ring.end)
    events = [item for item in held if isinstance(item, RingEvent)]
    assert [told(e) for e in events if e.id.ms > at] == [told(e) for e in behind if isinstance(e, RingEvent)]
    # A gap right behind the event it went on from is among it.
    assert (
        all(gap in behind for gap in held if isinstance(gap, RingGap) and gap.gap.after.ms >= at and at > 0) or not held
    )
    newest = list(ring.newest_first(lambda kind: kind == "even", until=EntryId(at, 0)))
    of_whole = reversed(whole(held))
    assert [told(e) for e in newest] == [told(e) for e in of_whole if e.id.ms <= at and e.type == "even"]
    assert ring.read(index, count) == behind[:count]


def test_a_gap_right_behind_the_event_it_went_on_from_is_told() -> None:
    ring = Ring(events_max=10, bytes_max=10**6)
    ring.append([entry(1), entry(2)])
    gap = Gap(EntryId(2, 0), EntryId(5, 0), 2, "trimmed")
    ring.append_gap(gap, Position(gap.after))
    ring.append([entry(5)])
    read = [told(item) for item in ring.read(ring.index_after(EntryId(2, 0)), 10)]
    assert [RingGap(gap, Position(gap.after)), told(RingEvent(entry(5)))] == read
    assert read[1:] == [told(item) for item in ring.read(ring.index_after(EntryId(3, 0)), 10)]
