"""Viewers that come from before the stream: the bridge on a log and an archive in memory, in virtual time."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from broadcast.bridge import cycle_start
from broadcast.bridge.access import Grant
from broadcast.bridge.answers import Request
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.past import CATCHUP_PATIENCE_S, PAGE_EVENTS, READS_AT_ONCE, Past, Wanted
from broadcast.bridge.requests import parse_handshake, utc_now
from broadcast.bridge.rights import Rights, holder_of
from broadcast.bridge.ring import Ring
from broadcast.bridge.shared import SharedReads, Turns
from broadcast.bridge.viewer import Viewer
from broadcast.bridge.walk import Walk
from broadcast.errors import RequestError, UnreachableError
from broadcast.filters import parse_filter
from broadcast.log.erasure import BLANK, ERASED, Erasure
from broadcast.log.position import START, EntryId, Gap, Position, Since, parse_id
from broadcast.log.stream import LinkUp
from tests.memory_log import MemoryArchive, MemoryLog, VirtualLoop
from tests.test_cursors import Line

ROOM = 10**9


class Room(Line):
    """A line that holds whatever is written."""

    @property
    def is_full(self) -> bool:
        return self.is_stalled


class World:
    """A log, its archive, a bridge, and viewers."""

    def __init__(self, *, archived: int, after: int = 40, stream: int = 60, ring: int = 20) -> None:
        self.log = MemoryLog()
        self.archive = MemoryArchive(self.log)
        self.numbers = iter(range(10**9))
        self.append(archived)
        self.archive.catch_up()
        self.append(after)
        self.log.trim(stream)
        self.loop = VirtualLoop()
        self.faults: list[Exception] = []
        self.loop.run_until_complete(self._start(ring))

    async def _start(self, ring: int) -> None:
        reader: Any = self.log
        archive: Any = self.archive
        self.fanout = Fanout(reader, Ring(events_max=ring, bytes_max=10**7))
        self.fanout.history.past = Past(archive)
        self.fanout.on_fault = self.faults.append
        await self.fanout._load()
        self.fanout.history.was_loaded_whole = len(self.log.entries) <= ring
        self.tasks = [asyncio.ensure_future(self.fanout.deliver()), asyncio.ensure_future(self.fanout.look_after())]

    def append(self, count: int) -> list[Any]:
        numbers = [next(self.numbers) for _ in range(count)]
        return [self.log.append("a.x" if i % 2 else "b.y", i, f"mind:{i + 1}") for i in numbers]

    def live(self, count: int) -> None:
        entries = self.append(count)
        self.loop.run_until_complete(self._take_in(entries))

    async def _take_in(self, item: Any) -> None:
        self.fanout.take_in(item)

    def reset(self) -> None:
        stood = self.log.last
        self.log.reset()
        for item in (LinkUp(self.log.now(), self.log.now().end), Gap(stood, None, None, "reset")):
            self.loop.run_until_complete(self._take_in(item))

    def erase(self, types: str) -> None:
        """Everything of some types, in all tiers; then the log says so."""
        erasure = Erasure.asked(types=types, now=datetime.now(UTC))
        self.log.erase(erasure.covers)
        self.archive.erase(erasure.covers)
        told = self.log.append(ERASED, 0, "eraser:1")
        told.event["data"] = erasure.as_data()
        self.loop.run_until_complete(self._take_in([told]))

    def come(self, *, grant: Grant | None = None, rights: Rights | None = None, **auth: Any) -> Room:
        async def make() -> Room:
            line = Room()
            viewer = line.viewer = Viewer(
                line,
                self.fanout,
                handshake=parse_handshake(auth, now=utc_now()),
                grant=grant or Grant(parse_filter("*")),
                rights=rights,
                on_gone=lambda _: None,
            )
            viewer.begin()
            return line

        return self.loop.run_until_complete(make())

    def ask(self, line: Room, name: str, data: dict[str, Any]) -> dict[str, Any]:
        answers: list[str] = []

        async def submit() -> None:
            assert line.viewer is not None
            line.viewer.submit(Request(name, data, answers.append))

        self.loop.run_until_complete(submit())
        self.loop.pass_time(5)
        assert len(answers) == 1
        answer: dict[str, Any] = json.loads(answers[0])
        return answer

    def close(self) -> None:
        for viewer in list(self.fanout.viewers):
            self.loop.run_until_complete(self._gone(viewer))
        for task in self.tasks:
            task.cancel()
        self.loop.pass_time(0.1)
        self.loop.close()
        assert not self.faults, "".join(traceback.format_exception(self.faults[0]))

    async def _gone(self, viewer: Viewer) -> None:
        viewer.gone()


@pytest.fixture
def world() -> Iterator[World]:
    world = World(archived=1500)
    yield world
    world.close()


def place(world: World, i: int) -> dict[str, Any]:
    row = world.archive.rows[i]
    return {"id": str(row.place.id), "n": row.n, "epoch": world.archive.epochs[row.place.epoch - 1].name}


def events(line: Room) -> list[int]:
    return [data["data"]["i"] for name, _, data in line.frames() if name == "event"]


def names(line: Room) -> list[str]:
    return [name for name, _, _ in line.frames()]


def told(line: Room, name: str) -> list[dict[str, Any]]:
    return [data for each, _, data in line.frames() if each == name]


def test_whoever_comes_from_before_the_stream_gets_all_of_it_and_no_gap(world: World) -> None:
    lines = [
        world.come(since=place(world, 99)),
        world.come(since=place(world, 99)["id"]),
        world.come(pid=place(world, 99)["epoch"], offset=place(world, 99)["id"]),
        world.come(since="0"),
    ]
    filtered = world.come(since=place(world, 99), types="a.*")
    world.loop.pass_time(3)
    world.live(5)
    world.loop.pass_time(1)
    for line in lines[:3]:
        assert list(range(100, 1545)) == events(line)
        assert "gap" not in names(line)
        assert told(line, "position")[-1]["n"] == 1540
    assert list(range(1545)) == events(lines[3])
    assert [i for i in range(100, 1545) if i % 2] == events(filtered)
    assert "gap" not in names(filtered)


def test_what_neither_has_is_told_and_counted() -> None:
    world = World(archived=100, after=200, stream=60)
    line = world.come(since=place(world, 49))
    world.loop.pass_time(3)
    assert [*range(50, 100), *range(240, 300)] == events(line)
    assert [140] == [gap["lost"] for gap in told(line, "gap")]
    world.close()


def test_without_postgresql_the_stream_is_served_with_the_gap_it_always_had(world: World) -> None:
    world.archive.is_up = False
    line = world.come(since=place(world, 99))
    world.loop.pass_time(CATCHUP_PATIENCE_S)
    assert list(range(1480, 1540)) == events(line)
    assert [1380] == [gap["lost"] for gap in told(line, "gap")]
    reads = world.archive.reads
    for _ in range(20):
        world.come(since=place(world, 99))
    world.loop.pass_time(1)
    assert world.archive.reads == reads, "after a failure it is left alone for a while"
    world.archive.is_up = True
    world.loop.pass_time(10)
    line = world.come(since=place(world, 99))
    world.loop.pass_time(3)
    assert list(range(100, 1540)) == events(line)


def test_a_log_that_began_anew_is_given_to_its_end_before_the_new_one() -> None:
    world = World(archived=300, after=0)
    world.reset()
    world.live(10)
    world.archive.catch_up()
    world.live(5)
    old, new = world.archive.epochs
    line = world.come(since=place(world, 199))
    world.loop.pass_time(3)
    assert list(range(200, 315)) == events(line)
    hello, gaps = told(line, "hello")[0], told(line, "gap")
    assert (hello["epoch"], hello["n"]) == (old.name, 200)
    assert ["reset"] == [gap["reason"] for gap in gaps]
    order = [name if name != "event" else data["data"]["i"] for name, _, data in line.frames()]
    assert order.index("gap") == order.index(299) + 1, "the gap stands between the two logs"
    assert order[order.index("gap") + 1] == "position"
    assert {new.name} == {position["epoch"] for position in told(line, "position")}
    # Wherever a page was cut off, it comes back with what it knows and goes on there.
    for stop in (order.index(250), order.index("gap") + 1, order.index(305)):
        known = dict(hello)
        for name, _, data in line.frames()[: stop + 1]:
            if name == "event":
                known |= {"id": data["id"], "n": data["n"]}
            elif name == "position":
                known = data
            elif name == "gap" and data["reason"] == "reset":
                known |= {"n": None, "epoch": None}
        again = world.come(since={key: known[key] for key in ("id", "n", "epoch")})
        world.loop.pass_time(3)
        expected = [i for i in order[stop + 1 :] if isinstance(i, int)]
        assert expected == events(again)
    world.close()


def test_a_storm_from_old_places_shares_its_pages(world: World) -> None:
    before = world.archive.reads
    lines = [world.come(since=place(world, 20 + i)) for i in range(60)]
    world.loop.pass_time(20)
    for i, line in enumerate(lines):
        assert list(range(21 + i, 1540)) == events(line)
    whole = 1500 // PAGE_EVENTS + 2
    assert world.archive.reads - before < 60 + 20 + whole, "each reads a page of its own, and then the same ones"


def test_the_last_n_and_a_replay_are_filled_up_from_the_archive(world: World) -> None:
    line = world.come(catchup=100)
    world.loop.pass_time(3)
    assert list(range(1440, 1540)) == events(line)
    line = world.come(catchup=0)
    world.loop.pass_time(1)
    assert world.ask(line, "replay", {"count": 300})["count"] == 300
    assert list(range(1240, 1540)) == events(line)
    answer = world.ask(line, "replay", {"since": place(world, 9)["id"], "types": "a.*", "count": 700})
    assert answer["count"] == 700
    assert [i for i in range(10, 1410) if i % 2] == events(line)[300:]
    answer = world.ask(line, "replay", {"since": place(world, 1400)["id"], "count": 1000})
    assert list(range(1401, 1540)) == events(line)[1000:], "over all tiers"
    world.archive.is_up = False
    answer = world.ask(line, "replay", {"since": place(world, 20)["id"]})
    assert (answer["count"], answer["archive"]) == (60, "down")


def test_it_can_be_told_to_go_in_the_middle_of_the_past(world: World) -> None:
    line = world.come(since="0")
    line.is_stalled = True
    world.loop.pass_time(1)
    assert line.viewer is not None
    world.loop.run_until_complete(_dismiss(line.viewer))
    line.is_stalled = False
    world.loop.pass_time(2)
    assert told(line, "bye")[0]["code"] == "expired"
    assert len(events(line)) < 1540


@pytest.mark.parametrize("way", ["since", "catchup"])
def test_nor_is_anything_given_of_what_was_read_before_it_was_told_to_go(way: str) -> None:
    world = World(archived=0, after=2000, stream=2000)
    line = world.come(**({"since": "0"} if way == "since" else {"catchup": 1000}))
    line.is_stalled = True
    world.loop.pass_time(1.5)
    had = len(events(line))
    assert line.viewer is not None
    world.loop.run_until_complete(_dismiss(line.viewer))
    line.is_stalled = False
    world.loop.pass_time(2)
    assert (told(line, "bye")[0]["code"], len(events(line))) == ("expired", had)
    world.close()


async def _dismiss(viewer: Viewer) -> None:
    viewer.dismiss("expired")


def test_a_long_queue_in_front_of_the_archive_is_no_failure(world: World) -> None:
    """More of them, each from a place of its own, than the archive answers in its patience."""
    count = 4 * int(CATCHUP_PATIENCE_S * READS_AT_ONCE / 0.1)
    past: Any = world.fanout.history.past
    answer = world.archive.before

    async def take_time(*args: Any, **named: Any) -> Any:
        await asyncio.sleep(0.1)
        return await answer(*args, **named)

    world.archive.before = take_time  # type: ignore[method-assign]

    async def ask(i: int) -> int:
        found = await past.newest(Position(EntryId(10_000 + i, 0)), Wanted(), count=1)
        return len(found.events)

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(ask(i) for i in range(count)), return_exceptions=True)

    assert [1] * count == world.loop.run_until_complete(ask_all())


def test_an_archive_that_hangs_is_left_by_those_who_wait_and_by_those_in_the_queue(world: World) -> None:
    past: Any = world.fanout.history.past

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(20)

    world.archive.before = hang  # type: ignore[method-assign,assignment]

    async def ask_all() -> list[Any]:
        asked = (past.newest(Position(EntryId(10_000 + i, 0)), Wanted(), count=1) for i in range(20))
        return await asyncio.gather(*asked, return_exceptions=True)

    began_s = world.loop.time()
    found = world.loop.run_until_complete(ask_all())
    assert all(isinstance(each, UnreachableError) for each in found)
    assert world.loop.time() - began_s == pytest.approx(CATCHUP_PATIENCE_S, abs=0.1)
    world.loop.pass_time(200)


def test_a_walk_up_to_a_time_ends_where_it_is_to_end_nevertheless(world: World) -> None:
    stands = world.archive.rows[700]
    until = Position(stands.place.id, stands.n, world.log.epoch)

    async def walked() -> list[int]:
        walk = Walk(world.fanout, Position(START), Wanted(ts_to=MemoryLog.ts_of(1400)), until=until)
        pages = [page async for page in walk.pages()]
        return [event.n or 0 for page in pages if not isinstance(page, Gap) for event in page]

    assert list(range(1, (stands.n or 0) + 1)) == world.loop.run_until_complete(walked())


def test_what_is_rare_is_not_looked_for_in_all_of_the_stream() -> None:
    world = World(archived=0, after=0)
    rare = world.log.append("rare.z", 10**6, "rare:1", cycle=7)
    first = world.log.append("cycle.start", 10**6 + 1, "rare:2", cycle=7)
    world.append(4000)
    world.archive.catch_up()
    late = world.log.append("rare.z", 10**6 + 2, "rare:3")
    for entry in world.append(600):
        world.loop.run_until_complete(world._take_in([entry]))
    world.loop.run_until_complete(world.fanout._load())
    world.fanout.history.was_loaded_whole = False
    before = world.log.reads
    line = world.come(catchup=50, types="rare.*")
    world.loop.pass_time(1)
    assert [str(rare.id), str(late.id)] == [data["id"] for name, _, data in line.frames() if name == "event"]
    assert world.log.reads - before <= 3, "no more than lies between the checkpoint and the ring"
    before = world.log.reads
    begun = world.loop.run_until_complete(cycle_start.found(world.fanout, Since(None, cycle=7)))
    assert begun.position is not None and first.id.before() == begun.position.id
    assert world.log.reads - before <= 2
    world.close()


@pytest.mark.parametrize("types", ["*", "a.*"])
def test_what_is_erased_while_a_viewer_takes_nothing_is_not_given_to_it_any_more(world: World, types: str) -> None:
    line = world.come(since=place(world, 99), types=types)
    world.loop.pass_time(0.002)
    line.is_stalled = True
    world.loop.pass_time(1)
    had = len(told(line, "event"))
    assert had < 1000, "it is on its way"
    world.erase("a.x")
    line.is_stalled = False
    world.loop.pass_time(3)
    after = told(line, "event")[had:]
    assert "a.x" not in {event["type"] for event in after}
    assert (types == "*") == (BLANK in {event["type"] for event in after})


def test_what_is_being_read_while_it_is_erased_is_read_once_more(world: World) -> None:
    answers: list[str] = []

    async def read() -> str:
        answers.append(str(len(answers)))
        await asyncio.sleep(1)
        return answers[-1]

    async def ask() -> list[str]:
        reads: SharedReads[str] = SharedReads(turns=Turns(2), kept_max=2)
        both = [asyncio.create_task(reads.get("key", read, patience_s=patience_s)) for patience_s in (None, 5)]
        await asyncio.sleep(0.5)
        reads.clear()
        return await asyncio.gather(*both)

    assert ["1", "1"] == world.loop.run_until_complete(ask())


def _two_logs() -> World:
    """300 events of a log that was, 20 of the one that is, all archived a while ago; the stream has the last 12."""
    world = World(archived=300, after=0, ring=10)
    world.fanout.now_ns = lambda: world.log.now_ms * 1_000_000  # type: ignore[method-assign]
    world.reset()
    world.live(20)
    world.archive.catch_up()
    world.log.trim(12)
    world.log._ms += 10_000
    return world


def _invented(world: World) -> list[dict[str, Any]]:
    """Places that nobody was told, as new as one likes."""
    later, old, new = f"{world.log.now_ms + 5}-0", world.archive.epochs[0].name, world.archive.epochs[1].name
    ids = (later, f"{2**64 - 1}-{2**64 - 1}")
    bare: list[dict[str, Any]] = [{"since": entry_id} for entry_id in ids]
    whole: list[dict[str, Any]] = [
        {"since": {"id": entry_id, "n": n, "epoch": epoch}}
        for entry_id in ids
        for epoch in (old, new, "never", None)
        for n in (None, 0, 5, 10**6)
    ]
    recovered = [{"pid": epoch, "offset": later} for epoch in (old, new, "never")]
    return [*bare, *whole, *recovered, {"since": "0"}, {"catchup": 50}]


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        (Grant(parse_filter("*"), replay_count_max=0), 0),
        (Grant(parse_filter("*"), replay_count_max=5), 5),
        (Grant(parse_filter("*"), replay_back_s=5), 0),
        (Grant(parse_filter("*"), replay_back_s=10.004), 5),
        (Grant(parse_filter("*"), replay_back_s=10.004, replay_count_max=3), 3),
    ],
)
@pytest.mark.parametrize("is_up", [True, False])
def test_no_place_however_new_leads_past_a_grant(grant: Grant, allowed: int, is_up: bool) -> None:
    world = _two_logs()
    world.archive.is_up = is_up
    asked = _invented(world)
    lines = [world.come(grant=grant, **auth) for auth in asked]
    world.loop.pass_time(CATCHUP_PATIENCE_S)
    had = [events(line) for line in lines]
    for auth, line, found in zip(asked, lines, had, strict=True):
        assert set(found) <= set(range(320 - allowed, 320)), auth
        assert parse_id(told(line, "position")[-1]["id"]) <= world.log.last, "it stands in the log, not beyond"
    world.live(2)
    world.loop.pass_time(0.1)
    assert [[320, 321]] * len(lines) == [events(line)[len(found) :] for line, found in zip(lines, had, strict=True)]
    world.close()


def test_what_a_grant_leaves_out_of_the_next_log_is_told_in_its_place() -> None:
    world = _two_logs()
    world.live(3)
    world.archive.catch_up()
    world.log._ms += 4_000
    grant = Grant(parse_filter("*"), replay_back_s=5)
    first = world.archive.rows[-3].place.id
    line = world.come(grant=grant, since={"id": f"{world.log.now_ms}-0", "epoch": world.archive.epochs[0].name})
    world.loop.pass_time(1)
    assert [320, 321, 322] == events(line)
    gaps = [(gap["reason"], gap["before"]) for gap in told(line, "gap")]
    assert ["reset", "trimmed"] == [reason for reason, _ in gaps]
    assert str(first) == gaps[-1][1]
    world.close()


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_of_a_log_without_events_is_nothing(count: int) -> None:
    world = World(archived=300, after=0)
    world.reset()
    grant = Grant(parse_filter("*"), replay_count_max=count)
    old = world.archive.epochs[0].name
    questions: tuple[dict[str, Any], ...] = (
        {},
        {"since": "0"},
        {"since": {"id": "0-0", "epoch": old}},
        {"since": place(world, 290)},
    )
    lines = [world.come(grant=grant, **auth) for auth in questions]
    world.loop.pass_time(1)
    for line in lines:
        for more in ({}, {"since": "0"}, {"since": "0", "speed": 64}):
            assert not world.ask(line, "replay", {"count": 100, **more}).get("count")
    world.loop.pass_time(5)
    assert not any(events(line) or told(line, "replay.event") for line in lines)
    world.live(3)
    world.loop.pass_time(0.1)
    assert [[300, 301, 302]] * len(lines) == [events(line) for line in lines]
    world.close()


@pytest.mark.parametrize("way", ["since", "a place", "catchup"])
@pytest.mark.parametrize("ring", [20, 2000])
def test_what_a_viewer_has_of_the_past_when_it_comes_waits_for_its_share_and_is_never_refused(
    way: str, ring: int
) -> None:
    world = World(archived=440, after=60, stream=60, ring=20)
    if ring > 20:
        world.close()
        world = World(archived=0, after=500, stream=500, ring=ring)
    world.fanout.now_ns = lambda: (world.log.now_ms + 3_600_000) * 1_000_000  # type: ignore[method-assign]
    rights = Rights(replay_per_minute=600, now_s=world.loop.time)
    asked: dict[str, Any] = {"since": "0"}
    if way != "since":
        first = next(event for event in world.log.entries) if ring > 20 else None
        since = place(world, 0) if first is None else {"id": str(first.id), "n": 1, "epoch": world.log.epoch}
        asked = {"since": since} if way == "a place" else {"catchup": 1000}
    expected = list(range(1 if way == "a place" else 0, 500))
    lines: list[Room] = []
    for _ in range(4):
        lines.append(world.come(rights=rights, **asked))
        world.loop.pass_time(1)
    had = [len(events(line)) for line in lines]
    assert had[0] == len(expected) and sum(had) < 3 * len(expected), "the last ones wait"
    live = world.come(rights=rights)
    world.loop.pass_time(1)
    assert expected[-50:] == events(live), "who is caught up as usual does not"
    with pytest.raises(RequestError):
        rights.refuse_past(holder_of(Grant(parse_filter("*")), ""))
    world.loop.pass_time(300)
    assert [expected] * len(lines) == [events(line) for line in lines]
    assert not any(name in ("bye", "gap") for line in lines for name in names(line))
    world.close()


def test_a_short_cut_costs_nothing_however_much_of_the_past_was_had() -> None:
    world = World(archived=0, after=300, stream=300, ring=400)
    world.fanout.now_ns = lambda: world.log.now_ms * 1_000_000  # type: ignore[method-assign]
    rights = Rights(replay_per_minute=10, now_s=world.loop.time)
    rights.note_past(holder_of(Grant(parse_filter("*")), ""), 10_000)
    for _ in range(3):
        line = world.come(rights=rights, since={"id": str(world.log.entries[0].id), "n": 1, "epoch": world.log.epoch})
        world.loop.pass_time(0.1)
        assert list(range(1, 300)) == events(line)
    world.close()


HOLE = "hole"
END = "end"


def _order(line: Room) -> list[Any]:
    """The events and, in their places, the gaps."""
    shown = {"gap": HOLE, "position": END}
    return [shown.get(name, data.get("data", {}).get("i")) for name, _, data in line.frames()][2:]


@pytest.mark.parametrize("is_noted", [False, True])
def test_the_catch_up_tells_what_is_neither_archived_nor_in_the_stream_any_more(*, is_noted: bool) -> None:
    """Between the archive and the stream, and once the archiver has been there, in the archive."""
    world = World(archived=40, after=30, stream=10, ring=12)
    if is_noted:
        world.archive.catch_up()
        world.live(20)
    newest = [*range(60, 90 if is_noted else 70)]
    first, last = world.archive.rows[39].place.id, EntryId(1061, 0)
    told_of_it = {"after": str(first), "before": str(last), "lost": 20, "reason": "trimmed"}
    for count in (len(newest) + 3, 1000):
        line = world.come(catchup=count)
        filtered = world.come(catchup=count, types="a.*")
        world.loop.pass_time(1)
        older = [*range(40)][-(count - len(newest)) :]
        assert [*older, HOLE, *newest, END] == _order(line)
        assert [told_of_it] == told(line, "gap") == told(filtered, "gap")
        odd = [i for i in range(40) if i % 2][-(count - len(newest) // 2) :]
        assert [*odd, HOLE, *[i for i in newest if i % 2], END] == _order(filtered)
    for count in (len(newest), 5):
        line = world.come(catchup=count)
        world.loop.pass_time(1)
        assert [*newest[-count:], END] == _order(line), "it is not asked for what lies before the gap"
    lately = world.come(catchup=1000, grant=Grant(parse_filter("*"), replay_count_max=8))
    world.loop.pass_time(1)
    assert [*newest[-8:], END] == _order(lately), "nor is it told of what its grant does not let it have"
    world.close()


def test_a_catch_up_from_the_archive_alone_ends_with_what_is_gone() -> None:
    world = World(archived=40, after=30, stream=0)
    line = world.come(catchup=5)
    world.loop.pass_time(1)
    assert [*range(35, 40), HOLE, END] == _order(line)
    assert [(30, None)] == [(gap["lost"], gap["before"]) for gap in told(line, "gap")]
    world.close()
