"""Where a cursor stands, against a model of a log that is appended to, trimmed, rewound and begun anew."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.errors import PositionError
from broadcast.log.position import START, Bounds, EntryId, Gap, Position, Seen, Since, judge, parse_id, parse_since

NOW = datetime(2026, 2, 14, 19, 1, 23, 456789, tzinfo=UTC)
IDS = st.builds(EntryId, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@given(IDS)
def test_an_id_reads_back_as_what_it_was_written(entry_id: EntryId) -> None:
    assert entry_id == parse_id(str(entry_id))


@given(IDS)
def test_before_and_after_are_the_neighbours(entry_id: EntryId) -> None:
    assert entry_id == entry_id.after().before()
    assert entry_id.before() < entry_id < entry_id.after() or entry_id == START


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "1-2-3", "x", "٣-0", "18446744073709551616", 5, None, b"1-0"])
def test_what_is_no_id_is_refused(text: object) -> None:
    with pytest.raises(PositionError, match="expected an event's id"):
        parse_id(text)


# The log as it was: entries 1…added, `kept` of them left; a cursor that had `had` of them.
@st.composite
def cursors(draw: st.DrawFn) -> tuple[Position, Bounds, int, int]:
    added = draw(st.integers(0, 30))
    kept = draw(st.integers(0, added))
    had = draw(st.integers(0, added))
    first = _id(added - kept + 1) if kept else None
    bounds = Bounds(first, _id(added), added, kept, "e")
    return Position(_id(had), had, draw(st.sampled_from(["e", None]))), bounds, had, added - kept


def _id(n: int) -> EntryId:
    return EntryId(n * 10, 0)


@given(cursors())
def test_a_cursor_misses_exactly_what_was_trimmed_before_it_had_it(cursor: tuple[Position, Bounds, int, int]) -> None:
    position, bounds, had, trimmed = cursor
    there, gap = judge(position, bounds)
    lost = max(0, trimmed - had)
    assert lost == (gap.lost if gap else 0)
    assert (gap is None) == (lost == 0)
    assert there.epoch == "e"
    assert there.n == max(had, trimmed)
    if gap:
        assert (gap.after, gap.before, gap.reason) == (position.id, bounds.first, "trimmed")


@given(cursors())
def test_to_judge_again_changes_nothing_and_tells_no_second_gap(cursor: tuple[Position, Bounds, int, int]) -> None:
    there, _ = judge(cursor[0], cursor[1])
    again, gap = judge(there, cursor[1])
    assert (there, None) == (again, gap)


@given(cursors())
def test_a_plain_id_never_hides_a_loss_and_never_invents_one_in_a_log_that_is_whole(
    cursor: tuple[Position, Bounds, int, int],
) -> None:
    position, bounds, had, trimmed = cursor
    _, gap = judge(Position(position.id), bounds)
    if 0 < had < trimmed:
        assert gap is not None
        assert gap.reason == "trimmed"
    if trimmed == 0 or had > trimmed:
        assert gap is None


@given(cursors())
def test_the_oldest_that_is_left_asks_for_nothing_that_is_gone(cursor: tuple[Position, Bounds, int, int]) -> None:
    _, bounds, _, trimmed = cursor
    there, gap = judge(Position(START), bounds)
    assert gap is None
    assert trimmed == there.n


@given(cursors())
def test_another_epoch_is_a_reset_from_the_oldest(cursor: tuple[Position, Bounds, int, int]) -> None:
    position, bounds, _, trimmed = cursor
    there, gap = judge(Position(position.id, position.n, "other"), bounds)
    assert Gap(position.id, bounds.first, None, "reset") == gap
    assert Position(START, trimmed, "e") == there


def test_a_cursor_in_the_lost_tail_steps_back_and_one_before_it_goes_on() -> None:
    bounds = Bounds(_id(1), _id(9), 9, 9, "new", parent="old", forked_at=_id(5))
    there, gap = judge(Position(_id(7), 7, "old"), bounds)
    assert (Position(_id(5), None, "new"), Gap(_id(7), None, None, "rewound")) == (there, gap)
    assert (Position(_id(5), 5, "new"), None) == judge(Position(_id(5), 5, "old"), bounds)
    assert "reset" == getattr(judge(Position(_id(5), 5, "older"), bounds)[1], "reason", None)


def test_an_id_ahead_of_the_log_is_rewound_but_a_moment_ahead_of_it_is_not() -> None:
    bounds = Bounds(_id(1), _id(9), 9, 9, "e")
    assert (bounds.end, Gap(_id(12), None, None, "rewound")) == judge(Position(_id(12)), bounds)
    assert (bounds.end, None) == judge(Position(_id(12), is_moment=True), bounds)


BEHIND_IT = Position(EntryId(5, 3), 7), None


@pytest.mark.parametrize(
    ("since", "position", "ts"),
    [
        (None, None, None),
        ("0", Position(START), None),
        (0, Position(START), None),
        ("5-3", Position(EntryId(5, 3)), None),
        (" 5-3 ", Position(EntryId(5, 3)), None),
        (1771095683456, Position(EntryId(1771095683456, 0)), None),
        ({"id": "5-3"}, Position(EntryId(5, 3)), None),
        ({"id": "5-3", "n": 7, "epoch": "e"}, Position(EntryId(5, 3), 7, "e"), None),
        (
            {"id": "5-3", "n": 7, "by": "m:9", "type": "x", "ts": "?", "cycle": 4, "day": 1, "data": {"id": 1}},
            *BEHIND_IT,
        ),
        ({"id": None, "n": None, "epoch": None}, None, None),
        ("1s", Position(EntryId(1771095677456, 0).before(), is_moment=True), "2026-02-14T19:01:22.456Z"),
        (
            "2026-02-14T19:01:23Z",
            Position(EntryId(1771095678000, 0).before(), is_moment=True),
            "2026-02-14T19:01:23.000Z",
        ),
        (
            "2026-02-14T20:01:23+01:00",
            Position(EntryId(1771095678000, 0).before(), is_moment=True),
            "2026-02-14T19:01:23.000Z",
        ),
        ("2026-02-14", Position(EntryId(1771027195000, 0).before(), is_moment=True), "2026-02-14T00:00:00.000Z"),
        ("0900-01-01", Position(START, is_moment=True), "0900-01-01T00:00:00.000Z"),
    ],
)
def test_since_is_read_in_every_form(since: object, position: Position | None, ts: str | None) -> None:
    assert Since(position, ts) == parse_since(since, now=NOW)


@pytest.mark.parametrize(
    "since",
    [
        *(True, 1.5, -1, [], b"1-0", "yesterday", "", "999999999999d", "1e9d", "0001-01-01T00:00:00+23:59"),
        *({}, {"id": 5}, {"id": "x"}, {"n": 1}, {"id": "1-0", "n": "1"}, {"id": "1-0", "n": -1}),
        *({"id": "1-0", "n": True}, {"id": "1-0", "epoch": 5}),
    ],
    ids=str,
)
def test_what_is_no_position_is_refused(since: object) -> None:
    with pytest.raises(PositionError):
        parse_since(since, now=NOW)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.dictionaries(st.text(), st.text()), st.binary()))
def test_whatever_since_is_nothing_else_is_raised(since: Any) -> None:
    with contextlib.suppress(PositionError):
        parse_since(since, now=NOW)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5))))
def test_an_identity_is_new_while_it_is_beyond_all_that_its_producer_had(had: list[tuple[str, int]]) -> None:
    seen, last = Seen(), {"a": 0, "b": 0, "c": 0}
    for producer, seq in had:
        assert (seq > last[producer]) == seen.is_new(f"{producer}:{seq}")
        last[producer] = max(last[producer], seq)


@pytest.mark.parametrize("by", [None, "", "x", "x:", ":5", "x:-1", "x:1.5", "x:²", "x:" + "9" * 200])
def test_who_gives_no_identity_of_ours_is_always_new(by: str | None) -> None:
    seen = Seen()
    assert seen.is_new(by)
    assert seen.is_new(by)


def test_so_many_producers_are_remembered_and_the_one_silent_for_longest_goes() -> None:
    seen = Seen(producers_max=2)
    for by in ("a:1", "b:1", "a:2", "c:1"):
        assert seen.is_new(by)
    assert not seen.is_new("a:2")
    assert not seen.is_new("c:1")
    assert seen.is_new("b:1")
