"""What a reader wants to see, as it is written in the page's filter box and after `--filter`.

    sense.* -sense.all          types, as everywhere in broadcast
    rain "dark clouds" -wind    words: somewhere in the event, whatever their case; "-" means not
    cycle:41  cycle:40..45      events of these cycles; day: likewise
    ts:2026-02-14T19:01         events of this minute, by their own clock; ts:A..B from one time to another
    drive:rest  signal.emotion:calm  type:error
                                fields of the data by their path: a text that holds the value, a number that is it

Terms stand side by side, with spaces or commas between. What is said twice of one field is either; all else must hold
together. `web/dashboard/filter.ts` is this module's twin; `tests/golden/filters.json` holds both to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from broadcast.catalogue import CATALOGUE
from broadcast.digest import whole_text
from broadcast.errors import FilterError
from broadcast.filters import parse_filter

__all__ = ["parse_search"]

Matches = Callable[[Mapping[str, Any]], bool]

TERMS_MAX: Final = 64
VALUE_CHARS_MAX: Final = 256

# What JavaScript takes for space; Python's own \s is another set.
_SPACE: Final = r"\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_TERM: Final = re.compile(
    rf'(?P<minus>-?)(?:(?P<field>[A-Za-z_][A-Za-z0-9_.]*):)?(?:"(?P<quoted>[^"]*)"?|(?P<bare>[^{_SPACE},"]+))'
    rf"|[^{_SPACE},]"
)
_TYPE: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_NUMBERS: Final = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_TIME: Final = r"([0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2}(?:T[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?)?)?)?)Z?"
_TIMES: Final = re.compile(rf"{_TIME}(?:\.\.{_TIME})?")


@dataclass(frozen=True, slots=True)
class _Term:
    is_not: bool
    field: str
    """`type`, `cycle`, `day`, `ts`, `by`, `id`, or a path in the data; empty for a word."""
    value: str


def parse_search(text: str) -> Matches:
    """Make the question whether an event, decoded or delivered, is among what is sought.

    Args:
        text: the terms; none lets everything pass.

    Raises:
        FilterError: names the term.
    """
    terms = [term for found in _TERM.finditer(text) if (term := _term(found)).value or term.field]
    if len(terms) > TERMS_MAX:
        raise FilterError(f"filter: at most {TERMS_MAX} terms, got {len(terms)}")
    types = [("-" if term.is_not else "") + term.value for term in terms if term.field == "type"]
    type_matches = parse_filter(types).matches
    others = [term for term in terms if term.field != "type"]
    unwanted = [_matcher(term) for term in others if term.is_not]
    wanted = _groups(term for term in others if not term.is_not)

    def matches(event: Mapping[str, Any]) -> bool:
        return (
            type_matches(str(event.get("type", "")))
            and all(any(holds(event) for holds in either) for either in wanted)
            and not any(holds(event) for holds in unwanted)
        )

    return matches


def _term(found: re.Match[str]) -> _Term:
    quoted, bare, field = found["quoted"], found["bare"], found["field"]
    value = bare if quoted is None else quoted
    is_option = quoted is None and value is not None and value.startswith("-") and field in (None, "type")
    if value is None or is_option:
        raise FilterError(f"filter: {found[0][:40]!r} means nothing; try sense.*, rain, cycle:41 or -error")
    if len(value) > VALUE_CHARS_MAX:
        raise FilterError(f"filter: at most {VALUE_CHARS_MAX} characters in one term, got {len(value)}")
    is_type = field is None and quoted is None and _looks_like_type(value)
    return _Term(found["minus"] == "-", "type" if is_type else field or "", value)


def _looks_like_type(word: str) -> bool:
    return "*" in word or word in CATALOGUE or _TYPE.fullmatch(word) is not None


def _groups(terms: Iterable[_Term]) -> list[list[Matches]]:
    """Words must all be there; of the values of one field one is enough."""
    by_field: dict[str, list[Matches]] = {}
    for at, term in enumerate(terms):
        by_field.setdefault(term.field or f"word {at}", []).append(_matcher(term))
    return list(by_field.values())


def _matcher(term: _Term) -> Matches:
    field, value = term.field, term.value
    sought = value.lower()
    if field == "":
        return lambda event: sought in _searched(event)
    if field in ("cycle", "day"):
        return _number_matcher(field, value)
    if field == "ts":
        return _time_matcher(value)
    if field == "id":
        return lambda event: event.get("id") == value
    if field == "by":
        return lambda event: str(event.get("by") or "").startswith(value)
    path = field.split(".")
    return lambda event: _holds(_at(event.get("data"), path), sought)


def _number_matcher(field: str, text: str) -> Matches:
    found = _NUMBERS.fullmatch(text)
    if found is None:
        raise FilterError(f"filter: {field}:{text[:40]}: expected a number, or two with '..' between")
    least, most = int(found[1]), int(found[2] or found[1])
    if most < least:
        raise FilterError(f"filter: {field}:{text[:40]}: the first is the larger one")
    return lambda event: isinstance(number := event.get(field), int | float) and least <= number <= most


def _time_matcher(text: str) -> Matches:
    found = _TIMES.fullmatch(text)
    if found is None:
        raise FilterError(f"filter: ts:{text[:40]}: expected a time, 2026-02-14T19:01, or two with '..' between")
    least, most = found[1], found[2] or found[1]
    if most < least[: len(most)]:
        raise FilterError(f"filter: ts:{text[:40]}: the first is the later one")
    # Texts of one form, in UTC: they are in order as their times are; and a minute has all of its seconds.
    return lambda event: isinstance(ts := event.get("ts"), str) and least <= ts and ts[: len(most)] <= most


def _at(value: object, path: list[str]) -> object:
    for key in path:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(key)
        elif isinstance(value, list):
            elements = cast("list[object]", value)
            value = elements[int(key)] if _INDEX.fullmatch(key) and int(key) < len(elements) else None
        else:
            return None
    return value


def _holds(value: object, sought: str) -> bool:
    if isinstance(value, list):
        return any(_holds(element, sought) for element in cast("list[object]", value))
    if isinstance(value, str):
        return sought in value.lower()
    return isinstance(value, bool | int | float) and _scalar(value) == sought


def _searched(event: Mapping[str, Any]) -> str:
    try:
        return f"{event.get('type', '')} {_written(event.get('data'))}".lower()
    except RecursionError:  # data that never went through an emitter may be of any depth
        return str(event.get("type", "")).lower()


def _written(value: object) -> str:
    """JSON as JavaScript writes it."""
    if isinstance(value, dict):
        tree = cast("dict[str, object]", value)
        return "{" + ",".join(f"{_text(key)}:{_written(each)}" for key, each in tree.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(each) for each in cast("list[object]", value)) + "]"
    if isinstance(value, bool | int | float):
        return _scalar(value)
    return "null" if value is None else _text(str(value))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _scalar(value: bool | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return whole_text(value) or repr(float(value)).replace("e-0", "e-")
