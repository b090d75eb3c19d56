"""Any Python object → a JSON-safe tree within budgets.

The slow path of `emit()`: taken when the encoder may not have the data, never trusted to fail. The walk dispatches on
exact types, copies every container before it looks inside (another thread may change it meanwhile), counts depth, nodes
and bytes against budgets that do not depend on the interpreter's recursion limit, and calls user code (`str`,
iteration) only where nothing else is left, inside a guard.

What was cut is said where it was cut: `… (1,204 more)`, and in the event's data under `broadcast.cut`.
"""

from __future__ import annotations

import math
import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from enum import Enum
from gc import get_referents
from itertools import islice
from operator import length_hint
from typing import Any, Final, cast

__all__ = ["is_plain", "sanitize_data", "sanitize_number", "sanitize_text"]

DEPTH_MAX: Final = 32
NODES_MAX: Final = 10_000
BYTES_MAX: Final = 48 * 1024
TEXT_CHARS_MAX: Final = 16 * 1024
KEY_CHARS_MAX: Final = 256
UNKNOWN_CHARS_MAX: Final = 1_000
NUMBER_CHARS_MAX: Final = 64
INT_BITS_MAX: Final = 10_000
COPY_TRIES: Final = 3

CUT_KEY: Final = "broadcast.cut"

_INT64: Final = range(-(2**63), 2**64)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BRANCHES: Final = frozenset({dict, list, tuple})
_PLAIN: Final = _SCALARS | _BRANCHES


def is_plain(data: object, *, bytes_max: int) -> bool:
    """Whether the tree holds nothing but JSON's own types, exactly, and is neither deep nor surely too large.

    An encoder in C that meets anything else may run Python code (`Enum.value` is some), which may change the very
    container it is walking over; and it may not survive running out of memory. Either ends the process. So this looks
    first, at a level of the tree at a time, all in C.

    Args:
        data: a container.
        bytes_max: if its texts and containers count more than that together, its JSON is longer; a list that holds
            itself twice has no end.
    """
    if type(data) is dict:
        # As a rule there is one level. It is copied in C, so that nobody changes it while this looks at it.
        left = bytes_max
        for value in tuple(cast("dict[object, object]", data).values()):
            kind = type(value)
            if kind is str:
                left -= len(cast("str", value))
            elif kind not in _SCALARS:
                break
        else:
            return left >= 0
    level: list[object] = [data]
    left = bytes_max
    for _ in range(DEPTH_MAX):
        level = get_referents(*level)
        is_last = _SCALARS.issuperset(map(type, level))
        if not (is_last or _PLAIN.issuperset(map(type, level))):
            return False
        left -= sum(map(length_hint, level))
        if left < 0 or is_last:
            return left >= 0
        level = [value for value in level if type(value) in _BRANCHES]
    return False


def sanitize_data(data: object, *, bytes_max: int = BYTES_MAX, text_chars_max: int = TEXT_CHARS_MAX) -> dict[str, Any]:
    """Make the `data` of an event: always an object.

    Args:
        data: anything; None gives `{}`, what has no fields or keys gives `{"value": …}`.
        bytes_max: how many bytes it may hold in all, about.
        text_chars_max: how many characters one text may hold.

    Returns:
        A tree of dict, list, str, int, float, bool and None with text keys, no NaN, no NUL, no lone surrogate. Where
        a budget cut something, the object says so under `broadcast.cut`.
    """
    walk = _Walk(bytes_max, text_chars_max)
    clean: object = {} if data is None else walk.value(data, DEPTH_MAX)
    tree = cast("dict[str, Any]", clean) if type(clean) is dict else {"value": clean}
    if walk.cut:
        tree[CUT_KEY] = sorted(walk.cut)
    return tree


def sanitize_text(value: object, *, chars_max: int) -> str:
    """Make a text that is valid UTF-8 without NUL, of at most `chars_max` characters and a note of what was cut."""
    return _Walk(BYTES_MAX, chars_max).text(value if type(value) is str else _str_of(value), chars_max)


