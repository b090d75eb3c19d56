"""What is asked of the archive, as SQL. Pure.

Rules:
1. A question names one epoch and bounds the id: then PostgreSQL looks at the partitions of that range alone, in their
   order, and stops at the page's end.
2. Few types are looked for in the index of types, one by one, and merged; many are found by reading all events.
3. A range of times is a range of ids, and what came into the log late: that has an index of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, LiteralString, cast

from psycopg import sql

from broadcast.log.places import LATE_MS, Place, Range, looked_for_from, milliseconds
from broadcast.log.position import START, EntryId

__all__ = ["DELIVERED", "TS", "Stretch", "select", "stretches"]

_BIGINT_MAX: Final = 2**63 - 1

TS: Final[LiteralString] = """to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
"""A row's `ts` as it stands in the event."""

DELIVERED: Final[LiteralString] = (
    """'{"type":' || to_json(type)::text || ',"ts":"' || """
    + TS
    + """ || '","cycle":' || coalesce(cycle::text, (extra->'cycle')::text, 'null')
    || ',"day":' || coalesce(day::text, (extra->'day')::text, 'null') || ',"data":' || data::text
    || CASE WHEN extra IS NULL OR (extra - 'cycle' - 'day') = '{}'::jsonb THEN ''
       ELSE ',' || substr((extra - 'cycle' - 'day')::text, 2, length((extra - 'cycle' - 'day')::text) - 2) END
    || ',"id":"' || id_ms || '-' || id_seq || '"' || CASE WHEN by IS NULL THEN '' ELSE ',"by":' || to_json(by)::text END
    || CASE WHEN n IS NULL THEN '' ELSE ',"n":' || n END || '}'"""
)
"""A row as the JSON of the delivered event."""

_LATE: Final[LiteralString] = "ts < to_timestamp((id_ms - 60000) / 1000.0::double precision)"
"""The predicate of the index `events_late`, word for word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Events of one epoch: between two ids, of some types, between two times."""

    epoch: int
    after: EntryId = START
    """Exclusive."""
    until: EntryId | None = None
    """Inclusive; None for no end."""
    types: tuple[str, ...] | None = None
    """None for all."""
    by_type: bool = False
    """Whether to look for each type on its own."""
    window: int | None = None
    """At most so many events are looked at, wanted or not; None for no bound."""
    ts_from: str | None = None
    """Inclusive, as is `ts_to`; None for no such bound."""
    ts_to: str | None = None
    is_late: bool = False
    """Only what came into the log late."""

    def parts(self) -> tuple[Stretch, ...]:
        """The same in stretches whose ids are bounded as narrowly as the times allow, in the log's order."""
        after, until = self.after, self.until
        if self.ts_from is not None:
            after = max(after, looked_for_from(self.ts_from).before())
        if self.ts_to is None or self.is_late:
            return (replace(self, after=after),)
        punctual = EntryId(milliseconds(self.ts_to) + LATE_MS, _BIGINT_MAX)
        last = punctual if until is None else min(until, punctual)
        late = replace(self, after=max(after, punctual), until=until, is_late=True)
        return tuple(part for part in (replace(self, after=after, until=last), late) if not part.is_empty)

    def steps(self, window: int) -> tuple[Stretch, ...]:
        """How it is looked through: among all events as long as that finds enough, then type by type.

        Args:
            window: so many events are looked at first, wanted or not.
        """
        if self.types is None:
            return (self,)
        return replace(self, window=window), replace(self, by_type=True)

    def behind(self, last: Place | None, *, newest_first: bool) -> Stretch:
        """What of it is left when everything up to a place was found; None for nothing."""
        if last is None or last.epoch != self.epoch:
            return self
        if newest_first:
            before = last.id.before()
            return replace(self, until=before if self.until is None else min(self.until, before))
        return replace(self, after=max(self.after, last.id))

    @property
    def is_empty(self) -> bool:
        """Whether there is no room between its ids."""
        return self.until is not None and self.until <= self.after


