"""Which number an archive gives to each log that is imported: their order is the order of the numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import psycopg
from psycopg import sql

from broadcast.errors import BroadcastError
from broadcast.log.archive import Epoch
from broadcast.log.position import EntryId

__all__ = ["begin_earlier", "numbered", "numbers_for"]


async def numbered(connection: psycopg.AsyncConnection[Any], epochs: tuple[Epoch, ...]) -> dict[str, int]:
    """The archive's numbers of some logs, which follow one another; new ones are entered, known ones begin no later.

    Raises:
        BroadcastError: one that the archive does not know lies between two that it knows.
    """
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM checkpoint FOR UPDATE")
        await connection.execute("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE")
        rows = await (
            await connection.execute("SELECT name, epoch, first_ms, first_seq FROM epochs ORDER BY epoch")
        ).fetchall()
        known: dict[str, int] = {name: number for name, number, *_ in rows}
        is_older = bool(rows and epochs) and epochs[-1].first < EntryId(*rows[0][2:])
        shift, numbers = numbers_for([epoch.name for epoch in epochs], known, is_older=is_older)
        if shift:
            await _shift(connection, sorted(known.values(), reverse=True), shift)
        for epoch in epochs:
            if epoch.name in known:
                await begin_earlier(connection, numbers[epoch.name], epoch.first, set(known))
            else:
                forked = (None, None) if epoch.forked_at is None else epoch.forked_at
                await connection.execute(
                    "INSERT INTO epochs (epoch, name, parent, forked_ms, forked_seq, first_ms, first_seq) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (numbers[epoch.name], epoch.name, epoch.parent, *forked, *epoch.first),
                )
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('epochs', 'epoch'), (SELECT max(epoch) FROM epochs))"
        )
    return numbers


async def begin_earlier(
    connection: psycopg.AsyncConnection[Any], number: int, first: EntryId, names: Collection[str]
) -> None:
    """Let a log begin where what is imported of it does, so that its bare ids are not read in the log before it.

    Args:
        connection: in a transaction that holds the checkpoint.
        number: the log's.
        first: where it begins there.
        names: the logs that the archive held before.
    """
    found = await connection.execute(
        "SELECT first_ms, first_seq, parent, forked_ms, forked_seq FROM epochs WHERE epoch = %s", (number,)
    )
    row = await found.fetchone()
    assert row is not None, "it has a number"
    begins, parent, forked_at = EntryId(*row[:2]), row[2], None if row[3] is None else EntryId(*row[3:])
    if forked_at is not None and parent in names:
        # What it has in common with that log stands under that: who reads on there must not be sent on to this one.
        first = max(first, forked_at.after())
    if first < begins:
        await connection.execute("UPDATE epochs SET first_ms = %s, first_seq = %s WHERE epoch = %s", (*first, number))
        await connection.execute("UPDATE checkpoint SET imports = imports + 1")  # what an id means is part of answers


async def _shift(connection: psycopg.AsyncConnection[Any], numbers: list[int], shift: int) -> None:
    """Give the archive's logs greater numbers, the greatest first, to make room in front of them."""
    # Every row of them is written anew, which takes as long as it takes.
    await connection.execute("SELECT set_config('statement_timeout', '0', true)")
    for number in numbers:
        row = await connection.execute(
            "UPDATE epochs SET name = '~' || name WHERE epoch = %s RETURNING name", (number,)
        )
        name = await row.fetchone()
        assert name is not None, "the table is locked"
        await connection.execute(
            "INSERT INTO epochs SELECT epoch + %s, %s, parent, forked_ms, forked_seq, first_ms, first_seq, begun_at "
            "FROM epochs WHERE epoch = %s",
            (shift, name[0][1:], number),
        )
        for table in ("events", "parked", "gaps", "checkpoint"):
            change = sql.SQL("UPDATE {} SET epoch = epoch + %s WHERE epoch = %s").format(sql.Identifier(table))
            await connection.execute(change, (shift, number))
        await connection.execute("DELETE FROM epochs WHERE epoch = %s", (number,))


def numbers_for(names: list[str], known: dict[str, int], *, is_older: bool = False) -> tuple[int, dict[str, int]]:
    """Numbers for logs that follow one another. Pure.

    Args:
        names: in their order.
        known: what some of them, and others, have already.
        is_older: whether they come in front of those, where they have none in common.

    Returns:
        How much must be added to every number that is known, and what then are the numbers of `names`.

    Raises:
        BroadcastError: one that is not known lies between two that are.
    """
    met = [at for at, name in enumerate(names) if name in known]
    if not met and is_older:
        shift = max(0, len(names) - min(known.values()) + 1)
        first_number = min(known.values()) + shift - len(names)
        return shift, {name: first_number + at for at, name in enumerate(names)}
    if not met:
        behind = max(known.values(), default=0) + 1
        return 0, {name: behind + at for at, name in enumerate(names)}
    first, last = met[0], met[-1]
    lowest, highest = min(known.values()), max(known.values())
    stranger = next((name for name in names[first:last] if name not in known), None)
    if stranger is None and first and known[names[first]] != lowest:
        stranger = names[first - 1]
    if stranger is None and last < len(names) - 1 and known[names[last]] != highest:
        stranger = names[last + 1]
    if stranger is not None:
        raise BroadcastError(
            f"the log {stranger!r} lies between two that this archive holds, but it does not hold it: "
            "import into a database of its own"
        )
    shift = max(0, first - lowest + 1)
    numbers = {name: lowest + shift - first + at for at, name in enumerate(names[:first])}
    numbers |= {name: known[name] + shift for name in names if name in known}
    return shift, numbers | {name: highest + shift + 1 + at for at, name in enumerate(names[last + 1 :])}
