"""Timed replays: the bridge on a log and an archive in memory, in virtual time; ten events are a second of the mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broadcast.bridge.answers import Request
from broadcast.bridge.grant import Grant
from broadcast.bridge.rights import TIMED_PER_HOLDER_MAX, Rights
from broadcast.bridge.timed import PAUSED_S, PER_BRIDGE_MAX, PER_VIEWER_MAX
from broadcast.filters import parse_filter
from broadcast.log.erasure import BLANK
from tests.memory_log import MemoryLog
from tests.test_viewers_past import Room, World, events, names, place, told


@pytest.fixture
def world() -> Iterator[World]:
    world = World(archived=500)
    yield world
    world.close()
    assert not world.fanout.timed_replays


def ask(world: World, line: Room, name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The answer, without waiting for more."""

    async def submit() -> None:
        assert line.viewer is not None
        line.viewer.submit(Request(name, data, lambda text: line.write(f"event: ack\ndata: {text}\n\n".encode())))

    before = len(told(line, "ack"))
    world.loop.run_until_complete(submit())
    world.loop.pass_time(0.05)
    answers = told(line, "ack")
    assert len(answers) == before + 1
    return answers[-1]


def start(world: World, line: Room, first: int, **more: Any) -> str:
    answer = ask(world, line, "replay", {"since": place(world, first - 1), "speed": 1, **more})
    assert isinstance(answer["replay"], str), answer
    return str(answer["replay"])


def control(world: World, line: Room, replay: str, action: str, **more: Any) -> dict[str, Any]:
    return ask(world, line, "replay.control", {"replay": replay, "action": action, **more})


def replayed(line: Room) -> list[int]:
    return [data["event"]["data"]["i"] for data in told(line, "replay.event")]


def viewer(world: World, **auth: Any) -> Room:
    line = world.come(catchup=0, **auth)
    world.loop.pass_time(0.1)
    return line


def test_as_lived_over_all_tiers_with_the_end_told(world: World) -> None:
    line = viewer(world)
    replay = start(world, line, 100, speed=8)
    world.loop.pass_time(1.0)
    assert 70 <= len(replayed(line)) <= 100
    world.loop.pass_time(60)
    assert list(range(100, 540)) == replayed(line)
    assert [{"replay": replay, "count": 440}] == told(line, "replay.end")
    assert names(line).index("ack") < names(line).index("replay.event")
    assert "event" not in names(line)
    assert control(world, line, replay, "pause")["error"]["code"] == "not_found"


def test_it_can_be_paused_moved_made_faster_and_cancelled(world: World) -> None:
    line = viewer(world)
    replay = start(world, line, 100)
    world.loop.pass_time(1)
    state = control(world, line, replay, "pause")
    assert (state["state"], state["speed"], state["count"]) == ("paused", 1, len(replayed(line)))
    before = replayed(line)
    world.loop.pass_time(100)
    assert before == replayed(line)
    assert control(world, line, replay, "resume")["state"] == "playing"
    world.loop.pass_time(1)
    after = replayed(line)
    assert list(range(100, 100 + len(after))) == after
    assert 8 <= len(after) - len(before) <= 12
    control(world, line, replay, "speed", speed=20)
    world.loop.pass_time(1)
    faster = replayed(line)
    assert 180 <= len(faster) - len(after) <= 220
    control(world, line, replay, "seek", to=place(world, 9)["id"], speed=1)
    world.loop.pass_time(0.5)
    moved = replayed(line)[len(faster) + 2 :]
    assert 10 in replayed(line)[len(faster) :]
    assert 4 <= len(moved) <= 8
    control(world, line, replay, "pause")
    control(world, line, replay, "seek", to=place(world, 299))
    stood = len(replayed(line))
    world.loop.pass_time(5)
    assert len(replayed(line)) == stood, "paused it stays, wherever it is moved to"
    control(world, line, replay, "resume")
    world.loop.pass_time(0.2)
    assert replayed(line)[stood] == 300
    control(world, line, replay, "cancel")
    assert told(line, "replay.end")[-1]["reason"] == "cancelled"
    count = len(replayed(line))
    world.loop.pass_time(5)
    assert len(replayed(line)) == count


