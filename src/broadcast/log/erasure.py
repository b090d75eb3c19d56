"""What shall be forgotten, and what stands in its place afterwards. Pure.

Rules:
1. An erased event leaves a blank of type `broadcast.blank` in its place: same id, `by` and `ts`, nothing else. So every
   cursor still counts right, in every tier, and a reader can tell a forgotten event from a lost one.
2. That something was erased is itself an event, `broadcast.erased`, behind everything it concerns: whoever has the
   events in memory hears of it in order, and forgets the same ones.
3. What comes into the log after the question was asked is not meant by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self, cast

from broadcast.errors import EventError, PositionError
from broadcast.event import MALFORMED, Event, normalise_ts
from broadcast.filters import Filter, parse_filter
from broadcast.log.position import EntryId, parse_id, parse_since

__all__ = ["BLANK", "ERASED", "Erasure", "blank"]

BLANK: Final = "broadcast.blank"
ERASED: Final = "broadcast.erased"
IDS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Erasure:
    """Which events: those that all of its conditions name; make one with `asked`."""

    ids: frozenset[EntryId]
    """Empty for no such condition."""
    types: Filter | None
    ts_from: str | None
    """Not older than this, by `ts`."""
    ts_to: str | None
    """Not newer."""
    until: EntryId | None = None
    """The newest event that may be meant; None where that is not known yet."""

    @classmethod
    def asked(
        cls,
        *,
        ids: Iterable[str] = (),
        types: str | Iterable[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        now: datetime,
    ) -> Self:
        """Read what a person wrote.

        Args:
            ids: each the id of an event.
            types: a filter; None for no such condition.
            since: a time, or a duration ago; None for no such condition.
            until: likewise.
            now: the present time.

        Raises:
            PositionError: an id or a time is none, or nothing is named at all.
            FilterError: a type pattern is none.
        """
        asked = frozenset(parse_id(each) for each in ids)
        if len(asked) > IDS_MAX:
            raise PositionError(f"id: at most {IDS_MAX} at once, got {len(asked)}")
        wanted = None if types is None else parse_filter(types)
        if not asked and wanted is None and since is None and until is None:
            raise PositionError("nothing is named: give --id, --type, --from or --to")
        return cls(asked, wanted, _moment(since, now, "from"), _moment(until, now, "to"))

    def covers(self, entry_id: EntryId, event_type: str, ts: str) -> bool:
        """Whether an event is meant. What stands for a forgotten one, or tells of it, never is."""
        return (
            event_type not in (BLANK, ERASED)
            and (self.until is None or entry_id <= self.until)
            and (not self.ids or entry_id in self.ids)
            and (self.types is None or self.types.matches(event_type))
            and (self.ts_from is None or ts >= self.ts_from)
            and (self.ts_to is None or ts <= self.ts_to)
        )

    def leaves_open(self, entry_id: EntryId, ts: str) -> bool:
        """Whether an entry that is no event may be meant for all that is known: its type, which is asked for, is not.

        Args:
            entry_id: the entry's id.
            ts: the time that it tells.
        """
        if self.types is None or self.covers(entry_id, MALFORMED, ts):
            return False
        return replace(self, types=None).covers(entry_id, MALFORMED, ts)

    def as_data(self) -> dict[str, Any]:
        """What is asked, as JSON: the data of `broadcast.erased`, and the row in `erasures`."""
        data: dict[str, Any] = {}
        if self.ids:
            data["ids"] = [str(entry_id) for entry_id in sorted(self.ids)]
        if self.types is not None:
            data["types"] = ",".join(self.types.patterns)
        return data | {name: ts for name, ts in (("from", self.ts_from), ("to", self.ts_to)) if ts is not None}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self | None:
        """Read what `as_data` wrote; None where somebody else wrote something else."""
        ids, types = data.get("ids", []), data.get("types")
        moments = [data.get(name) for name in ("from", "to")]
        try:
            if not isinstance(ids, list) or not all(each is None or isinstance(each, str) for each in moments):
                return None
            asked = frozenset(parse_id(each) for each in cast("list[object]", ids))
            until = None if "until" not in data else parse_id(data["until"])
            wanted = None if types is None else parse_filter(types)
            ts_from, ts_to = (None if each is None else normalise_ts(each) for each in moments)
        except (ValueError, EventError):
            return None
        return cls(asked, wanted, ts_from, ts_to, until) if asked or wanted or ts_from or ts_to else None


def blank(ts: str) -> Event:
    """What stands in the place of an erased event.

    Args:
        ts: its time, which stays: a blank is where the event was, also in time.
    """
    return {"type": BLANK, "ts": ts, "cycle": 0, "day": 0, "data": {"reason": "erased"}}


def _moment(text: str | None, now: datetime, name: str) -> str | None:
    if text is None:
        return None
    since = parse_since(text, now=now)
    if since.ts is None:
        raise PositionError(f"{name}: expected a time ('2026-02-14T19:00:00Z') or a duration ago ('5m'), got {text!r}")
    return since.ts
