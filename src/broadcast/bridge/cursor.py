"""A cursor on the log: where one viewer stands, what it wants, and how what lies ahead of it is written.

Rules:
1. It moves over every event, wanted or not; so a filtered viewer, too, knows where it stands.
2. Nothing waits in a queue of its own: a viewer that takes nothing stays where it is in the ring. When the ring has
   moved on, it gets a `gap` and goes on from the oldest event there is, or as its policy says.
3. Whatever is written to a viewer is written through its cursor, by one writer at a time: see `viewer.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from broadcast.bridge.audience import STRETCH_BYTES_MAX, Audience
from broadcast.bridge.grant import Grant
from broadcast.bridge.requests import Handshake
from broadcast.bridge.rights import Rights
from broadcast.bridge.ring import RingEvent, RingGap, RingItem
from broadcast.bridge.wire import Form
from broadcast.errors import BroadcastError
from broadcast.log.position import Gap, Position, judge

if TYPE_CHECKING:
    from broadcast.bridge.fanout import Fanout
    from broadcast.bridge.timed import TimedReplays

__all__ = ["Connection", "Cursor", "DismissedError", "TooSlowError"]

PATIENCE_S: Final = 30.0


class Connection(Protocol):
    """One way to a viewer, whatever the transport."""

    @property
    def form(self) -> Form:
        """How what is written to it has to look; another one after an upgrade."""
        ...

    @property
    def write(self) -> Callable[[bytes], None]:
        """Writes bytes of this form; another function after an upgrade."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more should be written."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """What waits to be taken."""
        ...

    async def wait_for_room(self, patience_s: float, *, until_empty: bool) -> bool:
        """Wait while it is full, or while anything waits; False if nothing moved for so long."""
        ...

    def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the connection; with `abort` at once, else behind what was written."""
        ...

    def describe(self) -> dict[str, Any]:
        """What is known of it, for people: `id`, `transport`, `address`."""
        ...


class TooSlowError(BroadcastError):
    """The viewer took too little for too long.

    Args:
        is_stuck: whether it takes nothing at all, so that nothing can be said to it.
    """

    def __init__(self, *, is_stuck: bool) -> None:
        super().__init__("too slow")
        self.is_stuck = is_stuck


class DismissedError(BroadcastError):
    """It is told to go, in the middle of a long way."""


class Cursor:
    """A position and a filter, and the way to a viewer.

    Args:
        connection: the way.
        fanout: the log as this bridge has it.
        handshake: what it asked for when it came.
        grant: what it may see.
        rights: what it may do besides; None: a viewer of no bridge, without limits and without tokens.
    """

    __slots__ = (
        "_audience",
        "_since",
        "at",
        "connection",
        "fanout",
        "gaps",
        "grant",
        "place",
        "policy",
        "rights",
        "sent",
        "since_ts",
        "timed",
        "told",
        "told_up",
        "wanted",
        "write",
    )

    def __init__(
        self,
        connection: Connection,
        fanout: Fanout,
        *,
        handshake: Handshake,
        grant: Grant,
        rights: Rights | None = None,
    ) -> None:
        self.connection = connection
        self.fanout = fanout
        self.wanted = handshake.filter
        self.grant = grant
        self.rights = rights or Rights()
        self.policy = handshake.policy
        self.at = fanout.ring.end
        """The index in the ring of what comes next."""
        self.place: Position = fanout.head
        """The same as a position in the log."""
        self.told: Position | None = None
        """The last place that the viewer itself knows of."""
        self.told_up: bool | None = None
        """Whether it was last told that Redis is up; None for neither."""
        self.since_ts = handshake.since.ts
        """Until it is live, events that are older by `ts` are left out."""
        self.sent = 0
        """Events written."""
        self.gaps = 0
        """Gaps told."""
        self.write = connection.write
        self.timed: TimedReplays | None = None
        """Its timed replays; None if it has not asked for one yet."""
        self._audience: Audience | None = None
        self._since = fanout.ring.epoch_start

    def audience(self) -> Audience:
        """The audience of its filter, its grant and its form as they are now."""
        audience, form = self._audience, self.connection.form
        if (
            audience is None
            or audience.form is not form
            or audience.wanted is not self.wanted
            or audience.since != self._since
        ):
            audience = self._audience = self.fanout.audience(self.wanted, self.grant.filter, form, self._since)
        return audience

    def regrant(self, grant: Grant) -> None:
        """From where it stands it sees what another grant allows."""
        self.grant = grant
        self._audience = None
        if self.timed is not None:
            self.timed.regranted()

    def come_to_this_epoch(self) -> None:
        """From here on it stands in the log as it is now, whatever it has had of the log that was."""
        self._since = self.fanout.ring.epoch_start

    @property
    def is_dismissed(self) -> bool:
        """Whether it is to be told to go."""
        return False

    def refuse_dismissed(self) -> None:
        """On a long way: look whether it may still go on.

        Raises:
            DismissedError: its token has ended, or it is told to go for another reason.
        """
        if self.is_dismissed:
            raise DismissedError("it is told to go")

    # --- the way

    def advance(self) -> bool:
        """Move over what comes next in the ring; False if there is nothing.

        Raises:
            TooSlowError: the ring has moved past it, and it does not want to go on then.
        """
        fanout, ring = self.fanout, self.fanout.ring
        self.tell_state()
        if self.at < ring.start:
            self.catch_up_with_the_ring()
        if self.at >= ring.end:
            return False
        audience, epoch = self.audience(), fanout.head.epoch
        if self.since_ts is None:
            stretch = audience.stretch(self.at, epoch)
        else:
            stretch = audience.stretch_since(self.at, epoch, self.since_ts)
        self.at, self.place, self.told = stretch.end, stretch.place, stretch.told or self.told
        self.sent += stretch.sent
        self.gaps += stretch.gaps
        if stretch.data:
            self.put(stretch.data)
        return True

    def catch_up_with_the_ring(self) -> None:
        """The ring has moved on without this viewer: say what it lacks.

        Raises:
            TooSlowError: it does not want to go on then.
        """
        ring = self.fanout.ring
        self.at = ring.start
        if begins_anew(ring.read(self.at, 1)):
            return  # the log it lacks something of is gone altogether, and that is said next
        self.place, gap = judge(self.place, self.fanout.held_bounds())
        if gap is not None and gap.reason != "trimmed":
            # The ring has moved past another gap, too: that of a log that was rewound, or that ended.
            self._tell_lack(gap)
            self.come_to_this_epoch()
            self.at = max(self.at, ring.epoch_start)
            if self.place.id == ring.epoch_place.id:
                self.place = ring.epoch_place  # it knows its ordinal
            self.tell_position()
            self.place, gap = judge(self.place, self.fanout.held_bounds())
        if gap is not None:
            self._tell_lack(replace(gap, reason="slow"))

    def _tell_lack(self, gap: Gap) -> None:
        if self.policy == "close":
            raise TooSlowError(is_stuck=False)
        self.send_gap(gap)

    def skip_to_the_newest(self) -> None:
        """What it did not take in time is not for it any more."""
        ring, head = self.fanout.ring, self.fanout.head
        if self.at >= ring.end or ring.epoch_start > self.at:
            return  # a log that began anew is told as it is
        lost = None if self.place.n is None or head.n is None else head.n - self.place.n
        gap = Gap(self.place.id, None, lost, "slow")
        self.at, self.place = ring.end, head
        self.send_gap(gap)
        self.tell_position()

    # --- writing

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be written to it now."""
        return self.connection.is_full or (self.fanout.is_crowded and self.connection.waiting_bytes > 0)

    async def wait_for_room(self) -> None:
        """Wait until it takes something again.

        Raises:
            TooSlowError: it took nothing for `PATIENCE_S`.
        """
        if not await self.connection.wait_for_room(PATIENCE_S, until_empty=self.fanout.is_crowded):
            raise TooSlowError(is_stuck=True)
        await asyncio.sleep(0)

    async def send_events(self, events: Iterable[RingEvent], form: Form, wants: Callable[[str], bool]) -> None:
        """Write events, so many at once as may be.

        Args:
            events: of the past.
            form: how they have to look.
            wants: whether an event of a type is wanted; while they wait for room, some may become blanks.

        Raises:
            TooSlowError: see `wait_for_room`.
            DismissedError: it is told to go meanwhile.
        """
        left = deque(events)
        self.refuse_dismissed()
        while left:
            while self.is_full:
                self.refuse_dismissed()
                await self.wait_for_room()
            self.refuse_dismissed()
            self.write_events(_so_many(left, form, wants))

    def put(self, data: bytes) -> None:
        """Write bytes of its form, outside a round."""
        self.connection.write(data)
        self.fanout.sent_bytes += len(data)

    def write_events(self, encoded: Iterable[bytes]) -> None:
        """Write events, all at once."""
        parts = list(encoded)
        if parts:
            self.put(b"".join(parts))
            self.sent += len(parts)

    def send(self, name: str, payload: dict[str, Any]) -> None:
        """Tell something besides the mind's events."""
        self.put(self.audience().control(name, payload))

    def send_gap(self, gap: Gap) -> None:
        """Tell what is missing."""
        self.gaps += 1
        self.send("gap", gap.as_data())

    def tell_position(self) -> None:
        """Tell where it stands."""
        self.told = self.place
        self.put(self.audience().position(self.place))

    def tell_state(self) -> None:
        """Tell whether Redis is up, if that has changed since it was told."""
        is_up = self.fanout.is_up
        if is_up is not self.told_up:
            self.told_up = is_up
            self.send("state", {"redis": "up" if is_up else "down"})


def begins_anew(items: list[RingItem]) -> bool:
    """Whether the first of these items says that another log begins."""
    return bool(items) and isinstance(items[0], RingGap) and items[0].gap.reason == "reset"


def _so_many(left: deque[RingEvent], form: Form, wants: Callable[[str], bool]) -> list[bytes]:
    """Take from the front what may be written at once."""
    parts: list[bytes] = []
    size = 0
    while left and size < STRETCH_BYTES_MAX:
        event = left.popleft()
        if wants(event.type):
            parts.append(event.encoded(form))
            size += len(parts[-1])
    return parts
