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
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from enum import Enum
from gc import get_referents
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from broadcast.plain import DEPTH_MAX
from broadcast.texts import ARRAY_ITEMS_MAX, name_of, shape_of, str_of, text_of_int

__all__ = ["MATCH_CHARS_MAX", "REDACTED", "Redactor", "sanitize_data", "sanitize_number", "sanitize_text"]

NODES_MAX: Final = 10_000
BYTES_MAX: Final = 48 * 1024
TEXT_CHARS_MAX: Final = 16 * 1024
KEY_CHARS_MAX: Final = 256
UNKNOWN_CHARS_MAX: Final = 1_000
NUMBER_CHARS_MAX: Final = 64
COPY_TRIES: Final = 3

MATCH_CHARS_MAX: Final = 16 * 1024
"""So much behind a cut is looked at where something is redacted: no match up to this length is shown in part."""
SCANS_MAX: Final = 16
"""And so many times that in one walk, besides four times its bytes; what is left then is cut."""

CUT_KEY: Final = "broadcast.cut"
REDACTED: Final = "[redacted]"

_INT64: Final = range(-(2**63), 2**64)


class Redactor(Protocol):
    """Says what must not be told; see `emitter/redaction.py`."""

    def hides(self, key: object, name: str) -> bool:
        """Whether the value under a key is hidden, whatever it is; `name` is the key's text."""
        ...

    def cut(self, text: str, chars_max: int) -> tuple[str, int]:
        """The beginning of a text without what must not be told, and how many characters are behind it."""
        ...


def sanitize_data(
    data: object,
    *,
    bytes_max: int = BYTES_MAX,
    text_chars_max: int = TEXT_CHARS_MAX,
    redactor: Redactor | None = None,
) -> dict[str, Any]:
    """Make the `data` of an event: always an object.

    Args:
        data: anything; None gives `{}`, what has no fields or keys gives `{"value": …}`.
        bytes_max: how many bytes it may hold in all, about.
        text_chars_max: how many characters one text may hold.
        redactor: what must not be told; None tells all.

    Returns:
        A tree of dict, list, str, int, float, bool and None with text keys, no NaN, no NUL, no lone surrogate. Where
        a budget cut something, the object says so under `broadcast.cut`.
    """
    walk = _Walk(bytes_max, text_chars_max, redactor)
    clean: object = {} if data is None else walk.value(data, DEPTH_MAX)
    if type(clean) is dict:
        tree = cast("dict[str, Any]", clean)
    else:
        tree = {"value": REDACTED if walk.hides("value", "value") else clean}
    if walk.cut:
        tree[CUT_KEY] = sorted(walk.cut)
    return tree


def sanitize_text(value: object, *, chars_max: int) -> str:
    """Make a text that is valid UTF-8 without NUL, of at most `chars_max` characters and a note of what was cut."""
    return _Walk(BYTES_MAX, chars_max).text(value if type(value) is str else str_of(value), chars_max)


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
    return whole if whole in _INT64 else sanitize_text(text_of_int(whole), chars_max=NUMBER_CHARS_MAX)


