"""A reading with an end in the past comes to it, wherever it began and whatever is left of the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast.log.entry import Entry
from broadcast.log.journey import End, Journey
from broadcast.log.position import START, Bounds, EntryId, Position, Seen, judge

NOW_MS = 1_000_000


def _id(n: int) -> EntryId:
    return EntryId(n * 10, 0)


@st.composite
def logs(draw: st.DrawFn) -> Bounds:
    """Entries 1…added, `kept` of them left."""
    added = draw(st.integers(0, 8))
    kept = draw(st.integers(0, added))
    first = _id(added - kept + 1) if kept else None
    return Bounds(first, _id(added) if added else START, added, kept, draw(st.sampled_from(["e", None])))


BEGINNINGS = st.none() | st.builds(
    Position,
    st.builds(EntryId, st.integers(0, 120), st.integers(0, 1)),
    n=st.none() | st.integers(0, 8),
    epoch=st.sampled_from(["e", "another", None]),
    is_moment=st.booleans(),
)
ENDS = st.builds(
    End,
    position=st.none(),
    ts=st.just("1970-01-01T00:00:00.090Z"),
) | st.builds(End, position=st.builds(Position, st.builds(_id, st.integers(0, 12))), ts=st.none())


@given(logs(), BEGINNINGS, ENDS)
def test_a_reading_whose_end_is_past_ends_with_what_there_is(bounds: Bounds, begin: Position | None, end: End) -> None:
    journey = Journey(begin, None, end, None, Seen())
    journey.look_at_the_clock(NOW_MS)
    # As the tail of the stream goes about it.
    there, gap = (bounds.end, None) if begin is None else judge(begin, bounds)
    journey.resume(there, bounds, is_gap_next=gap is not None)
    if gap is not None:
        assert not journey.is_over, "what is missing is told first"
        journey.pass_gap()
    left = range(bounds.added - bounds.length + 1 if bounds.added else 1, (bounds.added or 0) + 1)
    for n in left:
        if _id(n) > there.id and not journey.is_over:
            event = {"type": "x", "ts": "1970-01-01T00:00:00.000Z", "cycle": 0, "day": 0, "data": {}}
            journey.pass_over(Entry(_id(n), event, None, n))
    assert journey.is_over


def test_an_end_that_is_reached_already_is_not_waited_for() -> None:
    """Its id is of the clock of Redis, which may be ahead of this one."""
    bounds = Bounds(_id(1), _id(4), 4, 4, "e")
    journey = Journey(bounds.end, None, End(bounds.end, None), None, Seen())
    journey.look_at_the_clock(0)
    journey.resume(bounds.end, bounds, is_gap_next=False)
    assert journey.is_over and not journey.is_late
