"""Two masters' logs that part: found by what stands in both, not by ids alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.log.entry import Entry, decode_entry
from broadcast.log.position import EntryId
from broadcast.log.trail import STEPS_MAX, Trail
from tests.programs import wait_until
from tests.sentinels import PATIENCE_S, STREAM, emitting_to, listening, promote, watched_pair


def entry(ms: int, by: str, *, seq: int = 0) -> Entry:
    event = {"type": "x", "ts": "2026-01-01T00:00:00.000Z", "cycle": 0, "day": 0, "data": {}}
    return decode_entry(f"{ms}-{seq}".encode(), {b"event": json.dumps(event).encode(), b"by": by.encode()}, None)


def test_the_same_id_with_another_identity_is_another_entry() -> None:
    trail = Trail()
    for ms, by in ((1000, "a:1"), (2000, "a:2"), (3000, "a:3")):
        trail.note(entry(ms, by))

    assert [EntryId(3000, 0), EntryId(2000, 0), EntryId(1000, 0)] == trail.behind(EntryId(3000, 0))
    assert EntryId(1000, 0) == trail.parting([entry(3000, "b:9"), None, entry(1000, "a:1")])
    assert [EntryId(1000, 0)] == trail.behind(EntryId(1000, 0))


def test_a_cursor_that_did_not_come_by_knows_no_place() -> None:
    trail = Trail()
    assert [] == trail.behind(EntryId(5, 0))
    trail.note(entry(1000, "a:1"))
    assert [] == trail.behind(EntryId(1001, 0))
    assert trail.parting([None]) is None


@given(st.lists(st.integers(0, 400), min_size=1, max_size=2000), st.data())
def test_the_parting_is_shared_and_no_more_than_two_steps_before_the_last_shared_entry(
    pauses_ms: list[int], data: st.DataObject
) -> None:
    ms, read = 0, []
    for i, pause_ms in enumerate(pauses_ms):
        ms += pause_ms
        read.append(entry(ms, f"a:{i + 1}", seq=i))
    trail = Trail()
    for each in read:
        trail.note(each)
    shared = data.draw(st.integers(1, len(read)))
    other = {each.id: each for each in read[:shared]}
    places = trail.behind(read[-1].id)
    parting = trail.parting([other.get(place) for place in places])

    assert len(places) <= STEPS_MAX
    last = read[shared - 1].id
    if parting is None:
        assert places[-1] > last
    else:
        assert parting <= last
        between = [each.id for each in read[:shared] if each.id > parting]
        # Between two places that are kept lies less than a step, but for pauses of the log itself.
        assert sum(place.ms - parting.ms > 100 + 400 for place in between) == 0


async def test_a_reader_that_changes_masters_gets_what_the_new_one_took_while_it_read_the_old_one(
    tmp_path: Path,
) -> None:
    """Both lived, and the ids of the one lie between, before and upon those of the other."""
    with (
        watched_pair(tmp_path) as pair,
        emitting_to(pair.master.url) as of_the_old,
        emitting_to(pair.replica.url) as of_the_new,
        pair.master.client() as old,
        pair.replica.client() as new,
    ):
        async with listening(pair.url) as reading:
            emit_numbers(of_the_old, 0, 10)
            await reading.until_has(9)
            wait_until(lambda: new.xlen(STREAM) == 10)
            new.replicaof("NO", "ONE")
            emit_numbers(of_the_new, 100, 120)
            emit_numbers(of_the_old, 10, 20)
            later = int(time.time() * 1000) + 1000
            for client, by, number in ((old, "c:1", 20), (new, "d:1", 120)):
                event = {"type": "x", "ts": "2026-01-01T00:00:00.000Z", "cycle": 0, "day": 0, "data": {"i": number}}
                client.xadd(STREAM, {"event": json.dumps(event), "by": by}, id=f"{later}-0")
            await reading.until_has(20)
            promote(pair)
            await reading.until_has(120)
    assert [*range(21), *range(100, 121)] == reading.numbers
    assert ["rewound"] == [gap["data"]["reason"] for gap in reading.gaps]


def emit_numbers(emitter: Broadcaster, first: int, last: int) -> None:
    for i in range(first, last):
        emitter.emit("x", {"i": i})
    assert emitter.flush(PATIENCE_S), emitter.stats()
