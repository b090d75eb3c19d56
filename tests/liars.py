"""Objects that lie about what they are. Not in a test module: pytest would ask them, and believe them."""

from __future__ import annotations

from typing import Any, NoReturn


def fail(*_arguments: Any) -> NoReturn:
    raise SystemExit


class ClassThatRaises(type):
    """Sets and dicts of types ask it for its hash."""

    __hash__ = fail
    __eq__ = fail
    __instancecheck__ = fail
    __subclasscheck__ = fail
    __getattribute__ = fail


class ClassThatLies(type):
    def __hash__(cls) -> int:
        return hash(dict)

    def __eq__(cls, _other: object) -> bool:
        return True


class OfRaisingClass(metaclass=ClassThatRaises):
    pass


class OfLyingClass(metaclass=ClassThatLies):
    def __str__(self) -> str:
        return "me"


class Everything:
    """Whatever Python may ask it for, it raises what is no Exception."""

    __class__ = property(fail)
    __hash__ = fail
    __eq__ = __iter__ = __len__ = __getattr__ = __getattribute__ = fail
    __format__ = __bool__ = __index__ = __int__ = __float__ = __length_hint__ = fail
    __contains__ = __getitem__ = __call__ = __repr__ = __str__ = fail


class Real(float):
    """Each of its ways to be a number is another one."""

    def __float__(self) -> float:
        return 1.0

    def __repr__(self) -> str:
        return "NaN"

    is_integer = as_integer_ratio = __index__ = __int__ = __trunc__ = __round__ = fail


class Whole(int):
    def __int__(self) -> int:
        return 1

    bit_length = __repr__ = __str__ = __eq__ = fail
    __hash__ = None  # type: ignore[assignment]


class Text(str):
    def encode(self, *_arguments: Any) -> bytes:
        return b"\xff"

    replace = __str__ = __contains__ = __len__ = __getitem__ = __format__ = __iter__ = fail


class Raw(bytes):
    """Of a number, bytes() makes so many zeros."""

    def __getitem__(self, _at: Any) -> Any:
        return 10**9

    def __len__(self) -> int:
        return 10**9

    decode = __bytes__ = fail  # type: ignore[assignment]


class Items(list[Any]):
    __len__ = __iter__ = __getitem__ = __length_hint__ = fail


class Fields(dict[Any, Any]):
    __len__ = __iter__ = __getitem__ = __contains__ = keys = values = items = get = copy = fail


LIARS: dict[str, tuple[Any, Any]] = {
    "class that raises": (OfRaisingClass(), "<OfRaisingClass: could not be read>"),
    "class that lies": (OfLyingClass(), "me"),
    "everything raises": (Everything(), "<Everything: could not be read>"),
    "float": (Real(2.5), 2.5),
    "float that is none": (Real("nan"), None),
    "int": (Whole(7), 7),
    "long int": (Whole(10**5000), "<int of 16,610 bits>"),
    "text": (Text("a\x00b"), "a\ufffdb"),
    "long text": (Text("x" * 10**6), "x" * 16_128 + "… (983,872 more characters)"),
    "bytes": (Raw(b"ab"), "ab"),
    "list": (Items([1, Items([2])]), [1, [2]]),
    "dict": (Fields(a=Fields(b=1)), {"a": {"b": 1}}),
}
