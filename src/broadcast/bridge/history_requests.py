"""What is asked of the log's past over HTTP, read from the address. Pure.

Every refusal names the parameter, what it was and what is accepted; parameters that nobody knows are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, unquote

from broadcast.errors import FilterError, PositionError, RequestError
from broadcast.filters import ALL, Filter, parse_filter
from broadcast.log.position import START, EntryId, Position, Since, parse_id, parse_since

__all__ = ["Edge", "Question", "parse_number", "parse_place", "parse_question", "write_cursor"]

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
EPOCH_CHARS_MAX: Final = 200
NUMBER_MAX: Final = 2**63 - 1
_CYCLE: Final = re.compile(r"cycle:(-?[0-9]{1,19})")
_PLACE: Final = re.compile(r"([0-9]{1,20}-[0-9]{1,20})\.(.*)", re.DOTALL)
_STARTS: Final = re.compile(r"~([0-9]{1,20}-[0-9]{1,20}\.[^~]*)?~([0-9]{1,20}-[0-9]{1,20}\.[^~]*)?\Z")
"""What `next` says behind the place where cycles were asked for: the `cycle.start` of `since`, and that of `until`."""
_WIDTH: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Edge:
    """One end of a range; at most one of position, time and cycle is there."""

    position: Position | None = None
    """A place in the log: what comes behind it, or up to it and with it."""
    ts: str | None = None
    """A time: from or up to it, and with it."""
    cycle: int | None = None
    """The latest run's cycle of this number: from its beginning, or up to its end."""
    start: Position | None = None
    """Its `cycle.start`, once that was looked for: another run may come to the same number."""
    is_fixed: bool = True
    """Whether it means the same tomorrow."""

    @property
    def is_open(self) -> bool:
        """Whether nothing was said."""
        return self.position is None and self.ts is None and self.cycle is None


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know of the past."""

    since: Edge
    until: Edge
    filter: Filter
    limit: int | None
    """None where nothing was said."""
    newest_first: bool
    cursor: Position | None
    """The last event that was had: go on behind it, in the order that is asked for."""
    bucket_s: int | None = None
    """Counts per so many seconds are wanted, instead of events; 0: of a width that suits the range."""
    granted: Filter = ALL
    """What may be seen, whatever is asked for."""
    earliest: EntryId = START
    """The smallest id that may be given."""

    def matches(self, event_type: str) -> bool:
        """Whether an event of a type is wanted, and may be seen."""
        return self.filter.matches(event_type) and self.granted.matches(event_type)

    @property
    def count(self) -> int:
        """How many events go into one page."""
        return min(self.limit or LIMIT_DEFAULT, LIMIT_MAX)


def parse_question(query: Mapping[str, str], *, now: datetime) -> Question:
    """Read the parameters of `GET /history`.

    Args:
        query: them.
        now: the present time.

    Raises:
        RequestError: one of them is not what it should be.
    """
    since_start, until_start = _starts(query.get("cursor"))
    return Question(
        since=_edge("since", query.get("since"), now, since_start),
        until=_edge("until", query.get("until"), now, until_start),
        filter=_filter(query.get("types")),
        limit=parse_number("limit", query.get("limit"), least=1),
        newest_first=_order(query.get("order")),
        cursor=_cursor(query.get("cursor")),
        bucket_s=_bucket(query.get("bucket", query.get("count"))),
    )


def write_cursor(position: Position, question: Question | None = None) -> str:
    """A place as `next` says it, which `parse_question` reads.

    Args:
        position: the place.
        question: what is asked from page to page; where its cycles begin is said, too, so that they stay the same.
    """
    at = f"{position.id}.{position.epoch or ''}"
    starts = (None, None) if question is None else (question.since.start, question.until.start)
    return at if starts == (None, None) else "~".join((at, *map(_written, starts)))


def _written(start: Position | None) -> str:
    return "" if start is None else f"{start.id}.{quote(start.epoch or '', safe='').replace('~', '%7E')}"


def parse_number(name: str, text: str | None, *, least: int) -> int | None:
    """Read a whole number; None if there is none.

    Raises:
        RequestError: it is none, or less than `least`.
    """
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19) or not least <= int(text) <= NUMBER_MAX:
        raise _refused(name, f"a whole number of at least {least}", text)
    return int(text)


def parse_place(name: str, text: str) -> Position:
    """Read an id, or what `next` said.

    Raises:
        RequestError: it is neither.
    """
    try:
        return _place(name, text) if _PLACE.fullmatch(text) else Position(parse_id(text))
    except PositionError:
        raise _refused(name, "an event's id such as '1771095683456-0'", text) from None


def _edge(name: str, text: str | None, now: datetime, start: Position | None) -> Edge:
    if text is None or not text.strip():
        return Edge()
    text = text.strip()
    if match := _CYCLE.fullmatch(text):
        return Edge(cycle=int(match[1]), start=start)
    if _PLACE.fullmatch(text):
        return Edge(position=_place(name, text))
    if "T" in text:  # in an address, a plus that nobody escaped stands for a space
        text = text.replace(" ", "+")
    try:
        since: Since = parse_since(text, now=now)
    except PositionError:
        raise _refused(
            name,
            "an id ('1771095683456-0'), a time ('2026-02-14T19:00:00Z'), a duration ago ('5m') or a cycle ('cycle:42')",
            text,
        ) from None
    if since.ts is not None:
        return Edge(ts=since.ts, is_fixed=text[-1:] == "Z" or "-" in text or ":" in text)
    return Edge(position=since.position)


def _cursor(text: str | None) -> Position | None:
    return _place("cursor", text) if text else None


def _starts(cursor: str | None) -> tuple[Position | None, Position | None]:
    """Where the cycles that are asked for begin, as `next` said."""
    match = _STARTS.search(cursor or "")
    since, until = (None, None) if match is None else (unquote(start or "") for start in match.groups())
    return _place("cursor", since) if since else None, _place("cursor", until) if until else None


def _place(name: str, text: str) -> Position:
    match = _PLACE.fullmatch(_STARTS.sub("", text))
    try:
        if match is not None and len(match[2]) <= EPOCH_CHARS_MAX:
            entry_id: EntryId = parse_id(match[1])
            return Position(entry_id, epoch=match[2] or None)
    except PositionError:
        pass
    raise _refused(name, "what `next` said", text)


def _filter(types: str | None) -> Filter:
    try:
        return parse_filter(types)
    except FilterError as error:
        raise RequestError("bad_request", str(error)) from None


def _order(text: str | None) -> bool:
    if text not in (None, "", "asc", "desc"):
        raise _refused("order", "'asc' or 'desc'", text)
    return text == "desc"


def _bucket(text: str | None) -> int | None:
    if text is None:
        return None
    if text in ("", "auto"):
        return 0
    match = _WIDTH.fullmatch(text)
    width_s = int(match[1]) * _UNITS_S[match[2]] if match else 0
    is_whole = width_s >= 1 and (width_s % 60 == 0 or 60 % width_s == 0)
    if not is_whole or width_s > NUMBER_MAX // 1_000_000:
        raise _refused("bucket", "whole minutes ('1m', '15m', '6h', '1d'), parts of one ('5s', '20s') or 'auto'", text)
    return width_s


def _refused(name: str, accepted: str, text: str) -> RequestError:
    return RequestError("bad_request", f"{name}: expected {accepted}, got {text[:60]!r}")
