"""The fast path of `emit()`: data that is JSON's own types already is copied in C, and goes to the encoder as it is."""

from __future__ import annotations

from gc import get_referents
from itertools import chain
from marshal import dumps, loads
from operator import length_hint
from typing import Any, Final, cast

__all__ = ["DEPTH_MAX", "as_fields", "flat_copy", "is_dict", "is_plain", "plain_copy"]

DEPTH_MAX: Final = 32
FLAT_FIELDS_MAX: Final = 200

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BRANCHES: Final = frozenset({dict, list, tuple})
# By id: asking a set for a type would run the `__hash__` and `__eq__` of its metaclass, which may raise and lie.
_SCALAR_IDS: Final = frozenset(map(id, _SCALARS))
_PLAIN_IDS: Final = frozenset(map(id, _SCALARS | _BRANCHES))


def flat_copy(data: Any, chars_max: int) -> dict[str, Any] | None:
    """A copy of a dict of texts, numbers, booleans and None, as most events have it; None for anything else.

    The copy is made in C, so nobody changes it between being looked at and being encoded.

    Args:
        data: anything.
        chars_max: if its texts and keys are longer than that together, it is not for the fast path either.
    """
    # isinstance and cast would narrow the same, for the price of the loop below.
    if type(data) is not dict or len(data) > FLAT_FIELDS_MAX:  # pyright: ignore[reportUnknownArgumentType]
        return None
    copy: dict[Any, Any] = data.copy()  # pyright: ignore[reportUnknownVariableType]
    for key, value in copy.items():
        if type(key) is not str:
            return None
        chars_max -= len(key)
        if type(value) is str:
            chars_max -= len(value)
        elif id(type(value)) not in _SCALAR_IDS:  # pyright: ignore[reportUnknownArgumentType]
            return None
    return copy if chars_max >= 0 else None


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
    if type(data) is dict and len(cast("dict[object, object]", data)) > bytes_max:
        return False
    level: list[object] = [data]
    left = bytes_max
    for _ in range(DEPTH_MAX):
        # The keys are looked at by themselves: a dict whose keys are all texts does not show them to `get_referents`.
        dicts: list[Any] = [value for value in level if type(value) is dict]
        level = get_referents(*level)
        is_last = _SCALAR_IDS.issuperset(map(id, map(type, level)))
        if not (is_last or _PLAIN_IDS.issuperset(map(id, map(type, level)))):
            return False
        try:
            left -= sum(map(length_hint, level)) + sum(map(str.__len__, chain.from_iterable(dicts)))
        except (TypeError, RuntimeError):  # a key that is no text; another thread added one
            return False
        if left < 0 or is_last:
            return left >= 0
        level = [value for value in level if type(value) in _BRANCHES]
    return False


def plain_copy(data: object, *, bytes_max: int) -> Any:
    """A copy of a tree that is plain; None if it is not.

    What the encoder gets must be nobody else's: between looking and encoding, another thread may put in what is not
    plain, and change the container that it stands in while the encoder reads it. The copy is made in C, at one go.
    What `marshal` copies beyond JSON's own types the encoder refuses.
    """
    try:
        return loads(dumps(cast("Any", data), 2)) if is_plain(data, bytes_max=bytes_max) else None  # noqa: S302 - its own bytes
    except (ValueError, MemoryError):  # something else is in there by now; or there is no room for another one
        return None


def as_fields(data: object) -> object:
    """What stands under `data`: always an object."""
    if data is None:
        return {}
    return data if is_dict(data) else {"value": data}


def is_dict(data: object) -> bool:
    """Whether it is a dict, and not only says so."""
    kind: type = type(data)  # not isinstance, which would ask the object's own idea of `__class__`
    return issubclass(kind, dict)
