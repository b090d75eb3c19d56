"""A bridge that lost sight of the log while so much passed that the stream was trimmed beyond what it had: its ring has
a hole. Whoever comes then is given what the archive has of it, or is told what is missing, whatever way it asks.

Events 0 to 1539 were before; of 1540 to 1839 this bridge has seen nothing, and the stream has lost the first 240 of
them; 1840 to 1844 came after.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from broadcast.bridge.access import Grant
from broadcast.filters import parse_filter
from broadcast.log.position import Gap
from broadcast.log.stream import LinkUp
from tests.test_viewers_past import Room, World, events, names, place, told

LOST = list(range(1540, 1780))
LEFT = list(range(1780, 1845))


def lose_sight(world: World, *, is_archived: bool) -> None:
    stood = world.fanout.head
    world.append(300)
    if is_archived:
        world.archive.catch_up()
    world.log.trim(60)
    bounds = world.log.now()
    gap = Gap(stood.id, bounds.first, len(LOST), "trimmed")
    for item in (LinkUp(bounds, stood), gap, list(world.log.entries)):
        world.loop.run_until_complete(world._take_in(item))
    world.live(5)


@pytest.fixture(params=[20, 200, 5000], ids="a ring of {}".format)
def ring(request: pytest.FixtureRequest) -> int:
    """The hole has left it, is in it, or is in a ring that holds all that the stream ever held."""
    return int(request.param)


@contextlib.contextmanager
def after_a_hole(ring: int, *, is_archived: bool = False, has_archive: bool = True) -> Iterator[World]:
    world = World(archived=1500, ring=ring)
    if has_archive:
        world.archive.catch_up()
    else:
        world.fanout.history.past = None
    lose_sight(world, is_archived=is_archived)
    yield world
    world.close()


@pytest.fixture
def archived(ring: int) -> Iterator[World]:
    """The archiver was there all the while."""
    with after_a_hole(ring, is_archived=True) as world:
        yield world


@pytest.fixture
def lacking(ring: int) -> Iterator[World]:
    """The archiver was away, too."""
    with after_a_hole(ring) as world:
        yield world


@pytest.fixture
def alone(ring: int) -> Iterator[World]:
    """There is no archive."""
    with after_a_hole(ring, has_archive=False) as world:
        yield world


def viewer(world: World, **auth: Any) -> Room:
    line = world.come(**({"catchup": 0} | auth))
    world.loop.pass_time(3)
    return line


def lost_of(gaps: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    return [(gap["reason"], gap["lost"]) for gap in gaps]


def test_what_the_archive_has_of_it_is_given_to_whoever_comes(archived: World) -> None:
    since = place(archived, 1499)
    for auth in ({"since": since}, {"since": since["id"]}, {"catchup": 345}):
        line = viewer(archived, **auth)
        assert list(range(1500, 1845)) == events(line), auth
        assert "gap" not in names(line), auth
    archived.live(1)
    line = viewer(archived, catchup=3)
    assert [1843, 1844, 1845] == events(line)


@pytest.mark.parametrize("types", ["*", "a.*"])
def test_what_the_archive_has_of_it_is_replayed(archived: World, types: str) -> None:
    wanted = [i for i in range(1500, 1845) if types == "*" or i % 2]
    for asked in ({"count": len(wanted)}, {"since": place(archived, 1499)["id"], "count": 1000}):
        line = viewer(archived)
        answer = archived.ask(line, "replay", {"types": types, **asked})
        assert (wanted, len(wanted)) == (events(line), answer["count"])
        assert "gaps" not in answer
    line = viewer(archived)
    archived.ask(line, "replay", {"since": place(archived, 1499)["id"], "speed": 64, "types": types})
    archived.loop.pass_time(60)
    assert wanted == [data["event"]["data"]["i"] for data in told(line, "replay.event")]
    assert [] == told(line, "replay.gap")


def test_what_nobody_has_is_told_in_its_place(lacking: World) -> None:
    since = place(lacking, 1499)
    expected = [*range(1500, 1540), *LEFT]
    for auth in ({"since": since}, {"since": since["id"]}, {"catchup": len(expected)}):
        line = viewer(lacking, **auth)
        assert expected == events(line), auth
        assert [("trimmed", len(LOST))] == lost_of(told(line, "gap")), auth
        order = [name if name != "event" else data["data"]["i"] for name, _, data in line.frames()]
        assert order.index("gap") == order.index(1539) + 1


def test_what_nobody_has_is_told_with_a_replay(lacking: World) -> None:
    expected = [*range(1500, 1540), *LEFT]
    for asked in ({"count": len(expected)}, {"since": place(lacking, 1499)["id"], "count": 1000}):
        line = viewer(lacking)
        answer = lacking.ask(line, "replay", asked)
        assert expected == events(line)
        assert [("trimmed", len(LOST))] == lost_of(answer["gaps"])
    line = viewer(lacking)
    assert "gaps" not in lacking.ask(line, "replay", {"count": len(LEFT)})
    assert "gaps" not in lacking.ask(line, "replay", {"since": place(lacking, 1499)["id"], "count": 30})
    line = viewer(lacking)
    replay = lacking.ask(line, "replay", {"since": place(lacking, 1499)["id"], "speed": 64})["replay"]
    lacking.loop.pass_time(60)
    assert expected == [data["event"]["data"]["i"] for data in told(line, "replay.event")]
    assert [("trimmed", len(LOST))] == lost_of(told(line, "replay.gap"))
    assert {replay} == {data["replay"] for data in told(line, "replay.gap")}
    order = [name if name != "replay.event" else data["event"]["data"]["i"] for name, _, data in line.frames()]
    assert order.index("replay.gap") == order.index(1539) + 1


def test_without_an_archive_the_log_begins_behind_it(alone: World) -> None:
    since = place(alone, 1499)
    line = viewer(alone, since=since)
    assert LEFT == events(line)
    assert [("trimmed", 40 + len(LOST))] == lost_of(told(line, "gap"))
    line = viewer(alone, catchup=500)
    assert (LEFT, []) == (events(line), told(line, "gap"))
    for asked in ({"count": 500}, {"since": "0"}):
        answer = alone.ask(line, "replay", asked)
        assert (len(LEFT), None) == (answer["count"], answer.get("gaps"))
    answer = alone.ask(line, "replay", {"since": since["id"]})
    assert (len(LEFT), ["trimmed"]) == (answer["count"], [gap["reason"] for gap in answer["gaps"]])


def test_who_was_here_before_it_goes_on_over_it(ring: int) -> None:
    world = World(archived=1500, ring=ring)
    world.archive.catch_up()
    line, slow = viewer(world), viewer(world)
    came_at = world.fanout.head.n or 0
    slow.is_stalled = True
    lose_sight(world, is_archived=True)
    world.loop.pass_time(1)
    slow.is_stalled = False
    world.live(1)
    world.loop.pass_time(3)
    for each in (line, slow):
        lost = sum(gap["lost"] for gap in told(each, "gap"))
        assert len(events(each)) + lost == (world.fanout.head.n or 0) - came_at
    if ring > 60:  # else what came behind it has lapped everybody
        assert [("trimmed", len(LOST))] == lost_of(told(line, "gap"))
    world.close()


def test_a_grant_of_so_many_counts_them_behind_it(lacking: World) -> None:
    line = viewer(lacking, grant=Grant(parse_filter("*"), replay_count_max=100), since="0")
    assert set(events(line)) <= set(LEFT)
