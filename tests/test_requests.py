"""What viewers ask for, read from whatever they send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.requests import (
    Control,
    Replay,
    TimedRequest,
    parse_control,
    parse_handshake,
    parse_replay,
    parse_subscribe,
)
from broadcast.errors import RequestError
from broadcast.log.position import START, EntryId, Position, Since

NOW = datetime(2026, 2, 14, 19, 1, 23, 456000, tzinfo=UTC)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
FIELDS = st.sampled_from(
    ["types", "since", "from", "to", "count", "catchup", "token", "speed", "idle_s", "replay", "action"]
)
ASKED = st.one_of(TREES, st.dictionaries(FIELDS, TREES))


def test_a_handshake_without_anything_is_the_specification_s_page() -> None:
    handshake = parse_handshake(None, now=NOW)
    assert (("*",), None, 50, None) == (
        handshake.filter.patterns,
        handshake.since.position,
        handshake.catchup,
        handshake.token,
    )


def test_a_handshake_says_filter_place_count_and_token() -> None:
    since = {"id": "5-1", "n": 3, "epoch": "e"}
    auth = {"types": "a.*", "since": since, "catchup": 2000.0, "token": "t", "policy": "latest"}
    handshake = parse_handshake(auth, now=NOW)
    assert ("a.*",) == handshake.filter.patterns
    assert Position(EntryId(5, 1), 3, "e") == handshake.since.position
    assert (1000, "t", "latest") == (handshake.catchup, handshake.token, handshake.policy)


@pytest.mark.parametrize(
    ("data", "count", "position", "until"),
    [
        (None, 100, None, None),
        ({}, 100, None, None),
        ({"count": 5}, 5, None, None),
        ({"count": 5.0}, 5, None, None),
        ({"count": 10**9}, 1000, None, None),
        ({"since": "0"}, 1000, Position(START), None),
        ({"since": "7-1", "count": 3}, 3, Position(EntryId(7, 1)), None),
        (
            {"from": "1m", "to": "1s"},
            1000,
            Position(EntryId(1771095618456, 0).before(), is_moment=True),
            "2026-02-14T19:01:22.456Z",
        ),
    ],
)
def test_a_replay_is_by_count_by_place_or_by_time(
    data: object, count: int, position: Position | None, until: str | None
) -> None:
    replay = parse_replay(data, now=NOW)
    assert isinstance(replay, Replay)
    assert (count, position, until) == (replay.count, replay.since.position, replay.until.ts)


def test_a_timed_replay_has_a_beginning_a_speed_and_a_bound_of_idle_time() -> None:
    timed = parse_replay({"from": "7-1", "speed": 4, "types": "a.*"}, now=NOW)
    assert isinstance(timed, TimedRequest)
    assert (Since(Position(EntryId(7, 1))), None, 4.0, 2.0) == (
        timed.since,
        timed.until.position,
        timed.speed,
        timed.idle_s,
    )
    timed = parse_replay({"since": "cycle:42", "speed": 0.5, "idle_s": 0, "to": "1s"}, now=NOW)
    assert isinstance(timed, TimedRequest)
    assert (42, "2026-02-14T19:01:22.456Z", 0.0) == (timed.since.cycle, timed.until.ts, timed.idle_s)


def test_an_end_is_a_place_a_time_or_a_cycle_as_a_beginning_is() -> None:
    for more in ({}, {"speed": 1}):
        asked = [parse_replay({"from": "0", "to": to, **more}, now=NOW) for to in ("7-1", {"id": "7-1"}, "cycle:3")]
        place = Since(Position(EntryId(7, 1)))
        assert [place, place, Since(None, cycle=3)] == [each.until for each in asked]


def test_a_control_names_the_replay_and_what_becomes_of_it() -> None:
    control = parse_control({"replay": "r1", "action": "seek", "to": "7-1", "speed": 64}, now=NOW)
    assert Control("r1", "seek", Since(Position(EntryId(7, 1))), 64.0) == control
    assert parse_control({"replay": "r1", "action": "pause"}, now=NOW).since == Since(None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"action": "pause"}, "replay: expected the text that `replay` was answered with, got nothing"),
        (
            {"replay": "r1", "action": "stop"},
            "action: expected 'pause', 'resume', 'seek', 'speed', 'cancel' or 'state', got a text",
        ),
        (
            {"replay": "r1", "action": []},
            "action: expected 'pause', 'resume', 'seek', 'speed', 'cancel' or 'state', got a list",
        ),
        ({"replay": "r1", "action": "seek"}, "to: expected where to go on, got nothing"),
        ({"replay": "r1", "action": "speed"}, "speed: expected a number from 0.5 to 64, got nothing"),
    ],
)
def test_a_control_that_is_none_is_refused(data: object, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_control(data, now=NOW)
    assert message == refused.value.message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "replay: expected an object, got the number 5"),
        ({"count": "5"}, "count: expected a whole number of at least 1, got a text"),
        ({"count": 0}, "count: expected a whole number of at least 1, got the number 0"),
        ({"count": True}, "count: expected a whole number of at least 1, got a boolean"),
        ({"count": b"5"}, "count: expected a whole number of at least 1, got bytes"),
        ({"to": 5.5}, "since: expected an id, a duration or a time, got float"),
        ({"since": "0", "from": "0"}, "since, from: give one of them"),
        ({"speed": 1}, "since: expected where a timed replay begins, got nothing"),
        ({"since": "0", "speed": 65}, "speed: expected a number from 0.5 to 64, got the number 65"),
        ({"since": "0", "speed": float("nan")}, "speed: expected a number from 0.5 to 64, got the number nan"),
        ({"since": "0", "speed": True}, "speed: expected a number from 0.5 to 64, got a boolean"),
        (
            {"since": "0", "speed": 1, "idle_s": -1},
            "idle_s: expected a number of seconds from 0 to 3600, got the number -1",
        ),
    ],
)
def test_a_refusal_names_the_field_its_kind_and_what_is_accepted(data: object, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_replay(data, now=NOW)
    assert ("bad_request", message) == (refused.value.code.name, refused.value.message)


@given(ASKED)
def test_whatever_is_asked_nothing_but_a_refusal_is_raised(data: Any) -> None:
    for ask in (
        lambda: parse_handshake(data, now=NOW),
        lambda: parse_replay(data, now=NOW),
        lambda: parse_control(data, now=NOW),
        lambda: parse_subscribe(data),
    ):
        try:
            ask()
        except RequestError as error:
            assert len(error.message) < 500


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({"pid": "e", "offset": "5-0"}, {"id": "5-0", "n": None, "epoch": "e"}),
        ({"pid": "e", "offset": "5-0", "since": "0"}, {"id": "5-0", "n": None, "epoch": "e"}),
        ({"pid": "e", "offset": "5-0", "since": "5m"}, {"id": "5-0", "n": None, "epoch": "e"}),
        ({"pid": "e", "offset": "5-0", "since": "4-0"}, {"id": "5-0", "n": None, "epoch": "e"}),
        (
            {"pid": "e", "offset": "5-0", "since": {"id": "5-0", "n": 7, "epoch": "e"}},
            {"id": "5-0", "n": 7, "epoch": "e"},
        ),
        (
            {"pid": "e", "offset": "5-0", "since": {"id": "6-0", "n": 8, "epoch": "e"}},
            {"id": "6-0", "n": 8, "epoch": "e"},
        ),
        ({"pid": "e", "since": "4-0"}, {"id": "4-0", "n": None, "epoch": None}),
        ({"offset": "5-0"}, None),
        ({"pid": 5, "offset": "5-0"}, None),
        ({"pid": "of another server", "offset": "AAAA"}, None),
    ],
)
def test_where_a_client_goes_on_that_recovers(auth: dict[str, Any], expected: dict[str, Any] | None) -> None:
    position = parse_handshake(auth, now=NOW).since.position
    got = None if position is None else {"id": str(position.id), "n": position.n, "epoch": position.epoch}
    assert expected == got
