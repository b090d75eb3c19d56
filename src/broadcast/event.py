"""The envelope `{type, ts, cycle, day, data}`: build, encode, decode, delivered form.

Pure: nothing here reads a clock, a socket or the environment.

The delivered form is the same everywhere (Socket.IO, SSE, pub/sub, log file, history, Python): the five fields plus
`id` (its place in the log), and `by` (its identity, `producer:seq`) and `n` (its ordinal) where known.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any, Final, cast

import orjson

from broadcast.errors import EventError

__all__ = ["MALFORMED", "Event", "decode", "delivered", "encode", "malformed", "normalise_ts", "timestamp"]

Event = dict[str, Any]
"""The five fields; in delivered form also `id`, and `by` and `n` where known."""

MALFORMED: Final = "broadcast.malformed"
"""The type of what stands in the place of an entry that is no event."""

_TS: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_INT64: Final = range(-(2**63), 2**64)

DEPTH_MAX: Final = 250
"""Deeper data cannot be passed on."""

# Without these, orjson would run Python code of subclasses and dataclasses, or format dates in another way than
# the sanitizer: whatever is not plain JSON takes the slow path instead.
_PLAIN_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_PLAIN_ONLY_AND_NEWLINE: Final = _PLAIN_ONLY | orjson.OPT_APPEND_NEWLINE


def timestamp(now_ns: int) -> str:
    """The `ts` of a moment.

    Args:
        now_ns: nanoseconds since 1970, UTC.

    Returns:
        ISO 8601 in UTC with milliseconds and `Z`, as the specification's example has it.
    """
    seconds, rest_ns = divmod(now_ns, 1_000_000_000)
    return _iso(datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000))


def normalise_ts(text: str) -> str:
    """Bring a `ts` into our form; `+00:00`, other offsets and microseconds are accepted.

    Raises:
        EventError: it is no ISO 8601 time. A time without an offset is taken as UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
        if _TS.fullmatch(text):
            return text
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: an offset that leads out of the years 1 to 9999
        raise EventError(f"ts: {text[:40]!r} is no ISO 8601 time") from None
    return _iso(moment)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def encode(event: Event) -> bytes:
    """Encode a JSON-safe event.

    Raises:
        TypeError: something in it is no plain JSON value (the caller then sanitizes and tries again).
    """
    # orjson encodes into a large buffer and gives back what it did not need, which leaves the heap in pieces: kept by
    # the thousand, such results cost five times their encoding. Cutting the newline off copies it into its own size.
    return orjson.dumps(event, option=_PLAIN_ONLY_AND_NEWLINE)[:-1]


def decode(payload: bytes) -> Event:
    """Read the JSON of one event, ours or another producer's.

    Raises:
        EventError: it is no event; the text says which field is wrong and how.
    """
    event = _parse(payload)
    if not isinstance(event, dict):
        raise EventError(f"event: expected an object, got {_kind(event)}")
    event = cast("Event", event)
    if payload.count(b"[") + payload.count(b"{") > DEPTH_MAX:
        _refuse_deep(event)
    if not isinstance(event.get("type"), str):
        raise EventError(f"type: expected a text, got {_kind(event.get('type'))}")
    if not isinstance(event.get("ts"), str):
        raise EventError(f"ts: expected a text, got {_kind(event.get('ts'))}")
    if not isinstance(event.get("data"), dict):
        raise EventError(f"data: expected an object, got {_kind(event.get('data'))}")
    event["ts"] = normalise_ts(event["ts"])
    event.setdefault("cycle", 0)
    event.setdefault("day", 0)
    return event


def _refuse_deep(event: Event) -> None:
    # What is read is written again, to every viewer; orjson reads deeper than it writes.
    try:
        orjson.dumps(event)
    except TypeError:
        raise EventError(f"event: nested deeper than {DEPTH_MAX} levels") from None


def delivered(event: Event, *, entry_id: str, by: str | None, n: int | None) -> Event:
    """The event as every consumer gets it.

    Args:
        event: a decoded event; changed in place.
        entry_id: its place in the log, `ms-seq`.
        by: its identity, None where the producer gave none.
        n: its ordinal in the log, None where it cannot be known.
    """
    event["id"] = entry_id
    # What the payload itself claims about these is not to be believed: they belong to the log.
    event.pop("by", None)
    event.pop("n", None)
    if by is not None:
        event["by"] = by
    if n is not None:
        event["n"] = n
    return event


def malformed(entry_id: str, reason: str, *, ts: str) -> Event:
    """What stands in the log's place of an entry that is no valid event.

    Args:
        entry_id: the entry's place in the log.
        reason: what is wrong with it.
        ts: the time that the entry's id tells.
    """
    data = {"id": entry_id, "reason": reason}
    return {"type": MALFORMED, "ts": ts, "cycle": 0, "day": 0, "data": data}


def _parse(payload: bytes) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        strict_reason = str(error)
    # Python's own json writes NaN and lone surrogates, so the specification's listing emits them too:
    # such an event is worth reading, and what is no valid JSON in it is replaced.
    try:
        loose = json.loads(
            payload, parse_constant=lambda _name: None, parse_int=_bounded_int, parse_float=_finite_float
        )
        return json.loads(json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise EventError(f"event: no valid JSON ({strict_reason})") from None


def _bounded_int(digits: str) -> int | float | None:
    if len(digits) <= 20 and (number := int(digits)) in _INT64:
        return number
    return _finite_float(digits)


def _finite_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


_KINDS: Final[dict[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    type(None): "nothing",
}
