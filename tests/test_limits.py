"""Limits: never more events than the rate says, and every one that was withheld is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import broadcast.testing
from broadcast import Broadcaster
from broadcast.emitter.limits import LIMITS_MAX, TYPES_MAX, Limiter, limiter_of, listed_limits
from broadcast.errors import SettingError
from broadcast.filters import parse_filter
from broadcast.settings import Settings
from tests.programs import COMMAND, environment
from tests.servers import RedisServer

SECOND_NS = 10**9
UNITS_S = {"s": 1, "m": 60, "h": 3600}


def times_passed(limiter: Limiter, moments_ns: list[int], event_type: str = "x") -> list[int]:
    return [now_ns for now_ns in moments_ns if limiter.takes(event_type, "", now_ns)]


# --- how many pass


@pytest.mark.parametrize(
    ("rate", "at_once", "in_a_minute"),
    [("50/s", 50, 50 + 50 * 60), ("1/s", 1, 61), ("10/m", 1, 11), ("1/h", 1, 1), ("0/s", 0, 0), ("120/m", 2, 122)],
)
def test_a_seconds_worth_passes_at_once_and_then_the_rate(rate: str, at_once: int, in_a_minute: int) -> None:
    now_ns = 7 * SECOND_NS
    burst = Limiter([("*", rate)])
    assert len(times_passed(burst, [now_ns] * 200)) == at_once
    minute = Limiter([("*", rate)])
    passed = len(times_passed(minute, [now_ns + ms * SECOND_NS // 1000 for ms in range(60_001)]))
    assert in_a_minute - 1 <= passed <= in_a_minute
    assert passed + minute.withheld == 60_001


RATES = st.tuples(st.integers(0, 200), st.sampled_from("smh"))
# Bursts, pauses and a clock that stands still, in any order.
STEPS_NS = st.lists(st.integers(0, 3 * SECOND_NS) | st.sampled_from([0, 0, 0, 1, 60 * SECOND_NS]), max_size=300)


@settings(deadline=None)
@given(RATES, STEPS_NS, st.integers(0, 10**18))
def test_in_no_span_of_time_pass_more_than_a_burst_and_the_rate(
    rate: tuple[int, str], steps_ns: list[int], start_ns: int
) -> None:
    events, unit = rate
    limiter = Limiter([("*", f"{events}/{unit}")])
    moments = [start_ns]
    for step_ns in steps_ns:
        moments.append(moments[-1] + step_ns)
    passed = times_passed(limiter, moments)
    assert len(passed) + limiter.withheld == len(moments)
    per_ns = Fraction(events, UNITS_S[unit] * SECOND_NS)
    burst = max(1, events // UNITS_S[unit]) if events else 0
    for first, begin_ns in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + per_ns * (passed[last] - begin_ns)


@given(st.integers(1, 500), st.sampled_from("smh"), st.integers(1, 300))
def test_whoever_keeps_to_the_rate_is_never_limited(events: int, unit: str, count: int) -> None:
    interval_ns = -(-UNITS_S[unit] * SECOND_NS // events)
    limiter = Limiter([("*", f"{events}/{unit}")])
    assert len(times_passed(limiter, [5 + i * interval_ns for i in range(count)])) == count


def test_the_first_pattern_that_matches_decides_and_its_types_share_what_it_lets_pass() -> None:
    limiter = Limiter([("sense.all", "0/s"), ("sense.*", "2/s"), ("*", "1/s")])
    types = ["sense.all", "sense.a", "sense.b", "sense.c", "other", "more"]
    assert [limiter.takes(each, "", 1) for each in types] == [False, True, True, False, True, False]
    limiter.want_report()
    report = limiter.take_report(1)
    assert report is not None
    assert report.counts == {"sense.all": 1, "sense.*": 1, "*": 1}


def test_our_own_events_are_never_limited() -> None:
    limiter = Limiter([("*", "0/s"), ("broadcast.*", "0/s")])
    assert [limiter.takes(each, "", 1) for each in ("broadcast.lost", "broadcast", "x")] == [True, False, False]


PATTERNS = st.sampled_from(["*", "a", "a.*", "a.b", "b.*", "-a.*", "a.b.*"])
TYPES = st.sampled_from(["a", "a.b", "a.b.c", "b", "b.c", "ab", "", "broadcast.x"])


@given(st.lists(PATTERNS, max_size=4), st.lists(TYPES, min_size=1, max_size=20))
def test_patterns_mean_what_they_mean_in_a_filter(patterns: list[str], types: list[str]) -> None:
    limiter = Limiter([(pattern, "0/s") for pattern in patterns])
    for event_type in types:
        limited = any(parse_filter([pattern]).matches(event_type) for pattern in patterns)
        assert limiter.takes(event_type, "", 1) is not (limited and not event_type.startswith("broadcast."))


def test_as_many_types_as_a_mind_invents_cost_bounded_memory() -> None:
    limiter = Limiter([("sense.*", "1/s")])
    for i in range(3 * TYPES_MAX):
        limiter.takes(f"sense.{i}", "", 1)
    assert len(limiter._known) <= TYPES_MAX
    assert limiter.withheld == 3 * TYPES_MAX - 1


# --- what is told


def test_what_was_withheld_is_told_once_a_second_and_all_of_it() -> None:
    limiter = Limiter([("a", "0/s"), ("b", "0/s")])
    assert (limiter.due_in_ns(0), limiter.take_report(0)) == (None, None)
    limiter.takes("a", "first", 100)
    limiter.takes("b", "second", 200)
    assert limiter.due_in_ns(100) == SECOND_NS
    assert limiter.take_report(99 + SECOND_NS) is None
    limiter.takes("a", "third", 300)
    assert limiter.take_report(100 + SECOND_NS) == ({"a": 2, "b": 1}, "first", "third")
    assert limiter.due_in_ns(10**18) is None
    limiter.takes("a", "fourth", 10**12)
    assert limiter.due_in_ns(10**12) == SECOND_NS
    assert limiter.take_report(10**12 + SECOND_NS) == ({"a": 1}, "fourth", "fourth")
    assert (limiter.withheld, limiter.reported) == (4, 4)


def test_a_wanted_report_is_due_at_once_and_no_longer_than_that() -> None:
    limiter = Limiter([("a", "0/s")])
    limiter.takes("a", "first", 100)
    assert limiter.want_report() == 1
    assert limiter.take_report(100) == ({"a": 1}, "first", "first")
    limiter.takes("a", "second", 200)
    assert limiter.take_report(200) is None


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.sampled_from(["a", "b", "report", "want"])), max_size=100))
def test_reports_add_up_and_keep_their_distance(steps: list[tuple[int, str]]) -> None:
    limiter = Limiter([("a", "2/s"), ("b", "0/s")])
    now_ns, emitted, passed, told = 0, 0, 0, 0
    wanted = False
    told_ns: list[int] = []
    for step_ns, what in steps:
        now_ns += step_ns
        if what == "want":
            limiter.want_report()
            wanted = True
        elif what == "report":
            if (report := limiter.take_report(now_ns)) is not None:
                told += sum(report.counts.values())
                assert wanted or not told_ns or now_ns - told_ns[-1] >= SECOND_NS
                told_ns.append(now_ns)
                wanted = False
        else:
            emitted += 1
            passed += limiter.takes(what, str(emitted), now_ns)
    limiter.want_report()
    if (last := limiter.take_report(now_ns)) is not None:
        told += sum(last.counts.values())
    assert passed + told == emitted
    assert told == limiter.withheld == limiter.reported


def test_threads_count_every_event_and_let_no_more_pass() -> None:
    limiter = Limiter([("x", "100/s")])
    limiter.takes("x", "", 5)
    passed: list[int] = []
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def emit() -> None:
            passed.append(sum(limiter.takes("x", "", 5) for _ in range(20_000)))

        threads = [threading.Thread(target=emit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch_s)
    assert sum(passed) == 99
    assert sum(passed) + limiter.withheld == 80_000


# --- what is no limit


@pytest.mark.parametrize(
    "rate", ["", "50", "/s", "50/d", "-1/s", "1.5/s", "50/s/s", "٥/s", "9" * 13 + "/s", "50 per s"]
)
def test_what_is_no_rate_is_named(rate: str) -> None:
    with pytest.raises(SettingError, match=r"limits: sense\.\*: expected a rate as '50/s'"):
        Limiter([("sense.*", rate)])


def test_what_is_no_pattern_is_named() -> None:
    with pytest.raises(SettingError, match="limits: 'sense, x' is not a pattern"):
        Limiter([("sense, x", "1/s")])
    with pytest.raises(SettingError, match=f"at most {LIMITS_MAX}"):
        Limiter([("x", "1/s")] * (LIMITS_MAX + 1))


@pytest.mark.parametrize("limits", ["sense.*=50/s", ["sense.*"], {"sense.*": 50}, {1: "50/s"}, None])
def test_what_is_no_dict_of_texts_is_refused(limits: Any) -> None:
    with pytest.raises(SettingError, match="limits: expected"):
        listed_limits(limits)


def test_of_several_limits_only_the_broken_ones_are_left_out() -> None:
    problems: list[str] = []
    limiter = limiter_of([("a", "0/s"), ("b", "soon"), ("c", "0/s")], problems)
    assert limiter is not None
    assert [limiter.takes(each, "", 1) for each in "abc"] == [False, True, False]
    assert problems == ["BROADCAST_LIMITS: limits: b: expected a rate as '50/s', '10/m' or '1/h', got 'soon'"]
    assert limiter_of([("b", "soon")], problems) is None
    assert limiter_of([], None) is None


# --- an emitter with limits


def lonely(**arguments: Any) -> Broadcaster:
    """Nobody takes anything out of its buffer."""
    emitter = Broadcaster("redis://127.0.0.1:1", **arguments)
    emitter._sender.running = True
    emitter._sender.idle = False
    return emitter


def events_in(server: RedisServer) -> list[Any]:
    with server.client() as client:
        read: Any = client.xrange("v5:stream")
    return [json.loads(fields[b"event"]) for _, fields in read]


def reports_in(server: RedisServer) -> list[Any]:
    return [event["data"] for event in events_in(server) if event["type"] == "broadcast.limited"]


def withheld_in(reports: list[Any]) -> int:
    return sum(sum(report["withheld"].values()) for report in reports)


@pytest.fixture
def limited(valkey_server: RedisServer) -> Iterator[Broadcaster]:
    emitter = Broadcaster(valkey_server.url, limits={"sense.*": "0/s", "critic.*": "5/s"})
    yield emitter
    emitter.close(2)


def test_every_event_is_in_the_log_or_reported_as_withheld(limited: Broadcaster, valkey_server: RedisServer) -> None:
    before = [limited.emit("decision", {"i": i}) for i in range(3)]
    withheld = [limited.emit("sense.a", {"i": i}) for i in range(200)]
    for i in range(100):
        limited.emit("critic.evaluate", {"i": i})
    assert limited.flush(10)
    events = events_in(valkey_server)
    assert events[:3] == before
    passed = [event for event in events if event["type"] == "critic.evaluate"]
    assert 5 <= len(passed) < 100
    reports = reports_in(valkey_server)
    assert reports[0]["withheld"].keys() <= {"sense.*", "critic.*"}
    assert withheld_in(reports) == 200 + 100 - len(passed) == limited.stats().dropped["limited"]
    assert reports[0]["first_ts"] == withheld[0]["ts"]
    assert {report["producer"] for report in reports} == {limited.stats().producer}
    assert limited.stats().emitted == 3 + len(passed)


def test_what_is_withheld_is_reported_although_nothing_follows(
    limited: Broadcaster, valkey_server: RedisServer
) -> None:
    began_s = time.monotonic()
    for _ in range(7):
        limited.emit("sense.a")
    while not reports_in(valkey_server):
        assert time.monotonic() < began_s + 5
        time.sleep(0.02)
    assert time.monotonic() - began_s > 0.9
    assert [report["withheld"] for report in reports_in(valkey_server)] == [{"sense.*": 7}]
    # And again, now that the sender sleeps.
    while not limited._sender.idle:
        time.sleep(0.01)
    limited.emit("sense.a")
    while len(reports_in(valkey_server)) < 2:
        assert time.monotonic() < began_s + 10
        time.sleep(0.02)
    assert withheld_in(reports_in(valkey_server)) == 8


def test_a_flood_is_reported_once_a_second_and_does_not_keep_the_sender_awake(
    limited: Broadcaster, valkey_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[float] = []
    wake = limited._sender.wake

    def counted_wake() -> None:
        wakes.append(time.monotonic())
        wake()

    monkeypatch.setattr(limited._sender, "wake", counted_wake)
    began_s = time.monotonic()
    count = 0
    while time.monotonic() < began_s + 2.5:
        limited.emit("sense.a")
        count += 1
    assert len(wakes) <= 8
    assert len(reports_in(valkey_server)) in (1, 2)
    assert limited.flush(5)
    assert len(reports_in(valkey_server)) in (2, 3)
    assert withheld_in(reports_in(valkey_server)) == count


def test_a_flush_of_nothing_new_reports_nothing_new(limited: Broadcaster, valkey_server: RedisServer) -> None:
    limited.emit("sense.a")
    for _ in range(3):
        assert limited.flush(5)
    assert [report["withheld"] for report in reports_in(valkey_server)] == [{"sense.*": 1}]
    assert limited.flush(0)


def test_closing_reports_and_what_comes_later_is_counted_as_closed(
    limited: Broadcaster, valkey_server: RedisServer
) -> None:
    limited.emit("sense.a")
    assert limited.close(5)
    limited.emit("sense.a")
    assert withheld_in(reports_in(valkey_server)) == 1
    dropped = limited.stats().dropped
    assert (dropped["limited"], dropped["closed"]) == (1, 1)


def test_what_is_withheld_while_redis_is_away_is_reported_when_it_is_back(own_server: RedisServer) -> None:
    emitter = Broadcaster(own_server.url, limits={"sense.*": "0/s"})
    emitter.emit("x")
    assert emitter.flush(5)
    own_server.stop()
    began_s, count = time.monotonic(), 0
    while time.monotonic() < began_s + 3.2:
        emitter.emit("sense.a")
        count += 1
        time.sleep(0.01)
    own_server.start()
    assert emitter.flush(20)
    # What the sender had in hand when it noticed, and one for all the rest.
    assert len(reports_in(own_server)) == 2
    assert withheld_in(reports_in(own_server)) == count
    emitter.close(2)


def test_the_command_that_emits_says_when_a_limit_withheld_its_event(valkey_server: RedisServer) -> None:
    done = subprocess.run(
        [*COMMAND, "emit", "sense.a"],
        env=environment(valkey_server.url, BROADCAST_LIMITS="sense.*=0/s"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "withheld: BROADCAST_LIMITS" in done.stderr) == (1, True)
    assert withheld_in(reports_in(valkey_server)) == 1


PROGRAM = """
import broadcast
for i in range(10):
    broadcast.emit("sense.a", {"i": i})
