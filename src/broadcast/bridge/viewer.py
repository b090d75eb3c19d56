"""One viewer's life: its cursor is moved by the fan-out's rounds, or by a task of its own, never by both.

    greeting ──► catching up ──had everything──► live ──asks, is full, is lapped, upgrades──┐
                     ▲                                                                      │
                     └──────────────────────────────────────────────────────────────────────┘
    each of them ──dismissed, too slow, left──► gone

Rules:
1. While it is live, it has no task; the rounds write to it. In every other state its own task writes (hello, history,
   answers, control), in one order. So nothing can overtake anything.
2. It becomes live only when it has had everything, and has been told whatever is to be told: between this look and
   its being live nothing else can happen.
3. Requests are answered in the order in which they came. Too many at once are refused, each in its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from broadcast.bridge.answers import Request, answer
from broadcast.bridge.audience import Audience
from broadcast.bridge.cursor import Connection, Cursor, DismissedError, TooSlowError
from broadcast.bridge.engine.allowance import Allowance
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.grant import Grant
from broadcast.bridge.greeting import greet, greet_at_once, hello
from broadcast.bridge.requests import Handshake
from broadcast.bridge.rights import Rights
from broadcast.errors import CODES, Code, RequestError, UnreachableError
from broadcast.log.position import Position

__all__ = ["Viewer"]

REQUESTS_MAX: Final = 16
"""So many may wait for their answer."""
REFUSALS_MAX: Final = 256
REQUESTS_RATE: Final = 10.0
"""So many per second in the long run."""
REQUESTS_BURST: Final = 100


class Viewer(Cursor):
    """A cursor with a life.

    Args:
        connection: the way to it.
        fanout: the log as this bridge has it.
        handshake: what it asked for when it came.
        grant: what it may see.
        rights: what it may do besides; None: a viewer of no bridge, without limits and without tokens.
        on_gone: called once, when it is served no more.
    """

    __slots__ = (
        "_allowance",
        "_handshake",
        "_on_gone",
        "_pinged",
        "_requests",
        "_task",
        "_wake",
        "came_s",
        "confirmed",
        "ended",
        "is_gone",
        "left",
        "live_in",
    )

    def __init__(
        self,
        connection: Connection,
        fanout: Fanout,
        *,
        handshake: Handshake,
        grant: Grant,
        rights: Rights | None = None,
        on_gone: Callable[[Viewer], None],
    ) -> None:
        super().__init__(connection, fanout, handshake=handshake, grant=grant, rights=rights)
        self.live_in: Audience | None = None
        """The audience of which it is a member while it is live."""
        self.ended: Code | None = None
        """Why it was told to go; None if it went by itself."""
        self.left = ""
        """How its connection came to an end, in the transport's words."""
        self.is_gone = False
        self.confirmed: Position | None = None
        """Where it stood when the last ping that it has answered was written: it has had everything up to there."""
        self.came_s = asyncio.get_running_loop().time()
        self._handshake: Handshake | None = handshake
        self._on_gone = on_gone
        self._pinged = self.place
        self._requests: deque[Request] | None = None
        self._allowance: Allowance | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        fanout.viewers.add(self)

    @property
    def is_dismissed(self) -> bool:
        """Whether it is to be told to go."""
        return self.ended is not None

    # --- what others tell it

    def begin(self) -> None:
        """Serve it: at once if the ring has all that it wants, else by a task of its own."""
        try:
            if self._has_everything_at_once():
                self._go_live()
            else:
                self.rouse()
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends this viewer alone
            self.failed(error)

    def rouse(self) -> None:
        """There is something that the rounds cannot do for it."""
        if self._wake is not None:
            self._wake.set()
        if self.is_gone or self._task is not None:
            return
        self._leave()
        self._task = asyncio.create_task(self._serve())

    def submit(self, request: Request) -> None:
        """Put a request in line; too many are refused, each in its turn, and far too many end the viewer."""
        if self._requests is None:
            self._requests = deque()
        if self._allowance is None:
            self._allowance = Allowance(rate=REQUESTS_RATE, burst=REQUESTS_BURST)
        waiting, now_s = len(self._requests), asyncio.get_running_loop().time()
        if waiting >= REQUESTS_MAX or not self._allowance.has(1, now_s):
            request = replace(request, is_one_too_many=True)
        if waiting >= REQUESTS_MAX + REFUSALS_MAX:
            self.rights.refusals.count(CODES["too_many_requests"])
            self.dismiss("too_many_requests")
        else:
            self._requests.append(request)
            self.rouse()

    def dismiss(self, code: str) -> None:
        """Tell it to go, in its turn."""
        self.ended = self.ended or CODES[code]
        self.rouse()

    def transport_changed(self) -> None:
        """It is reached in another way from here on."""
        self.write = self.connection.write
        self.rouse()

    def pinged(self) -> None:
        """A ping has been written, behind all that was written before."""
        self._pinged = self.place

    def ponged(self) -> None:
        """The last ping was answered."""
        self.confirmed = self._pinged

    def look(self, *, tells_place: bool) -> None:
        """Now and then: see whether its grant has ended, and say where it stands to who sees nothing of what passes."""
        expires_at = self.grant.expires_at
        if expires_at is not None and self.fanout.now_ns() > expires_at * 1e9:
            self.dismiss("expired")
        elif tells_place and self.live_in is not None and (self.told is None or self.told.id != self.place.id):
            self.tell_position()

    def failed(self, error: Exception) -> None:
        """Something went wrong with it; that ends it alone."""
        self.fanout.on_fault(error)
        self.cut()

    def cut(self) -> None:
        """End it now; nothing can be said to it."""
        self.connection.close(may_return=True, abort=True)
        self.gone()

    def gone(self) -> None:
        """Its connection is over, or about to be."""
        if self.is_gone:
            return
        self.is_gone = True
        self._leave()
        if self.timed is not None:
            self.timed.end()
        self.fanout.viewers.discard(self)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._on_gone(self)

    def _has_everything_at_once(self) -> bool:
        handshake = self._handshake
        if handshake is None or self.ended is not None or not self.fanout.is_loaded:
            return False
        if not greet_at_once(self, handshake):
            return False
        self._handshake = None
        self.advance()
        return not self.is_full and self.at >= self.fanout.ring.end

    # --- its own task

    async def _serve(self) -> None:
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends this viewer alone
            self.failed(error)
        finally:
            self._task = None

    async def _run(self) -> None:
        """Write whatever the rounds cannot, until it is live or gone."""
        try:
            if self._handshake is not None:
                await self._begin(self._handshake)
            while self.ended is None:
                if self.is_full:
                    await self.wait_for_room()
                    if self.policy == "latest":
                        self.skip_to_the_newest()
                elif self._requests:
                    await answer(self, self._requests.popleft())
                    await asyncio.sleep(0)
                elif self.advance():
                    await asyncio.sleep(0)
                else:
                    self._go_live()
                    return
            self._take_leave(self.ended)
        except DismissedError:
            self._take_leave(self.ended or CODES["shutdown"])
        except TooSlowError as error:
            self._take_leave(CODES["too_slow"], abort=error.is_stuck)
        except (RequestError, UnreachableError) as error:
            # What it wants to begin with is not there, or cannot be read now: then let it come back.
            refusal = self.fanout.outage.refusal(error) if isinstance(error, UnreachableError) else error
            self.rights.refusals.count(refusal.code)
            self._take_leave(refusal.code, refusal.message)

    async def _begin(self, handshake: Handshake) -> None:
        if not self.fanout.is_loaded and self.ended is None:
            self.send("hello", hello(self, None))
            await self._await_the_log()
        if self.ended is None:
            await greet(self, handshake)
        self._handshake = None

    async def _await_the_log(self) -> None:
        self._wake = wake = asyncio.Event()
        loaded = asyncio.create_task(self.fanout.loaded.wait())
        loaded.add_done_callback(lambda _: wake.set())
        try:
            while not self.fanout.is_loaded and self.ended is None:
                wake.clear()
                self.tell_state()
                while self._requests:
                    await answer(self, self._requests.popleft())
                await wake.wait()
        finally:
            self._wake = None
            loaded.cancel()

    def _go_live(self) -> None:
        self.since_ts = self._requests = None
        self.write = self.connection.write
        self.live_in = audience = self.audience()
        self.wanted = audience.wanted  # the same for all of them
        audience.members[self] = None

    def _leave(self) -> None:
        audience, self.live_in = self.live_in, None
        if audience is not None:
            del audience.members[self]

    def _take_leave(self, code: Code, message: str | None = None, *, abort: bool = False) -> None:
        self.ended = code
        bye: dict[str, Any] = {"code": code.name, "reason": message or code.meaning, "reconnect": code.reconnect}
        self.send("bye", bye)
        self.connection.close(may_return=code.reconnect, abort=abort)
        self.gone()
