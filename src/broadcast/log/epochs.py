"""Which logs of the archive a range lies in."""

from __future__ import annotations

from typing import Any

import psycopg

from broadcast.log.places import Range

__all__ = ["epochs_of"]


async def epochs_of(connection: psycopg.AsyncConnection[Any], asked: Range) -> list[int]:
    """The numbers of the logs between a range's ends, in their order, in the caller's snapshot.

    Between two of them there may be any number of numbers that no log has.
    """
    first, last = asked.after.epoch, asked.until.epoch
    if first == last:
        return [first]
    rows = await connection.execute(
        "SELECT epoch FROM epochs WHERE epoch BETWEEN %s AND %s ORDER BY epoch", (first, last)
    )
    return [number for (number,) in await rows.fetchall()]