broadcast.emit("x")
"""


def test_at_exit_what_was_withheld_is_reported(valkey_server: RedisServer) -> None:
    environ = environment(valkey_server.url, BROADCAST_LIMITS="sense.* = 3/s, x=1/h")
    subprocess.run([sys.executable, "-c", PROGRAM], env=environ, check=True, timeout=60)
    events = events_in(valkey_server)
    passed = [event for event in events if event["type"] == "sense.a"]
    assert len(passed) >= 3
    assert len(passed) + withheld_in(reports_in(valkey_server)) == 10
    assert "x" in [event["type"] for event in events]


def test_threads_emit_as_much_as_they_like_and_all_of_it_is_accounted_for(
    limited: Broadcaster, valkey_server: RedisServer
) -> None:
    def emit() -> None:
        for i in range(500):
            limited.emit(("sense.a", "critic.b", "free")[i % 3], {"i": i})

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limited.flush(20)
    events = [event for event in events_in(valkey_server) if event["type"] != "broadcast.limited"]
    assert len(events) + withheld_in(reports_in(valkey_server)) == 2000
    assert limited.stats().dropped["limited"] == 2000 - len(events)


def test_a_signal_handler_that_emits_is_limited_and_counted() -> None:
    emitter = lonely(limits={"*": "100/s"})
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        emitter.emit("signal")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(50_000):
            emitter.emit("x", {"a": 1})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    stats = emitter.stats()
    assert stats.emitted + stats.dropped["limited"] == 50_000 + handled
    assert handled > 0


class Kind(str):
    """A type that says that it is another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "sense.b"


