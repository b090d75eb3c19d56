"""Any Python object → a JSON-safe tree within budgets.

The slow path of `emit()`: taken when the encoder refuses the data, never trusted to fail. The walk dispatches on exact
types, copies every container before it looks inside (another thread may change it meanwhile), counts depth, nodes and
characters against budgets that do not depend on the interpreter's recursion limit, and calls user code (`str`,
iteration) only where nothing else is left, inside a guard.

What was cut is said where it was cut: `… (1,204 more)`, and in the event's data under `broadcast.cut`.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

__all__ = ["sanitize", "sanitize_data", "sanitize_text"]

DEPTH_MAX: Final = 32
NODES_MAX: Final = 10_000
CHARS_MAX: Final = 48 * 1024
TEXT_CHARS_MAX: Final = 16 * 1024
UNKNOWN_CHARS_MAX: Final = 1_000
INT_BITS_MAX: Final = 10_000

_INT64: Final = range(-(2**63), 2**64)
_CUT_KEY: Final = "broadcast.cut"


def sanitize_data(data: object, *, chars_max: int = CHARS_MAX) -> dict[str, Any]:
    """Make the `data` of an event: always an object.

    Args:
        data: anything; None gives `{}`, what is no mapping gives `{"value": …}`.
        chars_max: how many characters of text it may hold in all, about.

    Returns:
        A tree of dict, list, str, int, float, bool and None with text keys, no NaN, no NUL, no lone surrogate. Where
        a budget cut something, the object says so under `broadcast.cut`.
    """
    walk = _Walk(chars_max)
    clean = {} if data is None else walk.value(data, DEPTH_MAX)
    tree = cast("dict[str, Any]", clean) if type(clean) is dict else {"value": clean}
    if walk.cut:
        tree[_CUT_KEY] = sorted(walk.cut)
    return tree


def sanitize(value: object) -> object:
    """Make a JSON-safe tree of one value; see `sanitize_data` for what that means."""
    return _Walk(CHARS_MAX).value(value, DEPTH_MAX)


def sanitize_text(value: object, *, chars_max: int = 256) -> str:
    """Make a text that is valid UTF-8 without NUL, of at most `chars_max` characters."""
    return _Walk(CHARS_MAX).text(value if type(value) is str else _str_of(value), chars_max)


class _Walk:
    """One walk over one tree; holds what is left of the budgets and the containers it is inside of."""

    def __init__(self, chars_max: int) -> None:
        self.nodes_left = NODES_MAX
        self.chars_left = chars_max
        self.inside: set[int] = set()
        self.cut: set[str] = set()

    def value(self, value: object, depth_left: int) -> object:
        self.nodes_left -= 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(cast("str", value), TEXT_CHARS_MAX)
        if kind is int:
            return self._integer(cast("int", value))
        if kind is float:
            return self._float(cast("float", value))
        if depth_left <= 0:
            self.cut.add("depth")
            return f"<{kind.__name__}: too deep>"
        return self._container_or_object(value, kind, depth_left)

    def text(self, text: str, chars_max: int) -> str:
        keep = max(0, min(chars_max, self.chars_left))
        if len(text) > keep:
            self.cut.add("text")
            text = f"{text[:keep]}… ({len(text) - keep:,} more characters)"
        self.chars_left -= len(text)
        if "\x00" in text:
            text = text.replace("\x00", "\ufffd")
        # Encoding is the only exact test for lone surrogates; PostgreSQL's jsonb and every strict reader refuse them.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def _integer(self, value: int) -> int | str:
        if value in _INT64:
            return value
        # str() of a huge int raises past 4,300 digits and takes quadratic time before that.
        return str(value) if value.bit_length() <= INT_BITS_MAX else f"<int of {value.bit_length():,} bits>"

    def _float(self, value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    def _container_or_object(self, value: object, kind: type, depth_left: int) -> object:
        if id(value) in self.inside:
            self.cut.add("circular")
            return f"<{kind.__name__}: circular>"
        self.inside.add(id(value))
        try:
            if kind in _MAPPINGS:
                return self._mapping(cast("dict[object, object]", value), depth_left)
            if kind in _SEQUENCES:
                items = cast("list[object]", value)
                return self._sequence(iter(items), len(items), depth_left)
            return self._object(value, depth_left)
        finally:
            self.inside.discard(id(value))

    def _mapping(self, value: dict[object, object], depth_left: int) -> dict[str, object]:
        clean: dict[str, object] = {}
        # dict.items of the base type: a subclass may lie. The copy is one C call, so nobody changes it meanwhile.
        items = list(itertools.islice(dict.items(value), max(0, self.nodes_left) + 1))
        for key, item in items:
            if self.nodes_left <= 0:
                self.cut.add("items")
                clean["…"] = f"{len(value) - len(clean):,} more"
                break
            clean[self._key(key, clean)] = self.value(item, depth_left - 1)
        return clean

    def _key(self, key: object, taken: dict[str, object]) -> str:
        text = self.text(key if type(key) is str else _str_of(key), 256)
        if text not in taken:
            return text
        return next(name for i in itertools.count(2) if (name := f"{text} ({i})") not in taken)

    def _sequence(self, iterator: Iterator[object], length: int, depth_left: int) -> list[object]:
        items = list(itertools.islice(iterator, max(0, self.nodes_left) + 1))
        clean: list[object] = []
        for item in items:
            if self.nodes_left <= 0:
                self.cut.add("items")
                clean.append(f"… ({length - len(clean):,} more)")
                break
            clean.append(self.value(item, depth_left - 1))
        return clean

    def _object(self, value: object, depth_left: int) -> object:
        try:
            return self._known_object(value, depth_left)
        except BaseException:  # noqa: BLE001 - user code of any kind ran; a second Ctrl-C reaches the caller
            return f"<{type(value).__name__}: could not be read>"

    def _known_object(self, value: object, depth_left: int) -> object:
        if isinstance(value, str | int | float | bool):
            return self.value(_plain(value), depth_left)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value[:TEXT_CHARS_MAX]).decode("utf-8", "backslashreplace"), TEXT_CHARS_MAX)
        if isinstance(value, Enum):
            return self.value(value.value, depth_left - 1)
        if isinstance(value, datetime | date | time):
            return self.text(value.isoformat(), 64)
        if isinstance(value, _AS_TEXT):
            return self.text(str(value), TEXT_CHARS_MAX)
        if isinstance(value, dict):
            return self._mapping(cast("dict[object, object]", value), depth_left)
        if isinstance(value, list | tuple | set | frozenset | deque):
            # A subclass may iterate for ever or lie about its length: copy through the base type's own iterator.
            base: Any = next(b for b in _SEQUENCES if isinstance(value, b))
            return self._sequence(base.__iter__(value), base.__len__(value), depth_left)
        return self.value(_unfolded(value), depth_left - 1)


def _plain(value: str | float) -> str | float:
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def _unfolded(value: object) -> object:
    """An object with fields as a dict of them, a small array as a list, anything else as its bounded `str`."""
    kind: Any = type(value)
    if (fields := getattr(kind, "__dataclass_fields__", None)) is not None:
        return {name: getattr(value, name, None) for name in fields}
    if callable(dump := getattr(kind, "model_dump", None)):
        return dump(value)
    if (size := getattr(value, "size", None)) is not None and callable(to_list := getattr(kind, "tolist", None)):
        # numpy and its kin; a large array says its shape instead of filling the log.
        return to_list(value) if isinstance(size, int) and size <= UNKNOWN_CHARS_MAX else _str_of(value)
    return _str_of(value)


def _str_of(value: object) -> str:
    try:
        text = str(value)
    except BaseException:  # noqa: BLE001 - __str__ may raise anything, SystemExit included
        return f"<{type(value).__name__}: no text>"
    return text if len(text) <= UNKNOWN_CHARS_MAX else f"{text[:UNKNOWN_CHARS_MAX]}…"


_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict})
_SEQUENCES: Final = frozenset({list, tuple, set, frozenset, deque})
_AS_TEXT: Final = (Decimal, UUID, PurePath, timedelta)
