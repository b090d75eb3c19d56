"""`capture()`: what users' tests use."""

from __future__ import annotations

import threading

import pytest
import redis

from broadcast import Broadcaster, cycle, emit, get_broadcaster
from broadcast.errors import FilterError
from broadcast.testing import capture


def test_collects_what_is_emitted_as_a_viewer_would_see_it() -> None:
    with capture() as events:
        emit("sense.project", {"sense": "pain", "seen": {1}})
        emit("note", "text")

    assert ["sense.project", "note"] == events.types
    assert {"sense": "pain", "seen": [1]} == events[0]["data"]
    assert {"value": "text"} == events[-1]["data"]
    assert 2 == len(events)
    assert ["note"] == [event["type"] for event in events[1:]]


def test_nothing_is_sent_and_no_thread_is_started(broadcaster: Broadcaster, redis_client: redis.Redis) -> None:
    threads = threading.active_count()
    with capture() as events:
        broadcaster.emit("secret")
    assert broadcaster.flush(1)

    assert ["secret"] == events.types
    assert threads == threading.active_count()
    assert 0 == redis_client.xlen("v5:stream")
    assert 0 == broadcaster.stats().emitted


def test_after_the_block_events_are_sent_again(broadcaster: Broadcaster, redis_client: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), capture() as events:
        broadcaster.emit("inside")
        raise ZeroDivisionError
    broadcaster.emit("outside")
    assert broadcaster.flush(5)

    assert ["inside"] == events.types
    assert 1 == redis_client.xlen("v5:stream")


def test_captures_nest() -> None:
    with capture() as outer:
        emit("one")
        with capture() as inner:
            emit("two")
        emit("three")

    assert (["one", "two", "three"], ["two"]) == (outer.types, inner.types)


def test_captures_of_several_threads_have_every_event_of_all() -> None:
    def work(number: int) -> None:
        for i in range(200):
            with capture():
                emit("x", {"by": number, "i": i})

    with capture() as events:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert () == Broadcaster.diversions
    for number in range(8):
        assert list(range(200)) == [event["data"]["i"] for event in events if event["data"]["by"] == number]


def test_a_cycle_is_captured_whole_and_chosen_from_by_filter() -> None:
    with capture() as events, cycle(day=3):
        emit("sense.project", {"sense": "pain"})
        emit("decision", {"intention": "rest"})

    assert ["cycle.start", "sense.project", "decision", "cycle.end"] == events.types
    assert ["rest"] == [event["data"]["intention"] for event in events.of("decision")]
    assert ["cycle.start", "cycle.end"] == [event["type"] for event in events.of("cycle.*")]
    assert {3} == {event["day"] for event in events}
    with pytest.raises(FilterError):
        events.of("no pattern")


def test_it_works_through_the_broadcaster_that_emit_uses() -> None:
    with capture() as events:
        get_broadcaster().emit("direct")

    assert "Captured(['direct'])" == repr(events)
