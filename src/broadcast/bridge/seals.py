"""When an answer of the past stays as it is: a range that is closed and archived has a seal, its ETag."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from hashlib import blake2b
from typing import Final

from broadcast.bridge.history_requests import Question
from broadcast.bridge.moment import Moment
from broadcast.log.places import LATE_MS, milliseconds
from broadcast.log.position import START

__all__ = ["is_held", "seal"]

_STATE: Final = """
SELECT (SELECT (count(*), coalesce(sum(events), 0))::text FROM erasures),
       (SELECT imports FROM checkpoint),
       (SELECT min(c.relname) FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
        WHERE inhparent = 'events'::regclass),
       (SELECT count(*) FROM events
        WHERE ts >= %(from)s::timestamptz AND ts <= %(to)s::timestamptz
          AND ts < to_timestamp((id_ms - 60000) / 1000.0::double precision))
"""
"""What may change a closed range after all: something is erased (in batches) or imported, its oldest weeks are dropped,
a mind was late."""


async def seal(moment: Moment, question: Question, *asked: str, key: bytes) -> str | None:
    """The ETag of what answers a question; None if that may change with every event.

    Args:
        moment: the log.
        question: which.
        asked: whatever else the answer depends on.
        key: without it, nobody can find out by trying what went into an ETag, which is more than a viewer may see.

    Raises:
        UnreachableError: the archive does not answer.
    """
    if moment.connection is None or moment.extent is None or not _is_closed(moment, question):
        return None
    times = {"from": question.since.ts or "-infinity", "to": question.until.ts or "-infinity"}
    if await _waits_for_the_archive(moment, question):
        return None
    row = await (await moment.connection.execute(_STATE, times)).fetchone()
    parts = (*asked, *question.granted.patterns, repr(row))
    return f'"{blake2b(chr(0).join(parts).encode(), digest_size=16, key=key).hexdigest()}"'


def _is_closed(moment: Moment, question: Question) -> bool:
    since, until = question.since, question.until
    if not (since.is_fixed and until.is_fixed) or until.is_open or question.earliest > START:
        return False
    if since.cycle is not None or until.cycle is not None or moment.extent is None:
        return False
    if until.position is not None:
        return moment.place_of(until.position) <= moment.extent.end
    return until.ts is not None and moment.extent.end.id.ms > milliseconds(until.ts) + LATE_MS


async def _waits_for_the_archive(moment: Moment, question: Question) -> bool:
    """Whether something in the answer, from a mind that was late, is not counted in the archive yet."""
    async with aclosing(moment.pages_of_tail(moment.plain_range(question), question.matches)) as pages:
        async for page in pages:
            if page:
                return True
    return False


def is_held(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether the client has what this ETag stands for."""
    held = headers.get("if-none-match", "")
    return held.strip() == "*" or etag in (part.strip().removeprefix("W/") for part in held.split(","))