@pytest.mark.parametrize("first", [100, 525])
@pytest.mark.parametrize("types", ["*", "a.*"])
def test_what_is_erased_while_it_is_paused_is_not_given_any_more(world: World, first: int, types: str) -> None:
    world.archive.catch_up()
    line = viewer(world)
    replay = start(world, line, first, types=types)
    world.loop.pass_time(0.5)
    control(world, line, replay, "pause")
    had = len(told(line, "replay.event"))
    assert had
    world.erase("a.x")
    if first > 500:
        world.live(40)  # what it has of the ring has passed out of that
    control(world, line, replay, "resume", speed=20)
    world.loop.pass_time(60)
    given = [data["event"] for data in told(line, "replay.event")[had:]]
    assert "a.x" not in {event["type"] for event in given if event["data"].get("i", 0) < 540}
    assert (types == "*") == (BLANK in {event["type"] for event in given})
    assert told(line, "replay.end")


def test_a_fresh_token_of_a_shorter_past_ends_what_it_does_not_allow(world: World) -> None:
    line = viewer(world)
    start(world, line, 100)
    world.loop.pass_time(2)
    assert replayed(line)[0] == 100
    before = len(replayed(line))
    world.loop.run_until_complete(_regrant(line, Grant(parse_filter("*"), replay_count_max=10)))
    world.loop.pass_time(5)
    assert list(range(530, 540)) == replayed(line)[before:]
    assert 1 == len(told(line, "replay.end"))


async def _regrant(line: Room, grant: Grant) -> None:
    assert line.viewer is not None
    line.viewer.regrant(grant)


def test_types_an_end_and_idle_time_that_is_cut_and_told(world: World) -> None:
    line = viewer(world)
    start(world, line, 100, types="a.*", to=MemoryLog.ts_of(149), idle_s=0)
    world.loop.pass_time(1)
    assert list(range(101, 150, 2)) == replayed(line)
    assert told(line, "replay.state")[-1]["skipped_s"] == pytest.approx(4.8)
    assert told(line, "replay.end")[-1]["count"] == 25


def test_too_fast_to_be_given_is_told(world: World) -> None:
    line = viewer(world)
    start(world, line, 1, speed=64)
    world.loop.pass_time(0.2)
    assert len(replayed(line)) < 200
    world.loop.pass_time(2)
    states = told(line, "replay.state")
    assert list(range(1, 540)) == replayed(line)
    assert not any(state["behind"] for state in states), "540 events are soon given"


def test_a_viewer_that_is_slow_is_waited_for_and_told(world: World) -> None:
    line, other = viewer(world), viewer(world)
    start(world, line, 100)
    world.loop.pass_time(1)
    line.is_stalled = True
    had = len(replayed(line))
    for _ in range(10):
        world.loop.pass_time(1)
        world.live(1)
    assert len(replayed(line)) <= had + 2, "nothing is written to who takes nothing"
    assert [540 + i for i in range(9)] == [data["data"]["i"] for n, _, data in other.frames() if n == "event"][:9]
    line.is_stalled = False
    line.taken = len(line.written)
    world.loop.pass_time(5)
    states = told(line, "replay.state")
    assert states and states[0]["behind"] and not states[-1]["behind"]
    assert list(range(100, 100 + len(replayed(line)))) == replayed(line)
    assert [data["data"]["i"] for n, _, data in line.frames() if n == "event"] == list(range(540, 550))


def test_there_are_so_many_per_viewer_and_per_bridge_and_all_end_with_their_viewers(world: World) -> None:
    line = viewer(world)
    for _ in range(PER_VIEWER_MAX):
        start(world, line, 100)
    refused = ask(world, line, "replay", {"since": "0", "speed": 1})
    assert refused["error"]["code"] == "too_many_requests"
    lines = [line]
    while len(world.fanout.timed_replays) < PER_BRIDGE_MAX:
        if len(told(lines[-1], "ack")) >= PER_VIEWER_MAX:
            lines.append(viewer(world))
        start(world, lines[-1], 100)
    late = viewer(world)
    assert "this bridge has as many" in ask(world, late, "replay", {"since": "0", "speed": 1})["error"]["message"]
    for each in lines:
        assert each.viewer is not None
        world.loop.run_until_complete(world._gone(each.viewer))
        each.is_closed = True
    world.loop.pass_time(1)
    assert not world.fanout.timed_replays
    start(world, late, 100)


