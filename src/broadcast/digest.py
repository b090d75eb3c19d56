"""One line that says what an event holds, and texts of strangers made safe to print.

`digest.ts` and `printable.ts` in `web/dashboard` are this module's twins; `tests/golden/digests.json` holds
both to it.

The template language of `broadcast.catalogue`:

- `{a}` or `{a.b}` is a hole: the value at that path of the data. A list shows its elements with ", " between
  them; an element that is an object shows its `desc`, `name` or `id`, where it has one.
- `{#a}` shows the number of a list's elements, and any other value as `{a}` does.
- `{a|context|contexts}` and `{#a|context|contexts}` show the number and the word for it: `1 context`, `7 contexts`.
- `[…]` is left out if a hole in it is empty: missing, null, an empty text, or an empty list without `#`.
- All else stands for itself. A template whose holes are all empty shows the data as JSON, and so does a type
  without template.

Values: a text as it is; a number as JavaScript reads it (a double), whole ones with all their digits, others
with at most three decimals, ties away from zero, no trailing zeros; NaN and infinities are null; everything
else is compact JSON, an object's keys in JavaScript's order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final, cast

from broadcast.catalogue import CATALOGUE

__all__ = ["digest", "printable", "whole_text"]

CHARS_MAX: Final = 160
_NAMING_KEYS: Final = ("desc", "name", "id")
_THREE_DECIMALS: Final = Decimal("0.001")
_DECIMALS: Final = Context(prec=40)  # not the process's own, which somebody may have changed
_INDEX_MAX: Final = 2**32 - 2
_SHORT_ESCAPES: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
# C0 and C1 controls and DEL, Arabic letter mark, directional marks, line and paragraph separators, embeddings
# and overrides, isolates, and lone surrogates, which no terminal's encoding takes.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def digest(event: Mapping[str, Any]) -> str:
    """What an event holds, in at most 160 characters. Not escaped: `printable` does that.

    Args:
        event: decoded or delivered; whatever JSON its data is, this does not raise.
    """
    data = event.get("data", {})
    template = _TEMPLATES.get(event.get("type", ""))
    if template is None or all(_is_empty(data, hole) for section in template for hole in section.holes):
        return _cut(_compact(data))
    return _cut(_filled(template, data))


def printable(text: str) -> str:
    r"""The text with its control and direction characters as visible escapes: `\n`, `\x1b`, `\u202e`."""
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), text)


@dataclass(frozen=True, slots=True)
class _Section:
    optional: bool
    parts: tuple[str, ...]
    """Text and hole in turn."""

    @property
    def holes(self) -> tuple[str, ...]:
        return self.parts[1::2]


def _sections(template: str) -> tuple[_Section, ...]:
    return tuple(
        _Section(i % 2 == 1, tuple(re.split(r"\{(#?[a-z0-9_.]+(?:\|[a-z]+\|[a-z]+)?)\}", text)))
        for i, text in enumerate(re.split(r"\[([^\]]*)\]", template))
    )


_TEMPLATES: Final = {name: _sections(event_type.digest) for name, event_type in CATALOGUE.items()}


# From here on everything is lazy: 160 characters are shown of data that may have 64 KiB and any depth.


def _filled(template: Iterable[_Section], data: object) -> Iterator[str]:
    for section in template:
        if section.optional and any(_is_empty(data, hole) for hole in section.holes):
            continue
        for i, part in enumerate(section.parts):
            if i % 2 == 0:
                yield part
            else:
                yield from _hole_text(data, part)


def _is_empty(data: object, hole: str) -> bool:
    value = _found(data, hole)
    return value is None or value == "" or (value == [] and not hole.startswith("#"))


def _hole_text(data: object, hole: str) -> Iterator[str]:
    value = _found(data, hole)
    _, *words = hole.split("|")
    if value is None:
        yield from words[1:]
        return
    if isinstance(value, list) and hole.startswith("#"):
        value = len(cast("list[object]", value))
    if isinstance(value, list):
        yield from _joined(cast("list[object]", value))
    else:
        yield from _shown(value)
    if words:
        yield f" {words[0] if value == 1 and not isinstance(value, bool) else words[1]}"


def _found(data: object, hole: str) -> object:
    value = data
    for key in hole.partition("|")[0].removeprefix("#").split("."):
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, object]", value).get(key)
    return None if isinstance(value, int | float) and _number_text(value) == "null" else value


def _joined(elements: list[object]) -> Iterator[str]:
    for i, element in enumerate(elements):
        if i > 0:
            yield ", "
        yield from _shown(_named(element))


def _named(element: object) -> object:
    """What names an object among others, where it has such a thing."""
    for key in _NAMING_KEYS:
        name = _found(element, key)
        if isinstance(name, str | int | float) and not isinstance(name, bool) and name != "":
            return name
    return element


def _shown(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        yield from _compact(value)


def _compact(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from _compact_list(cast("list[object]", value))
    elif isinstance(value, dict):
        yield from _compact_object(cast("dict[str, object]", value))
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        yield json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int | float):
        yield _number_text(value)
    else:  # no JSON: data that never went through the log
        yield json.dumps(str(value), ensure_ascii=False)


def _compact_list(elements: list[object]) -> Iterator[str]:
    yield "["
    for i, element in enumerate(elements):
        if i > 0:
            yield ","
        yield from _compact(element)
    yield "]"


def _compact_object(tree: dict[str, object]) -> Iterator[str]:
    before = "{"
    for key in _keys(tree):
        yield f"{before}{json.dumps(key, ensure_ascii=False)}:"
        yield from _compact(tree[key])
        before = ","
    yield "{}" if before == "{" else "}"


def _keys(tree: dict[str, object]) -> Iterable[str]:
    indices = sorted((key for key in tree if _is_index(key)), key=int)
    # JavaScript puts what could be an array's index first, in its order.
    return tree if not indices else [*indices, *(key for key in tree if not _is_index(key))]


def _is_index(key: str) -> bool:
    plain = key.isascii() and key.isdecimal() and len(key) <= 10
    return plain and str(int(key)) == key and int(key) <= _INDEX_MAX


def whole_text(value: float) -> str | None:
    """A number as JavaScript's JSON has it; None for one with decimals."""
    try:
        double = float(value)
    except OverflowError:  # an integer of hundreds of digits; JavaScript reads it as infinite
        return "null"
    if not math.isfinite(double):
        return "null"
    if not double.is_integer():
        return None
    # The shortest digits that mean this double, then zeros: exact up to 2**53. From 1e21 on an exponent.
    return str(int(Decimal(repr(double)))) if abs(double) < 1e21 else repr(double)


def _number_text(value: float) -> str:
    if (whole := whole_text(value)) is not None:
        return whole
    rounded = Decimal(value).quantize(_THREE_DECIMALS, ROUND_HALF_UP, _DECIMALS)
    text = f"{rounded:f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _cut(pieces: Iterable[str]) -> str:
    text = ""
    for piece in pieces:
        text += piece
        if len(text) > CHARS_MAX:
            return text[: CHARS_MAX - 1] + "…"
    return text


def _escaped(character: str) -> str:
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
