"""How a viewer begins: `hello`, its history or what it missed, and where it then stands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from broadcast.bridge import cycle_start
from broadcast.bridge.allowed import not_before, within
from broadcast.bridge.archived import Passage
from broadcast.bridge.audience import STRETCH_BYTES_MAX
from broadcast.bridge.cursor import Cursor, begins_anew
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.handover import Handover
from broadcast.bridge.past import Wanted
from broadcast.bridge.requests import Handshake
from broadcast.bridge.ring import RingEvent
from broadcast.errors import UnreachableError
from broadcast.event import timestamp
from broadcast.log.position import START, EntryId, Gap, Position, judge

__all__ = ["greet", "greet_at_once", "hello"]

LAG_LOOK_S: Final = 0.005
LAG_LOOKS: Final = 400
"""So often it is looked, 2 s in all, whether this bridge has read what another has; then a place counts as lost."""


def greet_at_once(cursor: Cursor, handshake: Handshake) -> bool:
    """Bring a viewer to where the ring goes on, if the ring alone has all of it; False leaves that to `greet`.

    The log has been read.
    """
    since, fanout = handshake.since.position, cursor.fanout
    if handshake.since.cycle is not None:
        return False
    cursor.come_to_this_epoch()
    cursor.at, cursor.place = fanout.ring.end, fanout.head
    events: list[RingEvent] = []
    handover = Handover(cursor)
    if since is None:
        wants, count = cursor.audience().wants, handshake.catchup
        events = fanout.history.newest_in_ring(wants, count=count, until=cursor.place.id)
        events = [event for event in events if event.id >= handover.earliest]
        if (len(events) < count and not _has_all_from(fanout, handover)) or size_of(events) > STRETCH_BYTES_MAX:
            return False
    elif not _stands_in_ring(cursor, since, handover.begin):
        return False
    old = handover.old_of(events) if since is None else handover.old_in_ring(cursor.at)
    if handover.has_to_wait(old):
        return False
    handover.note(old)
    cursor.send("hello", hello(cursor, cursor.place if since is None else since))
    cursor.tell_state()
    cursor.write_events(event.encoded(cursor.audience().form) for event in events)
    cursor.tell_position()
    return True


def _stands_in_ring(cursor: Cursor, since: Position, begin: EntryId) -> bool:
    """Put a cursor behind a position that the ring reaches, and where nothing is to be told; False if it is not so."""
    fanout, ring = cursor.fanout, cursor.fanout.ring
    bounds = fanout.ring_bounds()
    if fanout.may_be_archived(since, bounds.first):
        return False
    start, gap = judge(since, bounds)
    at = max(ring.whole_start, ring.index_after(start.id))
    is_sure = start.id != START or fanout.history.is_ring_whole
    if (
        gap is not None
        or start.id < begin.before()
        or not is_sure
        or not fanout.ring_reaches(start)
        or at < ring.epoch_start
    ):
        return False
    cursor.at, cursor.place = at, start
    return True


def size_of(events: list[RingEvent]) -> int:
    """Bytes of their JSON."""
    return sum(len(event.json) for event in events)


async def greet(cursor: Cursor, handshake: Handshake) -> None:
    """Bring a viewer to where the ring goes on; the log has been read.

    Raises:
        RequestError: it wants to begin with a cycle that there is not, or that it may not see.
        UnreachableError: it stands where only the stream reaches, which cannot be read.
        TooSlowError: it takes too little of it.
        DismissedError: it is told to go meanwhile.
    """
    fanout = cursor.fanout
    since = (await cycle_start.allowed(fanout, handshake.since, cursor.grant)).position
    cursor.come_to_this_epoch()
    cursor.at, cursor.place = fanout.ring.end, fanout.head
    cursor.send("hello", hello(cursor, cursor.place if since is None else since))
    cursor.tell_state()
    if since is None:
        await _catch_up(cursor, handshake.catchup)
    else:
        await _resume(cursor, since)
    cursor.tell_position()


def hello(cursor: Cursor, position: Position | None) -> dict[str, Any]:
    """The first thing that a viewer is told; the position is None while the log has not been read."""
    head = cursor.fanout.head
    # In the log of which its place is, where that may still be read on from there.
    epoch = head.epoch if position is None or cursor.fanout.history.past is None else position.epoch or head.epoch
    return {
        "epoch": epoch,
        "id": None if position is None else str(position.id),
        "n": None if position is None else position.n,
        "head": None if position is None else head.n,
        "server_time": timestamp(cursor.fanout.now_ns()),
        "types": list(cursor.wanted.patterns),
        "granted": list(cursor.grant.filter.patterns),
    }


def _has_all_from(fanout: Fanout, handover: Handover) -> bool:
    """Whether the ring holds everything that there is of what may be given."""
    first = fanout.ring.first_event()
    is_in_ring = handover.is_of_the_ring or (first is not None and handover.earliest >= first.id)
    return fanout.history.is_all_there_is or is_in_ring


def _skip_to(cursor: Cursor, place: Position, earliest: EntryId) -> Position:
    """Pass over what the archive has and the grant does not let it have."""
    if place != Position(START):  # who asks for the oldest there is gets the oldest there is for it
        cursor.send_gap(Gap(place.id, None, None, "trimmed"))
    return not_before(place, earliest)


async def _catch_up(cursor: Cursor, count: int) -> None:
    handover, history, until = Handover(cursor), cursor.fanout.history, cursor.place
    pieces: Sequence[RingEvent | Gap] = history.newest_in_ring(cursor.audience().wants, count=count, until=until.id)
    if not _has_all_from(cursor.fanout, handover):
        with suppress(UnreachableError):  # what there is, is better than nobody let in
            pieces = await history.newest(Wanted(cursor.wanted, cursor.grant.filter), count=count, until=until)
    await handover.give_newest(pieces)


async def _resume(cursor: Cursor, since: Position) -> None:
    """Go on behind a position: from the ring if that reaches it, else from the stream until the ring does.

    What lies behind the stream comes from the archive, before any gap is told; what its grant does not let it have of
    the past is told as a gap, as if the log began behind that.
    """
    fanout, ring = cursor.fanout, cursor.fanout.ring
    handover, place, came = Handover(cursor), since, "parted"
    passage = _passage(cursor, handover, since)
    while came == "parted":
        epoch = fanout.head.epoch
        start, gap, oldest = await _judged(cursor, place)
        if fanout.head.epoch != epoch:
            continue  # the log has changed meanwhile: it is to be told of that
        if passage is not None and passage.asked != place and _may_be_archived(cursor, place, gap, oldest):
            if place.id < handover.earliest.before():
                place = _skip_to(cursor, place, handover.earliest)
            elif await passage.pass_from(place):
                place = cursor.place
            continue
        start, gap = within(place, (start, gap), handover.begin, ring, fanout.head)
        if await _waited(cursor, handover, passage, start):
            continue
        cursor.place = start
        if gap is not None:
            cursor.send_gap(gap)
        came = await _come_to_the_ring(cursor, handover, passage)
        place = cursor.place
    if came == "lost":
        _go_on_in_the_ring(cursor)
    else:
        cursor.at = max(ring.whole_start, ring.index_after(cursor.place.id))
        if cursor.at < ring.epoch_start:
            await _pass_into_this_epoch(cursor, handover)
    handover.note(handover.old_in_ring(cursor.at))


def _go_on_in_the_ring(cursor: Cursor) -> None:
    """The stream has just lost what lies between a place and where the ring is whole."""
    ring = cursor.fanout.ring
    cursor.catch_up_with_the_ring()
    if not begins_anew(ring.read(cursor.at, 1)):
        cursor.at = max(cursor.at, ring.index_after(cursor.place.id))


def _passage(cursor: Cursor, handover: Handover, since: Position) -> Passage | None:
    past = cursor.fanout.history.past
    if past is None or handover.is_of_the_ring:
        return None
    return Passage(cursor, handover, past, since.epoch or cursor.fanout.head.epoch)


async def _waited(cursor: Cursor, handover: Handover, passage: Passage | None, start: Position) -> bool:
    """Wait for what the ring has behind a place, if that is more than it may have just now; whether it had to."""
    if not cursor.fanout.ring_reaches(start):
        return False  # what is read on the way to the ring waits by itself
    old = handover.old_in_ring(cursor.fanout.ring.index_after(start.id))
    if not handover.has_to_wait(old):
        return False
    await handover.wait(old)
    if passage is not None:
        passage.asked = None  # what the stream had may have gone into the archive meanwhile
    return True


def _may_be_archived(cursor: Cursor, place: Position, gap: Gap | None, oldest: EntryId | None) -> bool:
    if gap is None:
        return cursor.fanout.may_be_archived(place, oldest)
    # What a log that lost its tail had beyond that, nobody knows.
    return gap.reason != "rewound"


async def _judged(cursor: Cursor, place: Position) -> tuple[Position, Gap | None, EntryId | None]:
    """Where it reads on, what is missing before that, and with what the other tiers than the archive begin."""
    fanout = cursor.fanout
    bounds = fanout.ring_bounds()
    start, gap = judge(place, bounds)
    if gap is not None and gap.reason == "rewound" and await _comes_yet(cursor, place):
        bounds = fanout.ring_bounds()
        start, gap = judge(place, bounds)
    is_trimmed = gap is not None and gap.reason == "trimmed"
    if is_trimmed or (start.id == START and not fanout.history.is_ring_whole):
        present = await fanout.reader.bounds()
        # Of another epoch: the log has just ended, and the ring will say so.
        if present.epoch == fanout.head.epoch and fanout.is_longer(present):
            bounds = present
            start, gap = judge(place, bounds)
    return start, gap, bounds.first


async def _comes_yet(cursor: Cursor, place: Position) -> bool:
    """Whether the log has this place, which another bridge has read before this one: then wait for it, a moment."""
    fanout = cursor.fanout
    if place.epoch not in (None, fanout.head.epoch):
        return False
    try:
        bounds = await fanout.reader.bounds()
    except UnreachableError:  # nobody knows: it is told what this bridge knows
        return False
    if bounds.epoch != fanout.head.epoch or bounds.last < place.id:
        return False
    for _ in range(LAG_LOOKS):
        if fanout.head.id >= place.id or fanout.head.epoch != bounds.epoch:
            break
        await asyncio.sleep(LAG_LOOK_S)
    return True


async def _come_to_the_ring(
    cursor: Cursor, handover: Handover, passage: Passage | None
) -> Literal["arrived", "parted", "lost"]:
    """Read the stream up to where the ring begins.

    Returns:
        `parted` if another log has begun on the way, if the archive has to be asked for what the stream has lost
        meanwhile, or if it may not have what it came to; `lost` if the stream has just lost what it was asked for.
    """
    fanout, epoch = cursor.fanout, cursor.fanout.head.epoch
    while not fanout.ring_reaches(cursor.place):
        before = cursor.place.id
        async for page in fanout.history.forward(cursor.place, until=fanout.head.id):
            cursor.refuse_dismissed()
            if fanout.head.epoch != epoch:
                return "parted"
            if isinstance(page, Gap) and passage is not None and passage.asked != cursor.place:
                return "parted"
            if isinstance(page, Gap):
                cursor.send_gap(page)
            elif not await handover.give(page, epoch, None if passage is None else passage.seen):
                return "parted"
        if fanout.head.epoch != epoch:
            return "parted"
        if cursor.place.id == before:
            return "lost"
    return "arrived" if fanout.head.epoch == epoch else "parted"


async def _pass_into_this_epoch(cursor: Cursor, handover: Handover) -> None:
    """Go on in the log as it is now, without what the ring still holds of the log that was."""
    ring = cursor.fanout.ring
    events, place = ring.before_this_epoch(cursor.at), ring.epoch_place
    cursor.come_to_this_epoch()
    cursor.at = ring.epoch_start
    if events:
        cursor.fanout.history.held.take(events)
        await handover.give(events, cursor.fanout.head.epoch)
    cursor.place = place