class _Walk:
    """One walk over one tree; holds what is left of the budgets and the containers it is inside of."""

    def __init__(self, bytes_max: int, text_chars_max: int, redactor: Redactor | None = None) -> None:
        self.nodes_left = NODES_MAX
        self.bytes_left = bytes_max
        self.scans_left = 4 * bytes_max + SCANS_MAX * MATCH_CHARS_MAX
        self.text_chars_max = text_chars_max
        self.redactor = redactor
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
        text, behind = self._head(text, max(0, min(chars_max, self.bytes_left)))
        if behind:
            self.cut.add("text")
            text = f"{text}… ({behind:,} more characters)"
        return self._valid(text)

    def _head(self, text: str, chars_max: int) -> tuple[str, int]:
        """The beginning of a text, and how many characters are behind it."""
        length = str.__len__(text)  # a subclass may lie about it, and is not copied whole
        if self.redactor is None:
            return str.__getitem__(text, slice(chars_max)), max(0, length - chars_max)
        if self.scans_left <= 0:
            return "", length
        self.scans_left -= min(length, chars_max + MATCH_CHARS_MAX)
        return self.redactor.cut(text, chars_max)

    def hides(self, key: object, name: str) -> bool:
        return self.redactor is not None and self.redactor.hides(key, name)

    def _hidden(self) -> str:
        self.nodes_left -= 1
        self.bytes_left -= len(REDACTED) + 6
        return REDACTED

    def _valid(self, text: str) -> str:
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
        return self.text(text_of_int(value), self.text_chars_max)

    def _float(self, value: float) -> float | None:
        self.bytes_left -= 14
        return value if math.isfinite(value) else None  # as the encoder's fast path has it: JSON knows no NaN

    def _about(self, kind: type, what: str) -> str:
        return self.text(f"<{name_of(kind)}: {what}>", UNKNOWN_CHARS_MAX)

    def _container_or_object(self, value: object, kind: type, depth_left: int) -> object:
        if id(value) in self.inside:
            self.cut.add("circular")
            return self._about(kind, "circular")
        self.inside.add(id(value))
        try:
            if type(kind) is not type:  # its metaclass may lie about equality
                return self._object(value, depth_left)
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
            text = key if type(key) is str else str_of(key)
            name = self._key(text, clean, repeats)
            clean[name] = self._hidden() if self.hides(key, text) else self.value(item, depth_left - 1)
        return clean

    def _key(self, key: str, taken: dict[str, object], repeats: dict[str, int]) -> str:
        name = text = self.text(key, KEY_CHARS_MAX)
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
        if isinstance(value, str):
            return self.text(anything, self.text_chars_max)
        if (base := next((base for base in _BINARIES if isinstance(value, base)), None)) is not None:
            return self._binary(anything, base)
        other = _replaced(anything)
        return self._printed(value) if other is _UNKNOWN else self.value(other, depth_left - 1)

    def _binary(self, value: object, base: Any) -> str:
        # Through the base type: a subclass may give a number, of which bytes() makes so many zeros.
        kept = base.__getitem__(value, slice(self.text_chars_max))
        text, more = bytes(kept).decode("utf-8", "backslashreplace"), base.__len__(value) - len(kept)
        if self.redactor is None:
            text = self.text(text, self.text_chars_max)
        else:
            # A character has at most 4 bytes; some more for one that is cut in two and shown as escapes.
            seen = bytes(base.__getitem__(value, slice(self.text_chars_max + 4 * MATCH_CHARS_MAX + 64)))
            keep = max(0, min(len(text), self.text_chars_max, self.bytes_left))
            text, behind = self._head(seen.decode("utf-8", "backslashreplace"), keep)
            text, more = self._valid(text), max(more, behind)
        if more:
            self.cut.add("text")
            text += f"… ({more:,} more)"
        return text

    def _printed(self, value: object) -> str:
        text = shape_of(value)
        if text:
            self.cut.add("items")
        return self.text(text or str_of(value), min(UNKNOWN_CHARS_MAX, self.text_chars_max))


def _replaced(value: object) -> object:
    """What an object becomes; the walk goes on with that."""
    if isinstance(value, int | float):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if type(value) is MappingProxyType:
        return get_referents(cast("object", value))[0]  # what it shows, without a copy
    return _unfolded(value)


def _unfolded(value: object) -> object:
    """An object with fields as a dict of them, a small array as a list, anything else is unknown."""
    kind: Any = type(value)
    if (fields := getattr(kind, "__dataclass_fields__", None)) is not None:
        return {name: getattr(value, name, None) for name in islice(fields, NODES_MAX)}
    if callable(dump := getattr(kind, "model_dump", None)):
        return dump(value)
    if callable(to_list := getattr(kind, "tolist", None)):
        size = getattr(value, "size", None)
        if type(size) is int and size <= ARRAY_ITEMS_MAX:
            return _listed(value, to_list)
    return _UNKNOWN


def _listed(value: Any, to_list: Callable[[Any], object]) -> object:
    """A small array of numpy or its kin, or one of their scalars."""
    code = getattr(getattr(value, "dtype", None), "char", "")
    if code not in ("m", "M", "g", "G"):
        return to_list(value)
    # Python knows no such numbers: `tolist` gives nanoseconds without their unit, or the very same scalar again.
    if getattr(value, "shape", ()):
        return list(value)
    return float(value) if code == "g" else _UNKNOWN


_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict})
_EMPTY: Final[dict[str, None]] = {}
_VIEWS: Final = frozenset({type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items())})
_SEQUENCES: Final[frozenset[Any]] = frozenset({list, tuple, set, frozenset, deque, array}) | _VIEWS
_BINARIES: Final[tuple[Any, ...]] = (bytes, bytearray, memoryview)
_UNKNOWN: Final = object()