@pytest.mark.parametrize("event_type", ["sense.a", Kind("other"), "sense." + "x" * 10_000])
def test_a_type_is_limited_as_what_it_is_in_the_log(event_type: Any) -> None:
    emitter = lonely(limits={"sense.*": "0/s"})
    event = emitter.emit(event_type, {"a": 1})
    assert event["data"] == {"a": 1}
    assert (emitter.stats().emitted, emitter.stats().dropped["limited"]) == (0, 1)


def test_a_type_that_nobody_can_read_is_limited_as_what_stands_for_it() -> None:
    class Evil:
        def __str__(self) -> str:
            emitter.emit("sense.a")
            raise SystemExit

    emitter = lonely(limits={"sense.*": "0/s"})
    emitter.emit(Evil())  # type: ignore[arg-type]
    assert (emitter.stats().emitted, emitter.stats().dropped["limited"]) == (1, 1)


@pytest.mark.parametrize(("data", "expected"), [(None, {}), (7, {"value": 7}), ({"a": 1}, {"a": 1})])
def test_an_event_that_is_withheld_is_returned_all_the_same(data: object, expected: dict[str, Any]) -> None:
    event = lonely(limits={"*": "0/s"}).emit("x", data)
    assert event == {"type": "x", "ts": event["ts"], "cycle": 0, "day": 0, "data": expected}


