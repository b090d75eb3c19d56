"""One viewer: a cursor on the log, and the only writer of its connection.

Rules:
1. Everything a viewer gets (hello, history, live, answers, control) is written by `run`, in one order; nothing can
   overtake anything.
2. The cursor moves over every event, wanted or not; so a filtered viewer, too, knows where it stands.
3. Nothing waits in a queue of its own: a viewer that takes nothing stays where it is in the ring. When the ring has
   moved on, it gets a `gap`, and goes on from the oldest event there is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Protocol

import orjson

from broadcast.bridge.access import Grant
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.requests import Handshake, Replay, parse_replay, parse_subscribe, utc_now
from broadcast.bridge.ring import RingEvent, RingItem
from broadcast.errors import CODES, BroadcastError, Code, RequestError, UnreachableError
from broadcast.event import timestamp
from broadcast.filters import Filter
from broadcast.log.position import START, EntryId, Gap, Position, judge

__all__ = ["Connection", "Request", "Viewer"]

REQUESTS_MAX: Final = 16
REFUSALS_MAX: Final = 256
SLICE_EVENTS: Final = 64
POSITION_INTERVAL_S: Final = 5.0
PATIENCE_S: Final = 30.0


class Connection(Protocol):
    """One way to a viewer, whatever the transport."""

    async def send(self, name: str, payload: str, *, event_id: str | None = None) -> None:
        """Write one event; `payload` is JSON, `event_id` a place from which the viewer could go on."""
        ...

    async def wait_for_room(self, patience_s: float) -> bool:
        """Wait while too much is waiting to be written; False if nothing moved for so long."""
        ...

    async def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the connection; with `abort` at once, else behind what was sent."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a viewer asked; its answer goes out in its turn."""

    name: object
    data: object
    answer: Callable[[str], Awaitable[None]] | None
    """Sends the acknowledgement, JSON; None if the viewer wants none."""
    is_one_too_many: bool = False
    """Whether it is refused, because too many were waiting when it came."""


