"""Timed replays: a viewer is given the past again at the pace at which it was lived, or at another.

Rules:
1. A replay is a task of its own beside its viewer, and ends with it. It writes whole frames, and only while little
   waits for the viewer: what is live comes first.
2. It reads a page at a time, when it comes to it; what passes out of the ring meanwhile, it reads where it went.
3. Whatever slows it, or is left out, is told by a `replay.state`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from broadcast.bridge.allowed import not_before
from broadcast.bridge.past import Wanted
from broadcast.bridge.ring import RingEvent
from broadcast.bridge.walk import Walk, end_of
from broadcast.bridge.wire import unplaced
from broadcast.errors import RequestError, UnreachableError
from broadcast.log.pacing import Pacing
from broadcast.log.position import START, Gap, Position, Since

if TYPE_CHECKING:
    from broadcast.bridge.cursor import Cursor
    from broadcast.bridge.requests import Control, TimedRequest

__all__ = ["TimedReplay", "TimedReplays"]

EVENTS_PER_S: Final = 500.0
PER_VIEWER_MAX: Final = 2
PER_BRIDGE_MAX: Final = 64
PAUSED_S: Final = 60.0
"""Where there are so many, one that has been paused for so long gives way."""
TOGETHER_S: Final = 0.01
"""What is due within so long is written at once."""
TOGETHER_EVENTS_MAX: Final = 64
WAITING_BYTES_MAX: Final = 64 * 1024
"""While more than this waits for its viewer, a replay waits, too."""
ROOM_POLL_S: Final = 0.05


@dataclass(slots=True)
class _Course:
    """Where a replay goes."""

    begin: Position
    wanted: Wanted


class TimedReplay:
    """One replay.

    Args:
        name: what its viewer calls it.
        cursor: the viewer's.
        request: what it asked for; where a cycle begins or ends is known by now.
        on_end: called once, when it is over.
    """

    def __init__(self, name: str, cursor: Cursor, request: TimedRequest, on_end: Callable[[TimedReplay], None]) -> None:
        self.name = name
        self._cursor = cursor
        self._wanted = request.filter or cursor.wanted
        self._until = request.until
        self._earliest = START
        """The smallest id that its viewer's grant allows, as it was when the grant or the course was new."""
        self._course = self._course_from(request.since)
        self._jump: _Course | None = None
        self._clock = asyncio.get_running_loop().time
        self._pacing = Pacing(request.speed, self._clock(), idle_s=request.idle_s, events_per_s=EVENTS_PER_S)
        self._changed = asyncio.Event()
        self._count = 0
        self._last: RingEvent | None = None
        self._told: tuple[bool, float, bool] = (False, 0.0, False)
        self._lacks_archive = False
        self._on_end = on_end
        self._task = asyncio.create_task(self._run())

    def state(self) -> dict[str, Any]:
        """How it stands, as it is told."""
        state = {
            "replay": self.name,
            "state": "paused" if self._pacing.is_paused else "playing",
            "speed": self._pacing.speed,
            "count": self._count,
            "id": None if self._last is None else str(self._last.id),
            "ts": None if self._last is None else self._last.ts,
            "behind": self._pacing.is_behind,
            "skipped_s": round(self._pacing.cut_s, 3),
        }
        return {**state, "archive": "down"} if self._lacks_archive else state

    def control(self, control: Control, since: Since) -> None:
        """Do what its viewer wants.

        Args:
            control: what that is.
            since: where a `seek` leads to.
        """
        now_s = self._clock()
        if control.speed is not None:
            self._pacing.change(control.speed, now_s)
        if control.action == "pause":
            self._pacing.pause(now_s)
        elif control.action == "resume":
            self._pacing.resume(now_s)
        elif control.action == "seek":
            self._jump = self._course_from(since)
        elif control.action == "cancel":
            self.end("cancelled")
        self._changed.set()

    @property
    def paused_for_s(self) -> float:
        """How long its viewer has had it stand still; 0 while it plays."""
        return 0.0 if self._pacing.paused_s is None else self._clock() - self._pacing.paused_s

    def end(self, reason: str) -> None:
        """End it before its time."""
        self._end(reason)
        self.cut()

    def regranted(self) -> None:
        """Its viewer has a fresh token: what that does not allow of the past is passed over."""
        earliest = self._earliest = self._cursor.fanout.earliest(self._cursor.grant)
        course = self._jump or self._course
        stands = course.begin if self._jump is not None or self._last is None else Position(self._last.id)
        if stands.id < earliest.before():
            wanted = replace(course.wanted, granted=self._cursor.grant.filter)
            self._jump = _Course(not_before(Position(START), earliest), wanted)
            self._changed.set()

    def cut(self) -> None:
        """End it without a word."""
        self._task.cancel()
        self._on_end(self)

    def _course_from(self, since: Since) -> _Course:
        cursor = self._cursor
        wanted = Wanted(self._wanted, cursor.grant.filter, since.ts, self._until.ts)
        # A fresh token may have changed what it may see of the past.
        self._earliest = cursor.fanout.earliest(cursor.grant)
        return _Course(not_before(since.position or Position(START), self._earliest), wanted)

    # --- its task

    async def _run(self) -> None:
        reason: str | None = None
        try:
            while await self._play(self._course):
                assert self._jump is not None
                self._course, self._jump = self._jump, None
                self._pacing.jump(self._clock())
        except UnreachableError:
            reason = "unavailable"
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends this replay alone
            self._cursor.fanout.on_fault(error)
            reason = "unavailable"
        self._end(reason)
        self._on_end(self)

    async def _play(self, course: _Course) -> bool:
        """Give what lies on a course; True if it is to go on elsewhere."""
        fanout = self._cursor.fanout
        walk = Walk(fanout, course.begin, course.wanted, until=end_of(self._until, fanout.head))
        ready: list[RingEvent] = []
        async with aclosing(walk.pages()) as pages:
            async for page in pages:
                self._lacks_archive = walk.lacks_archive
                if isinstance(page, Gap):
                    if self._jump is None:
                        self._tell("replay.gap", {"replay": self.name, **page.as_data()})
                    continue
                for event in page:
                    if self._jump is not None:
                        return True
                    self._pacing.take(event.ts, self._clock())
                    self._tell_changes()
                    if self._pacing.wait_s(self._clock()) > TOGETHER_S or len(ready) >= TOGETHER_EVENTS_MAX:
                        await self._write(ready)
                        await self._until_due()
                    if self._jump is not None:
                        return True
                    ready.append(event)
                    self._pacing.gave(self._clock())
                await self._write(ready)
                await asyncio.sleep(0)
        return self._jump is not None

    async def _until_due(self) -> None:
        while self._jump is None and (wait_s := self._pacing.wait_s(self._clock())) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == float("inf") else wait_s):
                    await self._changed.wait()

    async def _write(self, ready: list[RingEvent]) -> None:
        # Nobody is told when so little waits; and who is told when it is full is its viewer.
        while ready and (self._is_crowded or self._cursor.rights.past_wait_s(self._cursor) > 0):  # noqa: ASYNC110
            await asyncio.sleep(ROOM_POLL_S)
        # What it may see may be less by now: it is its viewer's token that counts.
        granted, wanted, earliest = self._cursor.grant.filter, self._course.wanted, self._earliest
        # What was erased meanwhile is a blank.
        allowed = [
            event
            for event in ready
            if granted.matches(event.type) and wanted.matches(event.type) and event.id >= earliest
        ]
        ready[:] = [] if self._cursor.is_dismissed else allowed
        if not ready:
            return
        self._cursor.rights.note_replayed(self._cursor, len(ready))
        write = unplaced(self._cursor.connection.form).write
        front = b'{"replay":' + orjson.dumps(self.name) + b',"event":'
        self._cursor.put(b"".join([write("replay.event", front + event.json + b"}", None) for event in ready]))
        self._count += len(ready)
        self._cursor.sent += len(ready)
        self._last = ready[-1]
        ready.clear()

    @property
    def _is_crowded(self) -> bool:
        return self._cursor.is_full or self._cursor.connection.waiting_bytes > WAITING_BYTES_MAX

    def _tell_changes(self) -> None:
        now = (self._pacing.is_behind, self._pacing.cut_s, self._lacks_archive)
        if now != self._told:
            self._told = now
            self._tell("replay.state", self.state())

    def _end(self, reason: str | None) -> None:
        told = {"replay": self.name, "count": self._count}
        self._tell("replay.end", told if reason is None else {**told, "reason": reason})

    def _tell(self, name: str, payload: dict[str, Any]) -> None:
        form = unplaced(self._cursor.connection.form)
        self._cursor.put(form.write(name, orjson.dumps(payload), None))


