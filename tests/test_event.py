"""The envelope: what is written, and what is read from other producers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.errors import EventError
from broadcast.event import decode, delivered, encode, malformed, normalise_ts, timestamp

EVENT = {"type": "sense.project", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551, "data": {"sense": "pain"}}


def bytes_of(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def test_a_timestamp_looks_like_the_example_of_the_specification() -> None:
    moment = datetime(2026, 2, 14, 19, 1, 23, tzinfo=UTC)
    assert timestamp(int(moment.timestamp()) * 10**9 + 456_999_999) == "2026-02-14T19:01:23.456Z"


@given(st.integers(min_value=0, max_value=4_000_000_000 * 10**9))
def test_a_timestamp_is_its_own_normal_form(now_ns: int) -> None:
    text = timestamp(now_ns)
    assert normalise_ts(text) == text
    assert round(datetime.fromisoformat(text).timestamp() * 1000) == now_ns // 1_000_000


@pytest.mark.parametrize(
    ("given_ts", "expected"),
    [
        ("2026-02-14T19:01:23.456789+00:00", "2026-02-14T19:01:23.456Z"),
        ("2026-02-14T21:01:23+02:00", "2026-02-14T19:01:23.000Z"),
        ("2026-02-14T19:01:23", "2026-02-14T19:01:23.000Z"),
        ("2026-02-14 19:01:23.456Z", "2026-02-14T19:01:23.456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
    ],
)
def test_other_forms_of_a_time_are_brought_into_ours(given_ts: str, expected: str) -> None:
    assert normalise_ts(given_ts) == expected


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "aaaaaaaaaaaaaaaaaaa.bbbZ", "2026-13-14T19:01:23.456Z", "0001-01-01T00:00:00+23:00", "\ud800"],
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(EventError, match="ts: "):
        normalise_ts(text)


@given(
    st.datetimes(
        timezones=st.timezones() | st.builds(timezone, st.timedeltas(-timedelta(hours=23), timedelta(hours=23)))
    )
)
def test_any_iso_time_either_has_a_normal_form_or_an_event_error(moment: datetime) -> None:
    try:
        text = normalise_ts(moment.isoformat())
    except EventError:
        return
    assert len(text) == 24
    assert normalise_ts(text) == text


def test_an_event_survives_encoding_and_decoding() -> None:
    assert decode(encode(dict(EVENT))) == EVENT


@pytest.mark.parametrize("odd", [object(), {1: 2}, 2**64, "\ud800", datetime.now(UTC)])
def test_what_is_no_plain_json_is_left_to_the_sanitizer(odd: object) -> None:
    with pytest.raises(TypeError):
        encode({"data": odd})


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "event: no valid JSON"),
        (b"[]", "event: expected an object, got a list"),
        (b"7", "event: expected an object, got a number"),
        (bytes_of(type=None), "type: expected a text, got nothing"),
        (bytes_of(ts=5), "ts: expected a text, got a number"),
        (bytes_of(data=[]), "data: expected an object, got a list"),
        (bytes_of(data=True), "data: expected an object, got a boolean"),
        (bytes_of(ts="0001-01-01T00:00:00+23:00"), "ts: "),
        (b"[" * 100_000, "event: no valid JSON"),
        (b"\xff\xfe\x00\xd8", "event: no valid JSON"),
    ],
)
def test_what_is_no_event_is_refused_by_field(payload: bytes, field: str) -> None:
    with pytest.raises(EventError) as caught:
        decode(payload)
    assert str(caught.value).startswith(field)


def test_an_event_without_cycle_and_day_gets_zeros() -> None:
    event = {name: value for name, value in EVENT.items() if name not in ("cycle", "day")}
    assert decode(json.dumps(event).encode()) == {**EVENT, "cycle": 0, "day": 0}


def test_what_pythons_own_json_writes_too_loosely_is_read_all_the_same() -> None:
    """The specification's listing uses `json.dumps`, which writes NaN, Infinity and lone surrogates."""
    data = {"a": float("nan"), "b": float("-inf"), "c": "x\ud800y", "d": [1, 2**63 - 1, 2**70]}
    event = decode(json.dumps({**EVENT, "data": data}).encode())
    assert event["data"] == {"a": None, "b": None, "c": "x?y", "d": [1, 2**63 - 1, float(2**70)]}


def test_numbers_too_large_for_a_float_become_nothing() -> None:
    payload = bytes_of().replace(b'"pain"', b"[1e999, " + b"9" * 400 + b", NaN]")
    assert decode(payload)["data"] == {"sense": [None, None, None]}


@given(st.binary() | st.text().map(str.encode))
def test_decoding_anything_raises_nothing_but_an_event_error(payload: bytes) -> None:
    with pytest.raises(EventError):
        decode(payload)


@given(st.integers(1, 600), st.booleans())
def test_whatever_is_decoded_can_be_encoded_again(levels: int, in_objects: bool) -> None:
    begin, end = (b'{"a":', b"}") if in_objects else (b"[", b"]")
    data = b'{"a":' + begin * levels + b"1" + end * levels + b"}"
    try:
        event = decode(b'{"type":"x","ts":"2026-02-14T19:01:23.456Z","data":' + data + b"}")
    except EventError as error:
        assert "nested deeper than" in str(error)
        assert levels > 240
    else:
        assert orjson.loads(orjson.dumps(event))["data"]
        assert levels < 260


def test_the_delivered_form_believes_the_log_and_not_the_payload() -> None:
    lying = {**EVENT, "id": "0-0", "by": "nobody:1", "n": 7}
    assert delivered(dict(lying), entry_id="5-1", by="p:3", n=9) == {**EVENT, "id": "5-1", "by": "p:3", "n": 9}
    assert delivered(dict(lying), entry_id="5-1", by=None, n=None) == {**EVENT, "id": "5-1"}


def test_an_entry_that_is_no_event_is_told_as_one() -> None:
    event = malformed("5-1", "no JSON", ts="2026-02-14T19:01:23.456Z")
    assert decode(encode(event)) == event
    assert event["type"] == "broadcast.malformed"
    assert event["data"] == {"id": "5-1", "reason": "no JSON"}
