"""What is parked, as an erasure sees it: in `events` each is a `broadcast.malformed`, but its bytes may be an event."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from broadcast.log.entry import decode_entry
from broadcast.log.erasure import Erasure
from broadcast.log.places import Place
from broadcast.log.position import START, EntryId

__all__ = ["ParkedPage", "parked_pages"]

PAGE_ENTRIES: Final = 50
"""They may be large."""


@dataclass(slots=True)
class ParkedPage:
    """Some of what is parked."""

    meant: list[Place] = field(default_factory=list[Place])
    unread: list[EntryId] = field(default_factory=list[EntryId])
    """What nobody can tell the type of, though a type is asked for."""


async def parked_pages(
    connection: psycopg.AsyncConnection[Any], erasure: Erasure, end: Place | None
) -> AsyncGenerator[ParkedPage]:
    """All that is parked and may be meant, by what its bytes say.

    Args:
        connection: to the archive; the page may be taken out before the next one is read.
        erasure: what is meant.
        end: what lies behind it is not; None for no such bound.
    """
    query = (
        "SELECT epoch, id_ms, id_seq, raw FROM parked WHERE (epoch, id_ms, id_seq) > (%s, %s, %s) "
        "ORDER BY epoch, id_ms, id_seq LIMIT %s"
    )
    after = Place(-(2**31), START)
    while rows := await (await connection.execute(query, (after.epoch, *after.id, PAGE_ENTRIES))).fetchall():
        page = ParkedPage()
        for epoch, ms, seq, raw in rows:
            after = Place(epoch, EntryId(int(ms), int(seq)))
            if end is None or after <= end:
                _judge(page, erasure, after, raw)
        yield page


def _judge(page: ParkedPage, erasure: Erasure, place: Place, raw: bytes) -> None:
    entry = decode_entry(str(place.id).encode(), {b"event": raw}, None)
    event_type, ts = entry.event["type"], entry.event["ts"]
    if erasure.covers(place.id, event_type, ts):
        page.meant.append(place)
    elif entry.is_malformed and erasure.leaves_open(place.id, ts):
        page.unread.append(place.id)