class TimedReplays:
    """The replays of one viewer.

    Args:
        cursor: the viewer's.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._replays: dict[str, TimedReplay] = {}
        self._leaves: dict[str, Callable[[], None]] = {}
        self._named = 0

    def start(self, request: TimedRequest) -> TimedReplay:
        """Begin one.

        Raises:
            RequestError: there are as many as may be.
        """
        fanout = self._cursor.fanout
        if len(self._replays) >= PER_VIEWER_MAX:
            raise RequestError("too_many_requests", f"a viewer has at most {PER_VIEWER_MAX} timed replays at once")
        leave = self._cursor.rights.begin_timed(self._cursor)
        if not _has_room(fanout.timed_replays):
            leave()
            raise RequestError(
                "too_many_requests", "this bridge has as many timed replays as it gives; come back later"
            )
        self._named += 1
        timed = TimedReplay(f"r{self._named}", self._cursor, request, self._ended)
        self._replays[timed.name] = timed
        self._leaves[timed.name] = leave
        fanout.timed_replays.add(timed)
        return timed

    def named(self, name: str) -> TimedReplay:
        """The one of this name.

        Raises:
            RequestError: there is none, or none any more.
        """
        if name not in self._replays:
            raise RequestError("not_found", f"replay: there is none of the name {name[:60]!r}, or it is over")
        return self._replays[name]

    def regranted(self) -> None:
        """The viewer has a fresh token."""
        for timed in self._replays.values():
            timed.regranted()

    def end(self) -> None:
        """The viewer is gone."""
        for timed in list(self._replays.values()):
            timed.cut()

    def _ended(self, timed: TimedReplay) -> None:
        if self._replays.pop(timed.name, None) is not None:
            self._leaves.pop(timed.name)()
            self._cursor.fanout.timed_replays.discard(timed)


def _has_room(replays: Collection[TimedReplay]) -> bool:
    """Whether there may be one more; the one that has been paused longest is ended for it, if that is long enough."""
    if len(replays) < PER_BRIDGE_MAX:
        return True
    idlest = max(replays, key=lambda each: each.paused_for_s)
    if idlest.paused_for_s < PAUSED_S:
        return False
    idlest.end("paused")
    return True