def sanitize_number(value: object) -> int | str:
    """Make a whole number of anything that is one (numpy's and floats too); None is 0, anything else a short text."""
    if value is None:
        return 0
    try:
        whole = (
            int(value) if isinstance(value, float) and value.is_integer() else int(operator.index(cast("Any", value)))
        )
    except BaseException:  # noqa: BLE001 - __index__ may raise anything
        return sanitize_text(value, chars_max=NUMBER_CHARS_MAX)
    return whole if whole in _INT64 else sanitize_text(_text_of_int(whole), chars_max=NUMBER_CHARS_MAX)


class _Walk:
    """One walk over one tree; holds what is left of the budgets and the containers it is inside of."""

    def __init__(self, bytes_max: int, text_chars_max: int) -> None:
        self.nodes_left = NODES_MAX
        self.bytes_left = bytes_max
        self.text_chars_max = text_chars_max
        self.inside: set[int] = set()
        self.cut: set[str] = set()

    def value(self, value: object, depth_left: int) -> object:
        self.nodes_left -= 1
        self.bytes_left -= 6  # the comma, and a short value; the long ones pay for themselves
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(cast("str", value), self.text_chars_max)
        if kind is int:
            return self._integer(cast("int", value))
        if kind is float:
            return self._float(cast("float", value))
        if depth_left <= 0:
            self.cut.add("depth")
            return self._about(kind, "too deep")
        return self._container_or_object(value, kind, depth_left)

    def text(self, text: str, chars_max: int) -> str:
        if type(text) is not str:
            text = str.__str__(text)  # a subclass may lie about its length
        keep = max(0, min(chars_max, self.bytes_left))
        if len(text) > keep:
            self.cut.add("text")
            text = f"{text[:keep]}… ({len(text) - keep:,} more characters)"
        if "\x00" in text:
            text = text.replace("\x00", "\ufffd")
        # Encoding is the only exact test for lone surrogates; PostgreSQL's jsonb and every strict reader refuse them.
        raw = text.encode("utf-8", "backslashreplace")
        self.bytes_left -= len(raw)
        return raw.decode("utf-8")

    def _integer(self, value: int) -> int | str:
        if value in _INT64:
            self.bytes_left -= value.bit_length() // 4
            return value
        return self.text(_text_of_int(value), self.text_chars_max)

    def _float(self, value: float) -> float | None:
        self.bytes_left -= 14
        return value if math.isfinite(value) else None  # as the encoder's fast path has it: JSON knows no NaN

    def _about(self, kind: type, what: str) -> str:
        return self.text(f"<{_name_of(kind)}: {what}>", UNKNOWN_CHARS_MAX)

    def _container_or_object(self, value: object, kind: type, depth_left: int) -> object:
        if id(value) in self.inside:
            self.cut.add("circular")
            return self._about(kind, "circular")
        self.inside.add(id(value))
        try:
            if kind in _MAPPINGS:
                return self._mapping(cast("dict[object, object]", value), depth_left)
            if kind in _SEQUENCES:
                return self._sequence(value, kind, depth_left)
            return self._object(value, depth_left)
        finally:
            self.inside.discard(id(value))

    @property
    def _full(self) -> bool:
        return self.nodes_left <= 0 or self.bytes_left <= 0

    def _mapping(self, value: dict[object, object], depth_left: int) -> dict[str, object]:
        clean: dict[str, object] = {}
        repeats: dict[str, int] = {}
        base: Any = dict  # a subclass may lie about its items
        items = self._copied(lambda: iter(base.items(value)))
        for key, item in items:
            if self._full:
                self.cut.add("items")
                clean["…"] = f"{base.__len__(value) - len(clean):,} more"
                break
            name = self._key(key, clean, repeats)
            clean[name] = self.value(item, depth_left - 1)
        return clean

    def _key(self, key: object, taken: dict[str, object], repeats: dict[str, int]) -> str:
        text = self.text(key if type(key) is str else _str_of(key), KEY_CHARS_MAX)
        name = text
        while name in taken:
            # Counted on from the last one: ten thousand keys of one text must not cost their square.
            repeats[text] = repeats.get(text, 1) + 1
            name = f"{text} ({repeats[text]})"
        return name

    def _sequence(self, value: object, base: Any, depth_left: int) -> list[object]:
        items = self._copied(lambda: base.__iter__(value))
        clean: list[object] = []
        for item in items:
            if self._full:
                self.cut.add("items")
                clean.append(f"… ({base.__len__(value) - len(clean):,} more)")
                break
            clean.append(self.value(item, depth_left - 1))
        return clean

    def _copied(self, iterator: Callable[[], Iterator[Any]]) -> list[Any]:
        """The first items, as many as the budget has and one more, copied by one C call."""
        for _ in range(COPY_TRIES):
            try:
                return list(islice(iterator(), max(0, self.nodes_left) + 1))
            except RuntimeError:  # another thread or a finalizer changed its size meanwhile
                continue
        self.cut.add("changing")
        return []

    def _object(self, value: object, depth_left: int) -> object:
        try:
            return self._known_object(value, depth_left)
        except BaseException:  # noqa: BLE001 - user code of any kind ran; a second Ctrl-C reaches the caller
            return self._about(type(value), "could not be read")

    def _known_object(self, value: object, depth_left: int) -> object:
        anything: Any = value  # isinstance narrows to containers of what pyright does not know
        if isinstance(value, dict):
            return self._mapping(anything, depth_left)
        if (base := next((base for base in _SEQUENCES if isinstance(value, base)), None)) is not None:
            # A subclass may iterate for ever or lie about its length: copy through the base type's own iterator.
            return self._sequence(anything, base, depth_left)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._binary(anything)
        return self.value(_replaced(anything), depth_left - 1)

    def _binary(self, value: Any) -> str:
        raw = bytes(value[: self.text_chars_max])
        if len(value) > len(raw):
            self.cut.add("text")
        return self.text(raw.decode("utf-8", "backslashreplace"), self.text_chars_max)


