"""The text of any object: user code that may raise, hang on a huge number or end the process, asked with care."""

from __future__ import annotations

from _thread import stack_size
from gc import get_referents, is_tracked
from sys import getrecursionlimit
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import Any, Final, cast

__all__ = ["ARRAY_ITEMS_MAX", "name_of", "shape_of", "str_of", "text_of_int"]

ARRAY_ITEMS_MAX: Final = 1_000
"""So many items of an array are worth an event."""
NAME_CHARS_MAX: Final = 256
INT_BITS_MAX: Final = 10_000
RECURSION_LIMIT_SAFE: Final = 3_000
"""A usual stack (8 MiB) has room for so many calls in C; under a higher limit no RecursionError comes in time."""
DEPTH_MAX: Final = 32
NODES_MAX: Final = 10_000

_PRINTS_NOTHING, _STR = object.__repr__, object.__str__
_CODE: Final = (FunctionType, CodeType, FrameType, GeneratorType, CoroutineType, AsyncGeneratorType)
_LEAVES: Final = (type, ModuleType, *_CODE)  # they hold half the program, and say their name alone


def str_of(value: object) -> str:
    """Make the `str` of any object; of one that has none, or a dangerous one, what kind it is. Of any length."""
    try:
        if _is_deep(value):
            return f"<{name_of(type(value))}: too deep>"
        # The outer call makes an exact str of it: __str__ may return a subclass with a mind of its own.
        return str.__str__(str(value))
    except BaseException:  # noqa: BLE001 - __str__ may raise anything, SystemExit included
        return f"<{name_of(type(value))}: no text>"


def shape_of(value: object) -> str:
    """What a large array or table is; its text may take minutes, if somebody wants all of it printed. Else nothing."""
    try:
        if not hasattr(type(value), "shape"):
            return ""
        size, shape, kind = (getattr(value, name, None) for name in ("size", "shape", "dtype"))
        if type(size) is int and size > ARRAY_ITEMS_MAX and type(shape) is tuple:
            return f"<{name_of(type(value))}: shape {str_of(cast('object', shape))}{f', {kind}' if kind else ''}>"
    except BaseException:  # noqa: BLE001 - attributes may raise anything
        return ""
    return ""


def text_of_int(value: int) -> str:
    """Make the digits of a whole number, or say how long it is."""
    try:
        # str() of a huge int takes quadratic time, and raises past a limit that the host may have set lower.
        if value.bit_length() <= INT_BITS_MAX:
            return str(value)
    except ValueError:
        pass
    return f"<int of {value.bit_length():,} bits>"


def name_of(kind: type) -> str:
    """The name of a type, bounded."""
    # Past the metaclass, which may have its own idea of `__name__`.
    name: str = type.__dict__["__name__"].__get__(kind)
    return name[:NAME_CHARS_MAX]


def _is_deep(value: object) -> bool:
    """Whether `str(value)` might need more of the stack than there is, and end the process.

    Most texts are made by calling one another in C, as deep as containers and objects lie in one another. That ends
    in a RecursionError, unless the host has raised the limit, or made the stacks of its threads smaller.
    """
    if getrecursionlimit() <= RECURSION_LIMIT_SAFE and not stack_size():
        return False
    level: list[Any] = [value]
    left = NODES_MAX
    for _ in range(DEPTH_MAX):
        level = [each for each in level if is_tracked(each) and _prints_others(type(each))]
        left -= len(level)
        if not level or left < 0:
            break
        level = get_referents(*level)
    return bool(level)


def _prints_others(kind: Any) -> bool:
    return not (issubclass(kind, _LEAVES) or (kind.__repr__ is _PRINTS_NOTHING and kind.__str__ is _STR))
