"""What an export looks like: one event a line, and a few lines of the same shape that have no place in the log.

An export is JSON lines in the delivered form, so any tool reads it; so is a recorded file, which has the second kind of
these. What the lines alone would not tell stands in lines that look like events and have no `id`:

    broadcast.export {epochs: [{name, parent, forked_at, first}, …], types, since, until}   first of all
    broadcast.epoch {name}                                                                  before the events of a log
    broadcast.exported {events}                                                             last: nothing was cut off
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from broadcast.errors import EventError, PositionError
from broadcast.event import Event, decode, delivered
from broadcast.log.entry import IDENTITY_BYTES_MAX, Entry
from broadcast.log.places import SEQ_MAX, Epoch
from broadcast.log.position import START, EntryId, parse_id

__all__ = [
    "Exported",
    "Header",
    "Mark",
    "Unplaced",
    "end_line",
    "epoch_line",
    "header_line",
    "is_of_another_log",
    "read_line",
]

HEADER: Final = "broadcast.export"
MARK: Final = "broadcast.epoch"
END: Final = "broadcast.exported"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line."""

    epochs: tuple[Epoch, ...]
    """The logs in it, in their order; the numbers are those of the archive it comes from."""
    is_whole: bool
    """Whether it holds everything between its ends: every type, and ends that are none or places in the log."""
    is_from_start: bool
    """Whether it begins where the archive did."""


@dataclass(frozen=True, slots=True)
class Mark:
    """From here on it is this log."""

    name: str


@dataclass(frozen=True, slots=True)
class Exported:
    """The last line: so many events were before it."""

    events: int


@dataclass(frozen=True, slots=True)
class Unplaced:
    """An event without an id: what a recorder or a reader was told besides the log, such as `broadcast.gap`."""

    type: str
    is_of_another_log: bool = False
    """Whether it is a gap behind which another log begins, or may."""


def header_line(
    epochs: tuple[Epoch, ...], *, ts: str, types: str | None, since: str | None, until: str | None
) -> bytes:
    """The first line.

    Args:
        epochs: the logs in it, in their order.
        ts: the present time.
        types: the filter that was asked for, None for all.
        since: where it was to begin, None for the beginning.
        until: where it was to end, None for the end.
    """
    listed = [
        {
            "name": epoch.name,
            "parent": epoch.parent,
            "forked_at": None if epoch.forked_at is None else str(epoch.forked_at),
            "first": str(epoch.first),
        }
        for epoch in epochs
    ]
    return _line(HEADER, ts, {"epochs": listed, "types": types, "since": since, "until": until})


def epoch_line(name: str, *, ts: str) -> bytes:
    """The line before the events of a log."""
    return _line(MARK, ts, {"name": name})


def end_line(events: int, *, ts: str) -> bytes:
    """The last line."""
    return _line(END, ts, {"events": events})


def is_of_another_log(event: Event) -> bool:
    """Whether an event is a gap of its reader's, behind which another log begins, or may.

    Where the archiver announces one, in the log itself, it has an `id`, and its place among the log's events.
    """
    is_gap = event["type"] == "broadcast.gap" and "id" not in event
    return is_gap and event["data"].get("reason") in ("reset", "rewound")


def _line(event_type: str, ts: str, data: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": event_type, "ts": ts, "cycle": 0, "day": 0, "data": data}) + b"\n"


def read_line(line: bytes) -> Entry | Header | Mark | Exported | Unplaced:
    """Read one line of an export, or of a file that `broadcast record` has written.

    Raises:
        EventError: it is no event; the text says how.
    """
    event = decode(line)
    if "id" not in event:
        return _told(event)
    by, n = event.get("by"), event.get("n")
    try:
        entry_id = parse_id(event["id"])
    except PositionError as error:
        raise EventError(str(error)) from None
    # What the log itself would not have as such is none: it belongs to the file alone.
    by = by if isinstance(by, str) and 0 < len(by.encode()) <= IDENTITY_BYTES_MAX else None
    n = n if type(n) is int and 0 < n <= SEQ_MAX else None
    return Entry(entry_id, delivered(event, entry_id=str(entry_id), by=by, n=n), by, n, raw=line)


def _told(event: Event) -> Header | Mark | Exported | Unplaced:
    data = event["data"]
    try:
        match event["type"]:
            case "broadcast.export":
                listed = cast("list[dict[str, Any]]", data["epochs"])
                epochs = tuple(_epoch(number, each) for number, each in enumerate(listed))
                is_whole = data["types"] is None and _is_end(data["since"]) and _is_end(data["until"])
                return Header(epochs, is_whole, data["since"] is None)
            case "broadcast.epoch":
                return Mark(str(data["name"]))
            case "broadcast.exported":
                return Exported(int(data["events"]))
            case other:
                return Unplaced(str(other), is_of_another_log(event))
    except (KeyError, TypeError, ValueError, PositionError) as error:
        raise EventError(f"{event['type']}: not as an export has it ({type(error).__name__}: {error})") from None


def _is_end(asked: object) -> bool:
    """Whether it bounds a range of the log: what a time leaves out may stand anywhere in it, since events come late."""
    if asked is None:
        return True
    try:
        parse_id(asked)
    except PositionError:
        return False
    return True


def _epoch(number: int, listed: dict[str, Any]) -> Epoch:
    forked_at: EntryId | None = parse_id(listed["forked_at"]) if listed["forked_at"] else None
    first = parse_id(listed["first"]) if listed["first"] else START
    return Epoch(number, str(listed["name"]), listed["parent"], forked_at, first)
