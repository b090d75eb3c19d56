"""`with cycle():` begins, times and ends a cycle, and lets every exception pass."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from broadcast import Broadcaster
from broadcast.settings import Settings


@pytest.fixture
def emitter() -> Iterator[Broadcaster]:
    emitter = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1"))
    emitter._sender.running = True  # nobody takes anything out of its buffer
    yield emitter
    emitter._sender.running = False


def events_of(emitter: Broadcaster) -> list[Any]:
    return [json.loads(payload) for payload in emitter._buffer.take(events_max=10**6, bytes_max=10**9)]


class OutrageError(BaseException):
    """No Exception, as SystemExit is none; but that would end pytest without a word."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise OutrageError


class UnspeakableError(MuteError):
    __repr__ = MuteError.__str__

    @property
    def __notes__(self) -> NoReturn:  # type: ignore[override]
        raise OutrageError


def test_a_cycle_is_begun_and_ended_under_its_number(emitter: Broadcaster) -> None:
    with emitter.cycle(day=1551, session="night") as cycle:
        emitter.emit("decision", {"intention": "rest"})
    start, decision, end = events_of(emitter)
    assert (start["type"], start["data"]) == ("cycle.start", {"day": 1551, "session": "night"})
    assert [(e["cycle"], e["day"]) for e in (start, decision, end)] == [(1, 1551)] * 3
    assert cycle.number == 1
    assert end["type"] == "cycle.end"
    assert list(end["data"]) == ["duration_ms"]
    assert 0 <= end["data"]["duration_ms"] < 10_000


def test_cycles_count_on_and_keep_the_day(emitter: Broadcaster) -> None:
    emitter.set_cycle(41, 1551)
    for _ in range(3):
        with emitter.cycle():
            pass
    assert [(e["cycle"], e["day"]) for e in events_of(emitter)[::2]] == [(42, 1551), (43, 1551), (44, 1551)]


def test_without_a_session_it_is_the_producers_name(emitter: Broadcaster) -> None:
    with emitter.cycle():
        pass
    assert events_of(emitter)[0]["data"]["session"] == emitter.stats().producer


def test_an_error_is_told_and_passes(emitter: Broadcaster) -> None:
    error = ValueError("too bright")
    with pytest.raises(ValueError, match="too bright") as caught, emitter.cycle():
        raise error
    assert caught.value is error
    start, told, end = events_of(emitter)
    assert [start["type"], told["type"], end["type"]] == ["cycle.start", "error", "cycle.end"]
    assert told["data"]["source"] == "test_cycle.py:test_an_error_is_told_and_passes"
    assert told["data"]["message"] == "ValueError: too bright"
    assert told["data"]["traceback"].startswith("Traceback (most recent call last):")
    assert "raise error" in told["data"]["traceback"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_leaves_on_purpose_makes_no_error(emitter: Broadcaster, error: type[BaseException]) -> None:
    with pytest.raises(error), emitter.cycle():
        raise error
    assert [event["type"] for event in events_of(emitter)] == ["cycle.start", "cycle.end"]


def test_an_exception_that_cannot_be_printed_passes_all_the_same(emitter: Broadcaster) -> None:
    with pytest.raises(UnspeakableError), emitter.cycle():
        raise UnspeakableError
    _, told, end = events_of(emitter)
    assert "UnspeakableError" in told["data"]["message"]
    assert end["type"] == "cycle.end"


def test_nested_exceptions_are_told_together(emitter: Broadcaster) -> None:
    with pytest.raises(ExceptionGroup), emitter.cycle():
        try:
            raise KeyError("\ud800\x00")
        except KeyError as cause:
            raise ExceptionGroup("several", [MuteError(), ValueError("inner"), OSError("\ud800")]) from cause
    _, told, _ = events_of(emitter)
    assert told["type"] == "error"
    assert "several" in told["data"]["message"]


def test_a_thousand_causes_make_a_bounded_event(emitter: Broadcaster) -> None:
    error = Exception("the first")
    for number in range(1000):
        following = Exception(f"number {number}: " + "x" * 100)
        following.__cause__ = error
        error = following
    with pytest.raises(Exception, match="number 999"), emitter.cycle():
        raise error
    payloads = emitter._buffer.take(events_max=10, bytes_max=10**9)
    assert len(payloads) == 3
    assert max(map(len, payloads)) <= 65_536


def test_an_endless_recursion_passes(emitter: Broadcaster) -> None:
    def fall() -> NoReturn:
        fall()
        raise AssertionError

    with pytest.raises(RecursionError), emitter.cycle():
        fall()
    assert [event["type"] for event in events_of(emitter)] == ["cycle.start", "error", "cycle.end"]
    assert sys.getrecursionlimit() >= 1000


def test_a_cycle_inside_a_cycle_ends_first(emitter: Broadcaster) -> None:
    with emitter.cycle(), emitter.cycle():
        pass
    assert [(event["type"], event["cycle"]) for event in events_of(emitter)][:3] == [
        ("cycle.start", 1),
        ("cycle.start", 2),
        ("cycle.end", 2),
    ]


@pytest.mark.parametrize("name", ["text", "huge", "object", "nan"])
def test_odd_days_and_sessions_cost_nothing(emitter: Broadcaster, name: str) -> None:
    odd: Any = {"text": "monday", "huge": 10**5000, "object": object(), "nan": float("nan")}[name]
    emitter.set_cycle(odd, odd)
    with emitter.cycle(odd, {"session": odd}):
        pass
    start, end = events_of(emitter)
    assert start["day"] == start["data"]["day"] == end["day"]
    assert start["cycle"] == 1