def test_where_there_are_as_many_as_may_be_one_that_has_been_paused_for_a_minute_gives_way(world: World) -> None:
    lines: list[Room] = []
    while len(world.fanout.timed_replays) < PER_BRIDGE_MAX:
        lines.append(viewer(world, rights=Rights()))
        for _ in range(PER_VIEWER_MAX):
            control(world, lines[-1], start(world, lines[-1], 100), "pause")
    late, asked = viewer(world, rights=Rights()), {"since": place(world, 9), "speed": 1}
    assert "too_many_requests" == ask(world, late, "replay", asked)["error"]["code"]
    world.loop.pass_time(PAUSED_S)
    assert not any(told(line, "replay.end") for line in lines), "nobody else wants its place"
    control(world, lines[0], "r1", "resume")
    start(world, late, 10)
    assert [("r2", "paused")] == [(end["replay"], end["reason"]) for end in told(lines[0], "replay.end")]
    world.loop.pass_time(1)
    assert replayed(lines[0]) and replayed(late)
    assert "not_found" == control(world, lines[0], "r2", "resume")["error"]["code"]
    assert PER_BRIDGE_MAX == len(world.fanout.timed_replays)


def test_one_token_has_so_many_over_all_its_viewers(world: World) -> None:
    rights, mine = Rights(), Grant(parse_filter("*"), token_id="mine")
    lines = [viewer(world, grant=mine, rights=rights) for _ in range(TIMED_PER_HOLDER_MAX // 2 + 1)]
    other = viewer(world, grant=replace(mine, token_id="other"), rights=rights)
    begun = [start(world, line, 10) for line in lines[:-1] for _ in range(2)]
    asked = {"since": place(world, 9), "speed": 1}
    assert "too_many_requests" == ask(world, lines[-1], "replay", asked)["error"]["code"]
    assert start(world, other, 10)
    world.loop.run_until_complete(_regrant(lines[0], replace(mine, token_id="fresh")))
    control(world, lines[0], begun[0], "cancel")  # gives back the place of the token that it was begun with
    assert start(world, lines[-1], 10)
    assert "error" in ask(world, lines[-1], "replay", asked)


def test_it_outlives_the_ring_and_the_stream_it_began_in(world: World) -> None:
    """Slow enough, what was in memory when it began is in the archive alone when it comes there."""
    line = viewer(world)
    start(world, line, 500, idle_s=1)
    for _ in range(10):
        world.loop.pass_time(1)
        world.live(30)
        world.archive.catch_up()
        world.log.trim(60)
    assert list(range(500, 540)) == replayed(line)
    assert told(line, "replay.end")[0]["count"] == 40


def test_without_an_archive_it_plays_what_there_is_and_without_postgresql_it_says_so(world: World) -> None:
    line = viewer(world)
    world.archive.is_up = False
    start(world, line, 100, speed=64)
    world.loop.pass_time(5)
    assert list(range(480, 540)) == replayed(line)
    assert told(line, "replay.state")[0]["archive"] == "down"
    world.fanout.history.past = None
    start(world, line, 100, speed=64)
    world.loop.pass_time(5)
    assert list(range(480, 540)) == replayed(line)[60:]


def test_a_cycle_is_a_place_in_whichever_tier_it_is(world: World) -> None:
    for seq, cycle in enumerate((1, 2, 3, 1), 1):
        entries = [world.log.append("cycle.start", 0, f"clock:{seq}", cycle), *world.append(50)]
        world.loop.run_until_complete(world._take_in(entries))
        world.archive.catch_up()
    world.log.trim(110)
    line = viewer(world)
    for cycle, first in ((1, 690), (3, 640), (2, 590)):
        answer = ask(world, line, "replay", {"since": f"cycle:{cycle}", "types": "a.*", "count": 5})
        events = [data["data"]["i"] for name, _, data in line.frames() if name == "event"][-5:]
        assert (answer["count"], events[0]) == (5, first + 1)
    assert ask(world, line, "replay", {"since": "cycle:7", "speed": 1})["error"]["code"] == "not_found"
    late = world.come(since="cycle:7", types="a.*")
    world.loop.pass_time(1)
    assert told(late, "bye")[0]["code"] == "not_found"
    late = world.come(since={"cycle": 2})
    world.loop.pass_time(1)
    events = [data for name, _, data in late.frames() if name == "event"]
    assert ("cycle.start", 2, 1 + 50 + 51 + 51) == (events[0]["type"], events[0]["cycle"], len(events))


def test_an_end_is_a_place_or_a_cycle_in_whichever_tier_it_is(world: World) -> None:
    first = {}
    for seq, cycle in enumerate((1, 2, 3, 4), 1):
        first[cycle] = 540 + (seq - 1) * 50
        entries = [world.log.append("cycle.start", -cycle, f"clock:{seq}", cycle), *world.append(50)]
        world.loop.run_until_complete(world._take_in(entries))
        if cycle == 2:
            world.archive.catch_up()
    world.log.trim(110)
    line = viewer(world)
    head = str(world.fanout.head.id)

    def both(since: Any, to: Any) -> list[int]:
        had = len(events(line))
        answer = ask(world, line, "replay", {"since": since, "to": to})
        at_once = events(line)[had:]
        assert answer["count"] == len(at_once), answer
        had = len(replayed(line))
        assert "replay" in ask(world, line, "replay", {"since": since, "to": to, "speed": 64, "idle_s": 0})
        world.loop.pass_time(10)
        assert at_once == replayed(line)[had:]
        return at_once

    for cycle, number in first.items():
        numbers = [-cycle, *range(number, number + 50)]
        assert numbers == both(f"cycle:{cycle}", f"cycle:{cycle}"), "the newest one is not over"
    assert [-2, *range(590, 640), -3, *range(640, 690)] == both("cycle:2", "cycle:3"), "over both tiers"
    assert (
        list(range(11, 21))
        == both(place(world, 10)["id"], place(world, 20)["id"])
        == both(place(world, 10), place(world, 20))
    )
    assert (
        [*range(731, 740)]
        == both(str(world.log.entries[-10].id), "9" * 13)
        == both(str(world.log.entries[-10].id), {"id": "9" * 13, "epoch": "never"})
        == both(str(world.log.entries[-10].id), head)
    )
    assert list(range(11, 21)) == both(place(world, 10), {**place(world, 20), "epoch": "never"})
    assert [] == both(place(world, 20), place(world, 10)) == both(head, place(world, 10)["id"])
    assert ask(world, line, "replay", {"since": "0", "to": "cycle:7"})["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("grant", "code"),
    [(Grant(parse_filter("a.*")), "forbidden"), (Grant(parse_filter("*"), replay_count_max=10), "not_found")],
)
def test_a_cycle_that_a_grant_does_not_let_be_seen_is_no_place(world: World, grant: Grant, code: str) -> None:
    entries = [world.log.append("cycle.start", 0, "clock:1", 7), *world.append(15)]
    world.loop.run_until_complete(world._take_in(entries))
    line = viewer(world)
    replay = start(world, line, 400)
    world.loop.run_until_complete(_regrant(line, grant))
    for name, data in (
        ("replay", {"since": "cycle:7"}),
        ("replay", {"since": "cycle:7", "speed": 1}),
        ("replay", {"since": "0", "to": "cycle:7"}),
        ("replay", {"since": "0", "to": "cycle:7", "speed": 1}),
        ("replay.control", {"replay": replay, "action": "seek", "since": "cycle:7"}),
    ):
        assert code == ask(world, line, name, data)["error"]["code"]
    late = world.come(grant=grant, since="cycle:7")
    world.loop.pass_time(1)
    assert ["bye"] == names(late)
    assert code == told(late, "bye")[0]["code"]
