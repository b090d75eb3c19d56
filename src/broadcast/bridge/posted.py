"""Events as a producer posts them: one, a list, or one a line. Pure.

Every refusal names the event by its index and the field, and what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from broadcast.errors import EventError, RequestError
from broadcast.event import normalise_ts

__all__ = ["EVENTS_MAX", "Posted", "PostedError", "parse_events", "parse_key"]

EVENTS_MAX: Final = 1_000
FIELDS: Final = ("type", "data", "ts", "cycle", "day")
LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
INT64: Final = range(-(2**63), 2**63)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_LINE: Final = re.compile(rb"\S[^\n]*")


@dataclass(frozen=True, slots=True)
class Posted:
    """One event, as far as its producer tells it."""

    type: str
    data: object
    """Anything; None for nothing."""
    ts: str | None
    """None: it happens now."""
    cycle: int
    day: int


class PostedError(RequestError):
    """One of the events is none.

    Args:
        code: a name in `CODES`.
        index: which of them.
        field: which of its fields; None for the event itself.
        message: what is wrong, and what is accepted.
    """

    def __init__(self, code: str, index: int, field: str | None, message: str) -> None:
        where = f"events[{index}]" if field is None else f"events[{index}].{field}"
        super().__init__(code, f"{where}: {message}")
        self.more: dict[str, Any] = {"index": index, "field": field}


def parse_events(body: bytes, content_type: str) -> list[Posted]:
    """Read a request's body.

    Args:
        body: its bytes.
        content_type: its kind; `application/json`, or one of those that mean one JSON object a line.

    Raises:
        RequestError: it is none of these, or holds no event, or too many, or one that is none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        found = _json(body, 0)
        values = iter(cast("list[object]", found) if isinstance(found, list) else [found])
    elif kind in LINES:
        values = _lines(body)
    else:
        raise RequestError("bad_request", "Content-Type: expected application/json or application/x-ndjson")
    events: list[Posted] = []
    for index, value in enumerate(values):
        if index >= EVENTS_MAX:
            raise RequestError("too_large", f"events: at most {EVENTS_MAX} at once")
        events.append(_event(index, value))
    if not events:
        raise RequestError("bad_request", f"events: expected 1 to {EVENTS_MAX}, got none")
    return events


def parse_key(value: str | None) -> str | None:
    """Read an Idempotency-Key, with or without quotation marks around it; None if there is none.

    Raises:
        RequestError: it is none.
    """
    if value is None:
        return None
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    key = value[1:-1] if quoted else value
    if _KEY.fullmatch(key) is None:
        raise RequestError("bad_request", "Idempotency-Key: expected 1 to 255 visible ASCII characters, as a UUID")
    return key


def _lines(body: bytes) -> Iterator[object]:
    """One after the other: of a body that is all line ends, no list of a million nothings is made."""
    at, index = 0, 0
    while (found := _LINE.search(body, at)) is not None:
        yield _json(found[0], index)
        at, index = found.end(), index + 1


def _json(text: bytes, index: int) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise PostedError("bad_request", index, None, f"no valid JSON ({error})") from None


def _event(index: int, value: object) -> Posted:
    if not isinstance(value, dict):
        raise PostedError("bad_request", index, None, "expected an object with type and data")
    fields = cast("dict[str, Any]", value)
    for name in fields:
        if name not in FIELDS:
            raise PostedError("bad_request", index, name[:60], f"not a field; expected {', '.join(FIELDS)}")
    event_type = fields.get("type")
    if not isinstance(event_type, str) or not event_type.strip():
        raise PostedError("bad_request", index, "type", "expected a text such as sense.project")
    return Posted(
        type=event_type,
        data=fields.get("data"),
        ts=_ts(index, fields.get("ts")),
        cycle=_whole(index, "cycle", fields.get("cycle")),
        day=_whole(index, "day", fields.get("day")),
    )


def _ts(index: int, value: object) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return normalise_ts(value)
    except EventError:
        pass
    raise PostedError("bad_request", index, "ts", "expected an ISO 8601 time such as 2026-02-14T19:01:23.456Z")


def _whole(index: int, name: str, value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int or value not in INT64:
        raise PostedError("bad_request", index, name, "expected a whole number")
    return value
