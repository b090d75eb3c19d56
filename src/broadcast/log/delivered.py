"""One event as a reader of several tiers gets it, whichever tier it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from broadcast.event import Event
from broadcast.log.entry import Entry
from broadcast.log.position import Position

if TYPE_CHECKING:
    from broadcast.log.archive import Archived

__all__ = ["Delivered"]


class Delivered:
    """An event and its place; its dict and its JSON are made when they are asked for, from what there is.

    Args:
        position: its place, with the log's epoch where that is known.
        type: its type.
        ts: its time.
        by: its identity; None where its producer gave none.
        event: its delivered form; None if there is `json`.
        json: the same as JSON; None if there is `event`.
    """

    __slots__ = ("_event", "_json", "by", "position", "ts", "type")

    def __init__(
        self,
        position: Position,
        type: str,
        ts: str,
        by: str | None,
        *,
        event: Event | None = None,
        json: bytes | None = None,
    ) -> None:
        self.position = position
        self.type = type
        self.ts = ts
        self.by = by
        self._event = event
        self._json = json

    @classmethod
    def of_entry(cls, entry: Entry, epoch: str | None) -> Delivered:
        """An entry of the stream."""
        event, position = entry.event, Position(entry.id, entry.n, epoch)
        return cls(position, event["type"], event["ts"], entry.by, event=event)

    @classmethod
    def of_row(cls, row: Archived, epoch: str | None) -> Delivered:
        """A row of the archive."""
        return cls(Position(row.place.id, row.n, epoch), row.type, row.ts, row.by, json=row.json)

    @property
    def event(self) -> Event:
        """Its delivered form."""
        if self._event is None:
            event: Event = orjson.loads(self._json or b"{}")
            self._event = event
        return self._event

    @property
    def json(self) -> bytes:
        """The same as JSON."""
        if self._json is None:
            self._json = orjson.dumps(self._event)
        return self._json
