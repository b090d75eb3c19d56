"""One entry of the log, whatever a producer wrote into it."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from broadcast.log.entry import Entry, decode_entry, numbered
from broadcast.log.position import EntryId

PLAIN = {"type": "a", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551, "data": {"x": 1}}


def test_an_entry_is_its_event_in_delivered_form() -> None:
    entry = decode_entry(b"5-1", {b"event": orjson.dumps(PLAIN), b"by": b"p:7"}, 9)
    assert Entry(EntryId(5, 1), {**PLAIN, "id": "5-1", "by": "p:7", "n": 9}, "p:7", 9) == entry


def test_what_the_payload_claims_about_its_place_is_not_believed() -> None:
    liar = {**PLAIN, "id": "9-9", "by": "q:1", "n": 1000}
    assert {**PLAIN, "id": "5-1"} == decode_entry(b"5-1", {b"event": orjson.dumps(liar)}, None).event


def test_an_entry_that_is_no_event_stands_as_malformed_with_its_own_time() -> None:
    entry = decode_entry(b"1771095683456-1", {b"event": b"{"}, 3)
    assert entry.is_malformed
    assert ("broadcast.malformed", "2026-02-14T19:01:23.456Z") == (entry.event["type"], entry.event["ts"])
    assert ("1771095683456-1", 3) == (entry.event["id"], entry.event["n"])
    assert "1771095683456-1" == entry.event["data"]["id"]


@given(st.dictionaries(st.sampled_from([b"event", b"by", b"other"]), st.binary(max_size=400)))
def test_whatever_was_written_nothing_is_raised(fields: dict[bytes, bytes]) -> None:
    for raw_id in (b"0-1", b"18446744073709551615-18446744073709551615"):
        event = decode_entry(raw_id, fields, None).event
        assert raw_id.decode() == event["id"]
        orjson.dumps(event)


def test_numbering_goes_on_from_the_first() -> None:
    entries = [decode_entry(f"{i}-0".encode(), {b"event": orjson.dumps(PLAIN)}, None) for i in range(1, 4)]
    assert [7, 8, 9] == [entry.n for entry in numbered(entries, 7)]
    assert [7, 8, 9] == [entry.event["n"] for entry in numbered(entries, 7)]
    assert entries is numbered(entries, None)
