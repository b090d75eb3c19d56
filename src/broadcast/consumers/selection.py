"""Which rows of the archive an erasure means, as conditions in SQL.

An event may come into the log long after its `ts`, from a mind's buffer, or long before it, by a clock that is ahead.
Of what came late there is an index; nothing bounds the id of what came early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import sql

from broadcast.log.erasure import BLANK, ERASED, Erasure
from broadcast.log.places import LATE_MS, SEQ_MAX, Place, milliseconds

__all__ = ["KEPT", "Selection"]

KEPT: Final = [BLANK, ERASED]
"""Rows of these types are never meant."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions on a row, and their values."""

    parts: tuple[LiteralString, ...]
    values: dict[str, Any]

    @classmethod
    async def of(cls, connection: psycopg.AsyncConnection[Any], erasure: Erasure, end: Place | None) -> Self:
        """The rows that are meant.

        Args:
            connection: to the archive.
            erasure: what is meant.
            end: what lies behind it is not; None for no such bound.
        """
        parts: list[LiteralString] = ["type <> ALL(%(kept)s)"]
        values: dict[str, Any] = {"kept": KEPT}
        if erasure.ids:
            parts.append("id_ms = ANY(%(ids_ms)s) AND (id_ms || '-' || id_seq) = ANY(%(ids)s)")
            # Nothing beyond is a row; it may be parked.
            fitting = [each.ms for each in erasure.ids if each.ms <= SEQ_MAX]
            values |= {"ids_ms": fitting, "ids": [str(each) for each in erasure.ids]}
        if erasure.types is not None:
            there = await (await connection.execute("SELECT type FROM types")).fetchall()
            parts.append("type = ANY(%(types)s)")
            values["types"] = [name for (name,) in there if erasure.types.matches(name)]
        if erasure.ts_from is not None:
            parts.append("ts >= %(ts_from)s::timestamptz")
            values["ts_from"] = erasure.ts_from
        if erasure.ts_to is not None:
            # Readers compare milliseconds, which is all that an event tells; the column may hold more.
            parts.append("ts < %(ts_to)s::timestamptz + interval '1 ms'")
            values["ts_to"] = erasure.ts_to
        if end is not None:
            parts.append("(epoch, id_ms, id_seq) <= (%(end_epoch)s, %(end_ms)s, %(end_seq)s)")
            # Above a bigint there is no row, and a number that is none would keep the index out of it.
            ms, seq = (min(number, SEQ_MAX) for number in end.id)
            values |= {"end_epoch": end.epoch, "end_ms": ms, "end_seq": seq}
        return cls(tuple(parts), values)

    def where(self, *more: LiteralString) -> sql.Composed:
        """Its conditions, and more of them."""
        return sql.SQL(" AND ").join([sql.SQL(part) for part in (*self.parts, *more)])

    def blanked(self) -> Self:
        """What stands in the place of such rows once they are blank; of which type they were, nothing says any more."""
        parts: list[LiteralString] = [part for part in self.parts if not part.startswith("type ")]
        return type(self)((*parts, "type = %(blank)s"), self.values | {"blank": BLANK})

    def among(self, places: list[Place]) -> Self:
        """Those of the rows that lie in some places; what lies beyond a bigint is no row."""
        places = [each for each in places if max(each.id) <= SEQ_MAX]
        table: LiteralString = "SELECT * FROM unnest(%(epochs)s::int[], %(all_ms)s::bigint[], %(all_seq)s::bigint[])"
        values = {
            "epochs": [each.epoch for each in places],
            "all_ms": [each.id.ms for each in places],
            "all_seq": [each.id.seq for each in places],
        }
        return type(self)((*self.parts, "(epoch, id_ms, id_seq) IN (" + table + ")"), self.values | values)

    def parted(self, ts_to: str | None) -> tuple[Self, ...]:
        """The same in parts that an index answers each: what came in time, and what came late.

        Args:
            ts_to: the end in time, if there is one.
        """
        if ts_to is None:
            return (self,)
        values = self.values | {"late_ms": milliseconds(ts_to) + LATE_MS}
        late: LiteralString = "ts < to_timestamp((id_ms - 60000) / 1000.0::double precision)"
        return (
            type(self)((*self.parts, "id_ms <= %(late_ms)s"), values),
            type(self)((*self.parts, "id_ms > %(late_ms)s", late), values),
        )