class Viewer:
    """A cursor.

    Args:
        connection: the way to it.
        fanout: the log as this bridge has it.
        handshake: what it asked for when it came.
        grant: what it may see.
    """

    def __init__(self, connection: Connection, fanout: Fanout, *, handshake: Handshake, grant: Grant) -> None:
        self.connection = connection
        self.ended: Code | None = None
        """Why it was told to go; None if it went by itself."""
        self.sent = 0
        self.position: Position = fanout.head
        self._fanout = fanout
        self._ring = fanout.ring
        self._handshake = handshake
        self._grant = grant
        self._filter: Filter = handshake.filter
        self._since_ts = handshake.since.ts
        self._at = self._ring.end
        self._told_id: EntryId | None = None
        self._tick_due_s = 0.0
        self._told_state: bool | None = None
        self._requests: deque[Request] = deque()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something new to look at."""
        self._wake.set()

    def submit(self, request: Request) -> None:
        """Put a request in line; too many are refused, each in its turn, and far too many end the viewer."""
        if len(self._requests) >= REQUESTS_MAX:
            request = replace(request, is_one_too_many=True)
        if len(self._requests) >= REQUESTS_MAX + REFUSALS_MAX:
            self.dismiss("too_many_requests")
        else:
            self._requests.append(request)
        self._wake.set()

    def dismiss(self, code: str) -> None:
        """Tell it to go, in its turn."""
        self.ended = self.ended or CODES[code]
        self._wake.set()

    async def run(self) -> None:
        """Serve it until it is dismissed or the task is cancelled."""
        try:
            if self.ended is None:
                await self._greet()
            while self.ended is None:
                self._wake.clear()
                await self._answer_requests()
                if not await self._advance() and not self._wake.is_set():
                    await self._rest()
                await self._tick()
            await self._take_leave(self.ended)
        except _StalledError:
            self.ended = CODES["too_slow"]
            await self.connection.close(may_return=True, abort=True)
        except UnreachableError as error:  # it stands where only the stream reaches, which is away: let it come back
            self.ended = CODES["unavailable"]
            await self._take_leave(self.ended, _unavailable(error).message)

    # --- the beginning

    async def _greet(self) -> None:
        since = self._handshake.since.position
        if not self._fanout.is_loaded:
            await self._send("hello", self._hello(None))
            while not self._fanout.is_loaded:
                await self._tell_state()
                await self._answer_requests()
                if self.ended is not None:
                    return
                await self._wake.wait()
                self._wake.clear()
        self._at, self.position = self._ring.end, self._fanout.head
        if since is None:
            await self._send("hello", self._hello(self.position))
            await self._tell_state()
            await self._catch_up()
        else:
            await self._send("hello", self._hello(since))
            await self._tell_state()
            await self._resume(since)
        await self._tell_position()

    def _hello(self, position: Position | None) -> dict[str, Any]:
        return {
            "epoch": self._fanout.head.epoch,
            "id": None if position is None else str(position.id),
            "n": None if position is None else position.n,
            "server_time": timestamp(self._fanout.now_ns()),
            "types": list(self._filter.patterns),
        }

    async def _catch_up(self) -> None:
        history, until, count = self._fanout.history, self.position.id, self._handshake.catchup
        try:
            events = await history.newest(self._wants, count=count, until=until)
        except UnreachableError:  # what there is, is better than nobody let in
            events = history.newest_in_ring(self._wants, count=count, until=until)
        for event in events:
            await self._send_event(event)

    async def _resume(self, since: Position) -> None:
        """Go on behind a position: from the ring if that reaches it, else from the stream until the ring does."""
        start, gap = judge(since, self._fanout.ring_bounds())
        is_trimmed = gap is not None and gap.reason == "trimmed"
        if is_trimmed or (start.id == START and not self._fanout.history.is_ring_whole):
            bounds = await self._fanout.reader.bounds()
            # Of another epoch: the log has just ended, and the ring will say so.
            if bounds.epoch == self._fanout.head.epoch and self._fanout.is_longer(bounds):
                start, gap = judge(since, bounds)
        self.position = start
        if gap is not None:
            await self._send_gap(gap)
        while not self._fanout.ring_reaches(self.position):
            before = self.position.id
            async for page in self._fanout.history.forward(self.position, until=self._fanout.head.id):
                await self._pass_over([page] if isinstance(page, Gap) else list(page))
            if self.position.id == before:  # the stream has just lost what it was asked for
                await self._catch_up_with_the_ring()
                return
        self._at = max(self._ring.start, self._ring.index_after(self.position.id))
        if _begins_anew(self._ring.read(self._at, 1)):  # the beginning of this log, to one who begins with it
            self._at += 1

    # --- the way

    async def _advance(self) -> bool:
        """Move over the next items of the ring; False if there is none."""
        await self._tell_state()
        if self._at < self._ring.start:
            await self._catch_up_with_the_ring()
        items = self._ring.read(self._at, SLICE_EVENTS)
        for item in items:
            # Before the item, not behind it: what is not sent now stays ours to send.
            if self._at < self._ring.start:
                return True
            await self._pass_over([item])
            self._at += 1
            if self._requests or self.ended is not None:
                return True
        return bool(items)

    async def _pass_over(self, items: list[RingItem]) -> None:
        for item in items:
            if isinstance(item, Gap):
                await self._pass_over_gap(item)
                continue
            if self._wants(item.type) and (self._since_ts is None or item.ts >= self._since_ts):
                await self._send_event(item)
                self._told_id = item.id
            self.position = Position(item.id, item.n, self._fanout.head.epoch)

    async def _pass_over_gap(self, gap: Gap) -> None:
        epoch = self._fanout.head.epoch
        if gap.reason == "reset":
            self.position = Position(START, None, epoch)
        elif gap.reason == "rewound":
            self.position = Position(self.position.id, None, epoch)
        await self._send_gap(gap)
        if gap.reason != "trimmed":
            await self._tell_position()  # it names the epoch that holds from here on

    async def _catch_up_with_the_ring(self) -> None:
        """The ring has moved on without this viewer: say what it lacks."""
        self._at = self._ring.start
        if _begins_anew(self._ring.read(self._at, 1)):
            return  # the log it lacks something of is gone altogether, and that is said next
        first, n = self._ring.first_event(), self.position.n
        lost = None if first is None or first.n is None or n is None else first.n - 1 - n
        if lost != 0:
            before = None if first is None else first.id
            await self._send_gap(Gap(self.position.id, before, lost, "slow"))

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(POSITION_INTERVAL_S):
                await self._wake.wait()

    async def _tick(self) -> None:
        """Now and then: say where a viewer stands who sees nothing of what passes."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._tick_due_s:
            return
        self._tick_due_s = now_s + POSITION_INTERVAL_S
        if self._expired():
            self.dismiss("expired")
        elif self._told_id != self.position.id:
            await self._tell_position()

    def _expired(self) -> bool:
        expires_at = self._grant.expires_at
        return expires_at is not None and self._fanout.now_ns() > expires_at * 1e9

    def _wants(self, event_type: str) -> bool:
        return self._filter.matches(event_type) and self._grant.filter.matches(event_type)

    # --- requests

    async def _answer_requests(self) -> None:
        while self._requests and self.ended is None:
            request = self._requests.popleft()
            try:
                reply = orjson.dumps(await self._answer(request)).decode()
            except RequestError as error:
                reply = _error(error)
            except UnreachableError as error:
                reply = _error(_unavailable(error))
            if request.answer is not None:
                await self._room()
                await request.answer(reply)

    async def _answer(self, request: Request) -> dict[str, Any]:
        if request.is_one_too_many:
            raise RequestError("too_many_requests", f"at most {REQUESTS_MAX} requests may wait for an answer")
        if request.name == "subscribe":
            self._filter = parse_subscribe(request.data)
            return {"types": list(self._filter.patterns), "id": str(self.position.id)}
        if request.name == "replay":
            return await self._replay(parse_replay(request.data, now=utc_now()))
        raise RequestError("not_found", "there are two requests: 'subscribe' and 'replay'")

    async def _replay(self, replay: Replay) -> dict[str, Any]:
        """Send past events again, up to where the cursor stands: what lies ahead of it comes anyway."""
        wanted = replay.filter
        if not self._fanout.is_loaded:
            raise UnreachableError("it has not been read yet")

        def matches(event_type: str) -> bool:
            plain = self._filter if wanted is None else wanted
            return plain.matches(event_type) and self._grant.filter.matches(event_type)

        if replay.since.position is None and replay.until_ts is None:
            events = await self._fanout.history.newest(matches, count=replay.count, until=self.position.id)
        else:
            events = await self._between(replay, matches)
        for event in events:  # without their places: they do not bring the viewer anywhere
            await self._room()
            await self.connection.send("event", event.json)
            self.sent += 1
        first, last = (str(events[0].id), str(events[-1].id)) if events else (None, None)
        return {"count": len(events), "first": first, "last": last}

    async def _between(self, replay: Replay, matches: Callable[[str], bool]) -> list[RingEvent]:
        begin = replay.since.position or Position(START)
        found: list[RingEvent] = []
        async for page in self._fanout.past(begin, until=self.position.id):
            for event in () if isinstance(page, Gap) else page:
                if replay.covers(event.ts) and matches(event.type):
                    found.append(event)
            if len(found) >= replay.count:
                break
        return list(islice(found, replay.count))

    # --- writing

    async def _send_event(self, event: RingEvent) -> None:
        await self._room()
        await self.connection.send("event", event.json, event_id=str(event.id))
        self.sent += 1

    async def _send_gap(self, gap: Gap) -> None:
        await self._send("gap", gap.as_data())

    async def _tell_position(self) -> None:
        self._told_id = at = self.position.id
        place = {"id": str(at), "n": self.position.n, "epoch": self.position.epoch}
        await self._send("position", place, event_id=str(at))

    async def _tell_state(self) -> None:
        is_up = self._fanout.is_up
        if is_up is not self._told_state:
            self._told_state = is_up
            await self._send("state", {"redis": "up" if is_up else "down"})

    async def _send(self, name: str, payload: dict[str, Any], *, event_id: str | None = None) -> None:
        await self._room()
        await self.connection.send(name, orjson.dumps(payload).decode(), event_id=event_id)

    async def _room(self) -> None:
        if not await self.connection.wait_for_room(PATIENCE_S):
            raise _StalledError

    async def _take_leave(self, code: Code, message: str | None = None) -> None:
        bye = {"code": code.name, "reason": message or code.meaning, "reconnect": code.reconnect}
        await self.connection.send("bye", orjson.dumps(bye).decode())
        await self.connection.close(may_return=code.reconnect)


class _StalledError(BroadcastError):
    """The viewer took nothing for too long."""


def _begins_anew(items: list[RingItem]) -> bool:
    return bool(items) and isinstance(items[0], Gap) and items[0].reason == "reset"


def _unavailable(error: UnreachableError) -> RequestError:
    return RequestError("unavailable", f"the log cannot be read: {error}"[:200])


def _error(error: RequestError) -> str:
    return orjson.dumps({"error": {"code": error.code.name, "message": error.message}}).decode()