def _replaced(value: object) -> object:
    """What an object becomes; the walk goes on with that."""
    if isinstance(value, str | int | float):
        return _exact(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return _unfolded(value)


def _exact(value: str | float) -> str | float:
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def _unfolded(value: object) -> object:
    """An object with fields as a dict of them, a small array as a list, anything else as its bounded `str`."""
    kind: Any = type(value)
    if (fields := getattr(kind, "__dataclass_fields__", None)) is not None:
        return {name: getattr(value, name, None) for name in islice(fields, NODES_MAX)}
    if callable(dump := getattr(kind, "model_dump", None)):
        return dump(value)
    if (size := getattr(value, "size", None)) is not None and callable(to_list := getattr(kind, "tolist", None)):
        # numpy and its kin; a large array says its shape instead of filling the log.
        return to_list(value) if isinstance(size, int) and size <= UNKNOWN_CHARS_MAX else _str_of(value)
    return _str_of(value)


def _str_of(value: object) -> str:
    try:
        # The outer call makes an exact str of it: __str__ may return a subclass with a mind of its own.
        text = str.__str__(str(value))
    except BaseException:  # noqa: BLE001 - __str__ may raise anything, SystemExit included
        return f"<{_name_of(type(value))}: no text>"
    return text if len(text) <= UNKNOWN_CHARS_MAX else f"{text[:UNKNOWN_CHARS_MAX]}…"


def _text_of_int(value: int) -> str:
    try:
        # str() of a huge int takes quadratic time, and raises past a limit that the host may have set lower.
        if value.bit_length() <= INT_BITS_MAX:
            return str(value)
    except ValueError:
        pass
    return f"<int of {value.bit_length():,} bits>"


def _name_of(kind: type) -> str:
    # Past the metaclass, which may have its own idea of `__name__`.
    name: str = type.__dict__["__name__"].__get__(kind)
    return name[:KEY_CHARS_MAX]


_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict})
_SEQUENCES: Final = frozenset({list, tuple, set, frozenset, deque})