def stretches(
    asked: Range, epochs: list[int], types: list[str] | None, *, newest_first: bool = False, late_only: bool = False
) -> list[Stretch]:
    """A range in stretches of one epoch each, in the order in which they are wanted.

    Args:
        asked: the range.
        epochs: what `epochs_of` said of it.
        types: None for all.
        newest_first: the other way round.
        late_only: only what came into the log late.
    """
    if types == []:
        return []
    first, last = asked.after.epoch, asked.until.epoch
    found = [
        part
        for epoch in epochs
        for part in Stretch(
            epoch=epoch,
            after=max(asked.after.id if epoch == first else START, asked.earliest.before()),
            until=asked.until.id if epoch == last else None,
            types=None if types is None else tuple(types),
            ts_from=asked.ts_from,
            ts_to=asked.ts_to,
            is_late=late_only,
        ).parts()
    ]
    return found[::-1] if newest_first else found


def select(columns: LiteralString, stretch: Stretch, *, count: int, newest_first: bool = False) -> sql.Composed:
    """The SELECT of a stretch, in the log's order, with its values in it.

    Args:
        columns: what is wanted of each row.
        stretch: of the log.
        count: at most so many rows.
        newest_first: the other way round.
    """
    order = sql.SQL("ORDER BY id_ms DESC, id_seq DESC" if newest_first else "ORDER BY id_ms, id_seq")
    where = [sql.SQL(part).format(**values) for part, values in _conditions(stretch)]
    conditions = sql.SQL(" AND ").join(where)
    if stretch.types is None or not stretch.by_type:
        of_type = sql.SQL("true")
        if stretch.types is not None:
            of_type = sql.SQL("type = ANY({})").format(sql.Literal(list(stretch.types)))
        return sql.SQL(
            "SELECT {} FROM (SELECT * FROM events WHERE {} {} LIMIT {}) AS found WHERE {} {} LIMIT {}"
        ).format(sql.SQL(columns), conditions, order, sql.Literal(stretch.window), of_type, order, sql.Literal(count))
    # One scan of the index for each type, planned once. That the type is said three times makes it look rarer than it
    # is: else PostgreSQL reads all events where a type is frequent, to the end if just this range has none of it.
    each = sql.SQL(
        "SELECT * FROM events WHERE type = wanted.name AND type >= wanted.name AND type <= wanted.name AND {} {} "
        "LIMIT {}"
    ).format(conditions, order, sql.Literal(count))
    return sql.SQL(
        "SELECT {} FROM unnest({}::text[]) AS wanted (name) CROSS JOIN LATERAL ({}) AS found {} LIMIT {}"
    ).format(sql.SQL(columns), sql.Literal(list(stretch.types)), each, order, sql.Literal(count))


def _conditions(stretch: Stretch) -> list[tuple[LiteralString, dict[str, Any]]]:
    # Comparing rows finds the place in the index, comparing the time alone finds the partition: both are needed.
    ms, seq = _literals(stretch.after)
    found: list[tuple[LiteralString, dict[str, Any]]] = [
        ("epoch = {epoch}", {"epoch": sql.Literal(stretch.epoch)}),
        ("id_ms >= {ms} AND (id_ms, id_seq) > ({ms}, {seq})", {"ms": ms, "seq": seq}),
    ]
    if stretch.until is not None:
        ms, seq = _literals(stretch.until)
        found.append(("id_ms <= {ms} AND (id_ms, id_seq) <= ({ms}, {seq})", {"ms": ms, "seq": seq}))
    if stretch.ts_from is not None:
        found.append(("ts >= {ts}::timestamptz", {"ts": sql.Literal(stretch.ts_from)}))
    if stretch.ts_to is not None:
        found.append(("ts <= {ts}::timestamptz", {"ts": sql.Literal(stretch.ts_to)}))
    if stretch.is_late:
        found.append((_LATE, {}))
    return found


def _literals(entry_id: EntryId) -> tuple[sql.Composable, sql.Composable]:
    # A bigint has no room for the greatest ids of Redis; none of those is archived.
    bounded = (min(part, _BIGINT_MAX) for part in entry_id)
    ms, seq = (sql.SQL(cast("LiteralString", f"{part}::bigint")) for part in bounded)
    return ms, seq
