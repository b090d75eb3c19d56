"""What was read, cut into batches: by number, by time, by log, and never one that cannot be stored."""

from __future__ import annotations

from broadcast.consumers import intake
from broadcast.consumers.intake import Intake
from broadcast.log.entry import Entry, decode_entry
from broadcast.log.position import START, Bounds, EntryId, Gap, Position
from broadcast.log.stream import LinkUp

PAYLOAD = b'{"type":"x","ts":"2026-02-14T19:01:23.456Z","cycle":1,"day":1,"data":{}}'


def entries(first: int, count: int) -> list[Entry]:
    fields = [{b"event": PAYLOAD, b"by": b"mind:%d" % (i + 1)} for i in range(first, first + count)]
    return [decode_entry(b"%d-0" % (first + i + 1), each, first + i + 1) for i, each in enumerate(fields)]


def contact(epoch: str, last: int, position: Position) -> LinkUp:
    return LinkUp(Bounds(EntryId(1, 0), EntryId(last, 0), last, last, epoch), position)


def test_a_batch_is_due_when_it_is_full_or_old_enough() -> None:
    taken = Intake(Position(START))
    taken.take_in(contact("a", 9000, Position(START)), now_s=0)
    assert taken.due_in_s(0) is None
    taken.take_in(entries(0, 10), now_s=1)
    taken.take_in(entries(10, 10), now_s=1.1)
    assert 0.2 < (taken.due_in_s(1.0) or 0) <= intake.BATCH_AGE_S
    assert 0 == taken.due_in_s(1.0 + intake.BATCH_AGE_S)
    taken.take_in(entries(20, intake.BATCH_EVENTS_MAX), now_s=1.1)
    assert 0 == taken.due_in_s(1.1)
    assert not taken.is_full
    taken.take_in(entries(6000, 3000), now_s=1.1)
    taken.take_in(entries(9000, 3000), now_s=1.1)
    assert taken.is_full
    batch = taken.take()
    assert (intake.BATCH_EVENTS_MAX + 20, EntryId(5020, 0)) == (len(batch.rows), batch.end.id)
    assert {"mind": (5020, 5020)} == batch.producers
    assert not taken.is_full and not taken.is_done
    assert EntryId(12_000, 0) == taken.take().end.id
    assert taken.is_done


def test_another_log_begins_another_batch() -> None:
    taken = Intake(Position(START))
    taken.take_in(contact("a", 5, Position(START)), now_s=0)
    taken.take_in(entries(0, 5), now_s=0)
    taken.take_in(contact("b", 8, Position(EntryId(3, 0), 3, "b")), now_s=0)
    taken.take_in(Gap(EntryId(5, 0), None, None, "rewound"), now_s=0)
    taken.take_in(entries(3, 5), now_s=0)
    first, second = taken.take(), taken.take()
    assert ("a", None, EntryId(5, 0)) == (first.epoch.name, first.gap, first.end.id)
    assert ("b", "rewound", EntryId(8, 0)) == (second.epoch.name, second.gap and second.gap.reason, second.end.id)
    assert EntryId(3, 1) == second.first


def test_logs_of_which_nothing_is_ever_there_are_one_gap_and_hold_nothing_up() -> None:
    taken = Intake(Position(EntryId(5, 0), 5, "a"))
    for name in ("b", "c"):
        taken.take_in(LinkUp(Bounds(None, START, 0, 0, name), Position(START, 0, name)), now_s=0)
        taken.take_in(Gap(EntryId(5, 0) if name == "b" else START, None, None, "reset"), now_s=0)
        assert taken.due_in_s(9) is None
        assert taken.is_done, "there is nothing to be archived"
    taken.take_in(LinkUp(Bounds(None, START, 0, 0, "d"), Position(START, 0, "d")), now_s=0)
    taken.take_in(entries(7, 1), now_s=9)
    assert not taken.is_done
    batch = taken.take()
    assert ("d", EntryId(5, 0), "reset") == (
        batch.epoch.name,
        batch.gap and batch.gap.after,
        batch.gap and batch.gap.reason,
    )
    assert EntryId(8, 0) == batch.first == batch.end.id


def test_a_batch_is_halved_down_to_one_with_the_same_checkpoint_behind_it() -> None:
    taken = Intake(Position(START))
    taken.take_in(entries(0, 5), now_s=0)
    batch = taken.take()
    front, back = batch.parts("refused")
    assert [2, 3] == [len(front.rows), len(back.rows)]
    assert [EntryId(2, 0), EntryId(5, 0)] == [front.end.id, back.end.id]
    assert batch.lines(7) == front.lines(7) + back.lines(7)
    assert batch.without_repeats({"mind": 0}) is batch
    kept = batch.without_repeats({"mind": 3})
    assert [4, 5] == [row.entry.n for row in kept.rows]
    assert batch.end == kept.end