def test_a_forked_child_begins_with_nothing_withheld() -> None:
    emitter = lonely(limits={"*": "0/s"})
    emitter.emit("x")
    assert emitter.stats().dropped["limited"] == 1
    emitter.begin_anew()
    assert emitter.stats().dropped["limited"] == 0
    emitter._sender.running, emitter._sender.idle = True, False
    emitter.emit("x")
    assert emitter.stats().dropped["limited"] == 1


def test_what_a_test_captures_is_not_limited() -> None:
    emitter = Broadcaster(limits={"*": "0/s"})
    with broadcast.testing.capture() as events:
        emitter.emit("x")
    assert events.types == ["x"]
    assert not emitter._sender.running


def test_the_environment_names_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCAST_LIMITS", "sense.*=0/s, critic.*, x = 1/h,")
    emitter = lonely()
    assert emitter.settings.limits == (("sense.*", "0/s"), ("critic.*", ""), ("x", "1/h"))
    for event_type in ("sense.a", "critic.a", "x", "x"):
        emitter.emit(event_type)
    assert (emitter.stats().emitted, emitter.stats().dropped["limited"]) == (2, 2)
    [problem] = emitter.stats().problems
    assert problem.startswith("BROADCAST_LIMITS: limits: critic.*: expected a rate as '50/s'")


def test_a_broken_limit_that_is_an_argument_raises() -> None:
    with pytest.raises(SettingError, match=r"limits: sense\.\*: expected a rate"):
        Broadcaster(limits={"sense.*": "often"})
    with pytest.raises(SettingError, match="expected a rate"):
        Broadcaster(settings=Settings(limits=(("x", ""),)))


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCAST_LIMITS", "a=0/s")
    emitted = []
    for limits in (None, {"b": "0/s"}, {}):
        emitter = lonely(limits=limits)
        emitter.emit("a")
        emitted.append(emitter.stats().emitted)
    assert emitted == [0, 1, 1]
