"""Ring, cursors, filters, beat and writers together, under any interleaving of what can happen to them.

The log is `memory_log.py`, the time is virtual, everything else is the bridge's own. What every viewer is told is
checked against all that was ever delivered, in its order: no event of its filter is missing without a `gap`, none comes
twice, none is overtaken, and a `gap` counts exactly what is missing. And whatever it asks for, with whichever token: no
event outside its grant, live or past, nor one that is older than that allows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broadcast.bridge.answers import Request
from broadcast.bridge.cursor import PATIENCE_S
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.grant import Grant
from broadcast.bridge.past import REST_S, Past
from broadcast.bridge.requests import parse_handshake, utc_now
from broadcast.bridge.rights import Rights
from broadcast.bridge.ring import Ring
from broadcast.bridge.viewer import Viewer
from broadcast.bridge.wire import SSE, Form
from broadcast.filters import ALL, Filter, parse_filter
from broadcast.log.position import START, EntryId, Gap, parse_id
from broadcast.log.stream import LinkDown, LinkUp
from tests.memory_log import MemoryArchive, MemoryLog, VirtualLoop

RING_EVENTS = 12
STREAM_EVENTS = 30
ROOM_BYTES = 4_000
TYPES = ["a.x", "a.y", "b.x", "c"]
FILTERS = ["*", "a.*", "a.x,c", "-a.x", "nothing"]
GRANTS = {
    "all": Grant(ALL),
    "some": Grant(parse_filter("a.*,c")),
    "others": Grant(parse_filter("b.*,c")),
    "lately": Grant(ALL, replay_back_s=0.01),
    "the newest": Grant(parse_filter("-c"), replay_count_max=7),
    "both": Grant(ALL, replay_back_s=0.02, replay_count_max=20),
    "nothing of the past": Grant(parse_filter("a.*"), replay_count_max=0),
}
"""What tokens allow; milliseconds pass only as events are appended."""


@dataclass
class Line:
    """A connection that holds `ROOM_BYTES`, and what came out at its other end."""

    form: Form = SSE
    written: bytearray = field(default_factory=bytearray)
    taken: int = 0
    is_stalled: bool = False
    is_closed: bool = False
    viewer: Viewer | None = None
    _frames: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)
    _parsed: int = 0

    @property
    def write(self) -> Callable[[bytes], None]:
        return self._write

    def _write(self, data: bytes) -> None:
        assert not self.is_closed, "written behind the end"
        self.written += data
        if not self.is_stalled:
            self.taken = len(self.written)
        if self.is_full and self.viewer is not None:
            self.viewer.rouse()

    @property
    def waiting_bytes(self) -> int:
        return len(self.written) - self.taken

    @property
    def is_full(self) -> bool:
        return self.waiting_bytes >= ROOM_BYTES

    async def wait_for_room(self, patience_s: float, *, until_empty: bool) -> bool:
        for _ in range(int(patience_s)):
            if not (self.is_full or (until_empty and self.waiting_bytes)):
                return True
            await asyncio.sleep(1)
        return False

    def close(self, *, may_return: bool, abort: bool = False) -> None:
        self.is_closed = True

    def describe(self) -> dict[str, Any]:
        return {}

    def frames(self) -> list[tuple[str, str | None, dict[str, Any]]]:
        """Name, place and content of everything that was written."""
        while (end := self.written.find(b"\n\n", self._parsed)) >= 0:
            frame = self.written[self._parsed : end].decode()
            fields = dict(line.split(": ", 1) for line in frame.split("\n"))
            self._frames.append((fields.get("event", "event"), fields.get("id"), json.loads(fields["data"])))
            self._parsed = end + 2
        return self._frames


class Tokens:
    """Stands for `Access`: a token is the name of what it allows."""

    def renewed(self, token: str) -> Grant:
        return GRANTS[token]


@dataclass
class Person:
    """A viewer over all its connections, and what is known of where it stands."""

    wanted: Filter
    grant: Grant
    policy: str
    line: Line
    viewer: Viewer
    earliest: EntryId = START
    """No event of the past that it is given is older."""
    renewed: list[Grant] = field(default_factory=list)
    """What it has asked for, with tokens that are not answered yet."""
    known: dict[str, Any] | None = None
    """The `{id, n, epoch}` with which it comes back."""
    looked_at: int = 0
    at: int | None = None
    """The index, in all that was delivered, of the last thing it has passed; None if that is not known."""
    had: int = -1
    """The same in the logs that were: a log that continues them does not give it that again."""
    asked: list[Filter] = field(default_factory=list)
    is_inventing: bool = False
    """Whether it once came with a place that nobody had told it."""
    is_miscounting: bool = False
    """Whether it came with an ordinal of its own making, too: what it lacks is counted by that."""
    told: set[int] = field(default_factory=set)
    """The events that it was told, wherever they stood: of those that stand twice, the archive has the first place."""
    came_after_breaks: int = 0
    """After how many losses of Redis it came, this time."""

    def wants(self, event_type: str) -> bool:
        return self.wanted.matches(event_type) and self.grant.filter.matches(event_type)


class Bridge(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog()
        self.delivered: list[tuple[EntryId, str, int]] = []
        """Everything that ever came into the ring: id, type, ordinal."""
        self.people: list[Person] = []
        self.faults: list[Exception] = []
        self.numbers = iter(range(10**9))
        self.seq = 0
        self.again: dict[EntryId, int] = {}
        """What was appended again, and after which break."""
        self.numbers_again: dict[EntryId, int] = {}
        """The same, and which event it is."""
        self.breaks = 0
        self.logs: list[str] = []
        """The names of those that were."""
        self.forgotten: set[EntryId] = set()
        """What was in the log once: who is told of the log that is now need not hear of it."""
        self.was_rewound = False

    @initialize(before=st.integers(0, 40), with_archive=st.booleans())
    def begin(self, before: int, with_archive: bool) -> None:
        self.archive = MemoryArchive(self.log) if with_archive else None
        for _ in range(before):
            self._append_one(TYPES[before % len(TYPES)])
        self.log.trim(STREAM_EVENTS)
        self.loop = VirtualLoop()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        reader: Any = self.log
        self.fanout = Fanout(reader, Ring(events_max=RING_EVENTS, bytes_max=10**6), waiting_bytes_max=3 * ROOM_BYTES)
        if self.archive is not None:
            archive: Any = self.archive
            self.fanout.history.past = Past(archive)
        self.fanout.on_fault = self.faults.append
        self.fanout.now_ns = lambda: self.log.now_ms * 1_000_000  # type: ignore[method-assign]
        access: Any = Tokens()
        self.rights = Rights(access)
        await self.fanout._load()
        self.tasks = [asyncio.ensure_future(self.fanout.deliver()), asyncio.ensure_future(self.fanout.look_after())]

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        for person in self.people:
            self._in_loop(person.viewer.gone)
        for task in self.tasks:
            task.cancel()
        self.loop.pass_time(0.1)
        self.loop.close()

    def _in_loop(self, act: Callable[[], object]) -> None:
        async def do() -> None:
            act()

        self.loop.run_until_complete(do())

    def _append_one(self, event_type: str) -> Any:
        self.seq += 1
        entry = self.log.append(event_type, next(self.numbers), f"mind:{self.seq}")
        self.delivered.append((entry.id, entry.event["type"], entry.n or 0))
        return entry

    # --- what happens to the log

    @rule(types=st.lists(st.sampled_from(TYPES), min_size=1, max_size=2 * RING_EVENTS))
    def append(self, types: list[str]) -> None:
        entries = [self._append_one(event_type) for event_type in types]
        self.log.trim(STREAM_EVENTS)
        self.fanout.take_in(entries)

    @rule(keep=st.integers(0, STREAM_EVENTS))
    def trim(self, keep: int) -> None:
        self.log.trim(keep)

    @rule(is_up=st.booleans())
    def redis(self, is_up: bool) -> None:
        if self.log.is_up is not is_up:
            self.log.is_up = is_up
            self.fanout.take_in(LinkUp(self.log.now(), self.fanout.head) if is_up else LinkDown("away"))

    @precondition(lambda self: self.log.entries)
    @rule(lost=st.integers(1, 5), back=st.booleans())
    def rewind(self, lost: int, back: bool) -> None:
        """Redis loses its tail; what a producer still keeps of it is appended again under its old identity."""
        stood = self.log.last
        self.breaks += 1
        gone = self.log.rewind(min(lost, len(self.log.entries)))
        self.forgotten |= {entry.id for entry in gone}
        self.was_rewound = True
        self.fanout.take_in(LinkUp(self.log.now(), self.log.now().end))
        self.fanout.take_in(Gap(stood, None, None, "rewound"))
        if back:
            again = [self.log.append(entry.event["type"], entry.event["data"]["i"], entry.by or "") for entry in gone]
            # Who was here has had them; who comes to the log as it is now gets them in their new places.
            self.again |= {entry.id: self.breaks for entry in again}
            self.numbers_again |= {entry.id: entry.event["data"]["i"] for entry in again}
            self.delivered += [(entry.id, entry.event["type"], entry.n or 0) for entry in again]
            self.fanout.take_in(again)

    @rule(goes_on=st.booleans())
    def reset(self, goes_on: bool) -> None:
        """Another log begins; perhaps it goes on at once, and both of them are archived."""
        if goes_on:
            self._archive_all()
        stood = self.log.last
        self.forgotten |= {entry_id for entry_id, _, _ in self.delivered}
        self.logs.append(self.log.epoch)
        self.log.reset()
        self.was_rewound = True
        self.fanout.take_in(LinkUp(self.log.now(), self.log.now().end))
        self.fanout.take_in(Gap(stood, None, None, "reset"))
        if goes_on:
            self.append(TYPES * 3)
            self._archive_all()

    # --- what happens to the archive

    @precondition(lambda self: self.archive is not None)
    @rule(count=st.sampled_from([3, 20, 10**6]))
    def archive_more(self, count: int) -> None:
        assert self.archive is not None
        self.archive.catch_up(count)

    def _archive_all(self) -> None:
        if self.archive is not None:
            self.archive.catch_up()

    @precondition(lambda self: self.archive is not None)
    @rule(is_up=st.booleans())
    def postgresql(self, is_up: bool) -> None:
        assert self.archive is not None
        self.archive.is_up = is_up

    # --- what viewers do

    @precondition(lambda self: len(self.people) < 6)
    @rule(
        types=st.sampled_from(FILTERS),
        grant=st.sampled_from(sorted(GRANTS)),
        policy=st.sampled_from(["gap", "latest", "close"]),
        catchup=st.sampled_from([0, 3, 50]),
    )
    def connect(self, types: str, grant: str, policy: str, catchup: int) -> None:
        auth = {"types": types, "policy": policy, "catchup": catchup}
        earliest = self._earliest(GRANTS[grant])
        line, viewer = self._viewer(auth, GRANTS[grant])
        person = Person(parse_filter(types), GRANTS[grant], policy, line, viewer, earliest)
        person.came_after_breaks = self.breaks
        self.people.append(person)

    @precondition(lambda self: len(self.people) < 6)
    @rule(
        grant=st.sampled_from(sorted(GRANTS)),
        later_ms=st.none() | st.integers(1, 2_000),
        n=st.none() | st.integers(0, 60),
        which=st.integers(-4, 4),
        recovers=st.booleans(),
    )
    def come_from_an_invented_place(
        self, grant: str, later_ms: int | None, n: int | None, which: int, recovers: bool
    ) -> None:
        """Somewhere in the future, in a log that is, that was, or that never was."""
        place = EntryId(2**64 - 1, 2**64 - 1) if later_ms is None else EntryId(self.log.now_ms + later_ms, 0)
        epochs = ["never", None, self.log.epoch, self.log.parent, *self.logs]
        epoch = epochs[which % len(epochs)]
        since = {"id": str(place), "n": n, "epoch": epoch}
        auth = {"pid": epoch or "", "offset": str(place)} if recovers else {"since": since}
        earliest = self._earliest(GRANTS[grant])
        line, viewer = self._viewer({"types": "*", **auth}, GRANTS[grant])
        person = Person(ALL, GRANTS[grant], "gap", line, viewer, earliest, is_inventing=True)
        person.is_miscounting = n is not None and not recovers
        person.came_after_breaks = self.breaks
        self.people.append(person)

    def _earliest(self, grant: Grant) -> EntryId:
        """What a grant lets be given of the past at this moment, counted in another way than the bridge does."""
        back_ms, count = (grant.replay_back_s or 10**6) * 1000, grant.replay_count_max
        by_time = EntryId(max(0, int(self.log.now_ms - back_ms)), 0)
        left = [entry_id for entry_id, _, _ in self.delivered if entry_id not in self.forgotten]
        if count is None or count > len(left):
            return by_time
        return max(by_time, left[-count] if count else self.log.last.after())

    def _viewer(self, auth: dict[str, Any], grant: Grant) -> tuple[Line, Viewer]:
        async def make() -> tuple[Line, Viewer]:
            line = Line()
            handshake = parse_handshake(auth, now=utc_now())
            viewer = line.viewer = Viewer(
                line, self.fanout, handshake=handshake, grant=grant, rights=self.rights, on_gone=lambda _: None
            )
            viewer.begin()
            return line, viewer

        return self.loop.run_until_complete(make())

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 5), away=st.booleans())
    def drop_and_resume(self, which: int, away: bool) -> None:
        """A connection breaks; the viewer comes back with the last place that it knows of."""
        person = self.people[which % len(self.people)]
        self._look_at(person)
        self._in_loop(person.viewer.gone)
        person.line.is_closed = True
        if person.known is None:
            self.people.remove(person)
            return
        if away:
            self.append(["a.x", "c", "b.x"] * 3)
        auth = {"types": list(person.wanted.patterns), "policy": person.policy, "since": person.known}
        person.earliest, person.renewed = self._earliest(person.grant), []
        person.line, person.viewer = self._viewer(auth, person.grant)
        person.looked_at, person.asked, person.came_after_breaks = 0, [], self.breaks

    @precondition(lambda self: self.people and self.archive is not None and not self.was_rewound and self.log.is_up)
    @rule(which=st.integers(0, 5))
    def come_back_late_to_a_whole_archive(self, which: int) -> None:
        """Whatever the ring and the stream have lost meanwhile: there is no gap."""
        assert self.archive is not None
        person = self.people[which % len(self.people)]
        self._look_at(person)
        self._in_loop(person.viewer.gone)
        self.archive.is_up = True
        for _ in range(3):
            self.archive.catch_up()
            self.append(TYPES * 5)
        n = None if person.known is None else person.known["n"]
        is_whole = (
            n is not None
            and not person.is_inventing
            and (self.archive.rows[0].n or 0) <= n + 1
            and not self.archive.gaps
        )
        # Else the log begins, for it, where its grant does.
        is_whole = is_whole and person.grant.replay_back_s is None and person.grant.replay_count_max is None
        self.loop.pass_time(REST_S)
        self.drop_and_resume(which % len(self.people), away=False)
        self.loop.pass_time(1)
        assert not is_whole or "gap" not in [name for name, _, _ in person.line.frames()]

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 5), is_stalled=st.booleans())
    def stall(self, which: int, is_stalled: bool) -> None:
        line = self.people[which % len(self.people)].line
        line.is_stalled = is_stalled
        if not is_stalled:
            line.taken = len(line.written)

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 5), types=st.sampled_from(FILTERS))
    def subscribe(self, which: int, types: str) -> None:
        person = self.people[which % len(self.people)]
        if not person.viewer.is_gone:
            person.asked.append(parse_filter(types))
            self._ask(person, Request("subscribe", {"types": types}, self._reply(person, "subscribed")))

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 5), grant=st.sampled_from(sorted(GRANTS)))
    def renew(self, which: int, grant: str) -> None:
        """A viewer presents another token on its open connection."""
        person = self.people[which % len(self.people)]
        if not person.viewer.is_gone:
            person.renewed.append(GRANTS[grant])
            person.earliest = min(person.earliest, self._earliest(GRANTS[grant]))
            self._ask(person, Request("token", {"token": grant}, self._reply(person, "renewed")))

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 5), count=st.integers(1, 40), since=st.none() | st.integers(-1, 40))
    def replay(self, which: int, count: int, since: int | None) -> None:
        person = self.people[which % len(self.people)]
        asked: dict[str, Any] = {"count": count, "types": "*"}
        if since is not None:
            asked["since"] = str(self.delivered[-since][0]) if 0 < since <= len(self.delivered) else "0"
        if not person.viewer.is_gone:
            self._ask(person, Request("replay", asked, self._reply(person, "replayed")))

    def _ask(self, person: Person, request: Request) -> None:
        self._in_loop(lambda: person.viewer.submit(request))

    def _reply(self, person: Person, name: str) -> Callable[[str], None]:
        line = person.line
        return lambda payload: line.write(f"event: {name}\ndata: {payload}\n\n".encode())

    @rule(seconds=st.sampled_from([0.0, 0.002, 0.1, 6.0, PATIENCE_S + 5]))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    # --- what has to be so

    @invariant()
    def nothing_failed_and_nothing_grows(self) -> None:
        assert not self.faults, self.faults
        if hasattr(self, "fanout"):
            assert len(self.fanout.ring) <= RING_EVENTS
            assert len(self.fanout.viewers) <= len(self.people)
            for viewer in self.fanout.viewers:
                # A stretch, an answer or a page behind the bound; never what keeps coming.
                assert viewer.connection.waiting_bytes < ROOM_BYTES + 16_000

    @invariant()
    def what_was_told_is_right(self) -> None:
        for person in self.people:
            self._look_at(person)

    @rule()
    def everything_arrives(self) -> None:
        """Once nothing stalls, whoever is still here has everything of its filter, or has been told what not."""
        if not self.log.is_up:
            self.redis(True)
        for person in self.people:
            person.line.is_stalled = False
            person.line.taken = len(person.line.written)
        self.loop.pass_time(PATIENCE_S + 8)
        for person in self.people:
            if person.viewer.is_gone:
                continue
            self._look_at(person)
            assert person.viewer.live_in is not None
            if person.at is not None:
                self._nothing_between(person, person.at, len(self.delivered) - 1)

    def _look_at(self, person: Person) -> None:
        frames = person.line.frames()
        for name, place, data in frames[person.looked_at :]:
            self._check(person, name, place, data)
        person.looked_at = len(frames)

    def _check(self, person: Person, name: str, place: str | None, data: dict[str, Any]) -> None:
        if name == "hello" and data["id"] is not None:
            # A new viewer's history ends where hello says; whoever comes back goes on behind it.
            person.at = self._index(data["id"], data["n"]) if person.known is not None else None
            person.known = person.known or {"id": data["id"], "n": data["n"], "epoch": data["epoch"]}
        elif name == "event":
            assert person.grant.filter.matches(data["type"]), "an event outside the grant"
            assert parse_id(data["id"]) >= person.earliest, "older than the grant allows"
            if place is not None:
                self._check_event(person, data)
        elif name == "position":
            self._pass_to(person, self._index(data["id"], data["n"]))
            person.known = data
        elif name == "gap":
            self._check_gap(person, data)
        elif name == "subscribed":
            self._pass_to(person, self._index(data["id"]))
            person.wanted = person.asked.pop(0)
        elif name == "renewed":
            self._pass_to(person, self._index(data["id"]))
            person.grant = person.renewed.pop(0)

    def _check_event(self, person: Person, event: dict[str, Any]) -> None:
        index = self._index(event["id"])
        person.told.add(event["data"]["i"])
        assert index is not None, "an event that never was"
        assert person.wants(event["type"]), "an event outside filter or grant"
        if person.at is not None:
            assert index > person.at, "twice, or overtaken"
        self._pass_to(person, index - 1)
        person.at = index if person.at is None else max(index, person.at)
        assert person.known is not None
        person.known = {**person.known, "id": event["id"], "n": event["n"]}

    def _check_gap(self, person: Person, gap: dict[str, Any]) -> None:
        after, before = self._index(gap["after"]), gap["before"]
        if gap["reason"] in ("rewound", "reset"):
            person.had = max([person.had, *[index for index in (person.at, after) if index is not None]])
            person.at = None
            return
        self._pass_to(person, after)
        after = person.at
        index = None if before is None else self._index(before)
        if gap["lost"] is not None:
            assert gap["lost"] > 0, "a gap of nothing"
            if after is not None and index is not None and not self.was_rewound:
                assert gap["lost"] == index - after - 1
        person.at = None if index is None else index - 1

    def _pass_to(self, person: Person, index: int | None) -> None:
        """It has everything up to this index, that included."""
        if person.at is not None and index is not None:
            self._nothing_between(person, person.at, index)
        person.at = index if index is None or person.at is None else max(index, person.at)

    def _nothing_between(self, person: Person, at: int, index: int) -> None:
        passed = self.delivered[max(at, person.had) + 1 : index + 1]
        missed = [
            event
            for event in passed
            if person.wants(event[1])
            and event[0] not in self.forgotten
            and self.again.get(event[0], 0) <= person.came_after_breaks
            and self.numbers_again.get(event[0]) not in person.told
        ]
        assert person.is_miscounting or not missed, f"missing without a gap: {missed}"

    def _index(self, text: str, n: int | None = None) -> int | None:
        entry_id = parse_id(text)
        if entry_id == EntryId(0, 0):  # in front of the oldest that was left; `n` tells how much was before that
            return (n or 0) - 1 if not self.was_rewound else None
        return next((i for i, (each, _, _) in enumerate(self.delivered) if each == entry_id), None)


SETTINGS = settings(stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
Bridge.TestCase.settings = settings(SETTINGS, max_examples=60)
test_any_interleaving = Bridge.TestCase


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_any_of_many_more_interleavings() -> None:
    """Other ones each time; what fails is printed as a program that does it again."""
    more = settings(SETTINGS, max_examples=600, stateful_step_count=60, derandomize=False)
    run_state_machine_as_test(Bridge, settings=more)


@pytest.mark.parametrize("grant", sorted(GRANTS))
@pytest.mark.parametrize("is_up", [True, False])
def test_whoever_comes_back_gets_what_it_missed_as_far_as_its_grant_reaches(grant: str, is_up: bool) -> None:
    bridge = Bridge()
    bridge.begin(before=8, with_archive=False)
    bridge.connect(types="*", grant=grant, policy="gap", catchup=50)
    bridge.time_passes(0.1)
    bridge.redis(is_up)
    bridge.drop_and_resume(which=0, away=True)
    bridge.time_passes(0.1)
    bridge.what_was_told_is_right()

    frames = bridge.people[0].line.frames()
    events = [data["data"]["i"] for name, _, data in frames if name == "event"]
    gaps = [data for name, _, data in frames if name == "gap"]
    missed, lost = range(8, 17), {"the newest": 2, "nothing of the past": 9}.get(grant, 0)
    allowed = [i for i in missed[lost:] if GRANTS[grant].filter.matches(("a.x", "c", "b.x")[(i - 8) % 3])]
    assert allowed == events
    assert ([(lost, "trimmed")] if lost else []) == [(gap["lost"], gap["reason"]) for gap in gaps]
    bridge.teardown()


def test_a_place_that_another_bridge_has_read_first_is_waited_for() -> None:
    bridge = Bridge()
    bridge.begin(before=8, with_archive=False)
    entries = [bridge._append_one("a.x") for _ in range(3)]
    since = {"id": str(entries[-1].id), "n": entries[-1].n, "epoch": bridge.log.epoch}
    for is_bare in (False, True):
        line, viewer = bridge._viewer({"since": since["id"] if is_bare else since}, GRANTS["all"])
        bridge.time_passes(0.1)
        assert ["hello", "state"] == [name for name, _, _ in line.frames()]
        bridge.fanout.take_in(entries)
        bridge.time_passes(0.1)
        bridge.append(["c"])
        bridge.time_passes(0.1)
        assert ["hello", "state", "position", "event"] == [name for name, _, _ in line.frames()]
        assert "c" == line.frames()[-1][2]["type"]
        bridge._in_loop(viewer.gone)
        entries = [bridge._append_one("a.x") for _ in range(3)]
        since = {"id": str(entries[-1].id), "n": entries[-1].n, "epoch": bridge.log.epoch}
    bridge.teardown()


def test_who_comes_back_to_a_log_that_lost_all_that_the_ring_held_is_given_nothing_of_that() -> None:
    bridge = Bridge()
    bridge.begin(before=33, with_archive=False)
    since = {"id": str(bridge.log.last), "n": 33, "epoch": bridge.log.epoch}
    for lost, back in ((1, False), (5, True), (5, False)):
        bridge.rewind(lost=lost, back=back)
    line, viewer = bridge._viewer({"since": since}, GRANTS["both"])
    bridge.time_passes(1)
    bridge.append(["c"])
    bridge.time_passes(1)
    assert ["c"] == [data["type"] for name, _, data in line.frames() if name == "event"]
    assert {"rewound", "reset"} >= {data["reason"] for name, _, data in line.frames() if name == "gap"}
    bridge._in_loop(viewer.gone)
    bridge.teardown()
