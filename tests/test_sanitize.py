"""The sanitizer: any object becomes a bounded tree that every strict reader accepts, and what was cut is said."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcast.event import encode
from broadcast.plain import is_plain
from broadcast.sanitize import NODES_MAX, _Walk, sanitize_data, sanitize_number, sanitize_text


class Evil:
    """Whatever it is asked for, it raises."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class Liar:
    """Says that it is something else."""

    def __init__(self, claim: type) -> None:
        self.claim = claim

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.claim


class Accuser:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise SystemExit


class Meta(type):
    @property
    def __name__(cls) -> NoReturn:  # type: ignore[override]
        raise RuntimeError


class Nameless(metaclass=Meta):
    def __str__(self) -> str:
        raise ValueError


class LongText(str):
    def __len__(self) -> int:
        raise RuntimeError

    def __str__(self) -> str:
        return self

    def replace(self, *_: Any) -> NoReturn:
        raise RuntimeError


class SaysLongText:
    def __str__(self) -> str:
        return LongText("well")


class LyingDict(dict[Any, Any]):
    def __len__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> NoReturn:
        raise RuntimeError

    def items(self) -> NoReturn:
        raise RuntimeError


class EndlessList(list[Any]):
    def __iter__(self) -> Any:
        while True:
            yield 1


class EvilZone(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> timedelta:
        raise KeyboardInterrupt

    dst = utcoffset

    def tzname(self, _moment: datetime | None) -> str:
        raise KeyboardInterrupt


class Array:
    """numpy in small: a shape and `tolist`."""

    def __init__(self, size: int) -> None:
        self.size = size

    def tolist(self) -> list[int]:
        return list(range(self.size))

    def __str__(self) -> str:
        return f"array of {self.size}"


class Mood(enum.Enum):
    CALM = "calm"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Sense:
    name: str
    values: list[Any]


@dataclasses.dataclass
class Broken:
    name: str = "x"

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError


class Model:
    """pydantic in small."""

    def model_dump(self) -> dict[str, Any]:
        return {"field": 1}


class Point(NamedTuple):
    x: int
    y: int


class Ouroboros:
    def model_dump(self) -> Ouroboros:
        return self


EVILS: dict[str, Callable[[], Any]] = {
    "raises ValueError": lambda: Evil(ValueError),
    "raises what is no Exception": lambda: Evil(BaseException),
    "raises RecursionError": lambda: Evil(RecursionError),
    "says it is a dict": lambda: Liar(dict),
    "says it is a list": lambda: Liar(list),
    "says it is a text": lambda: Liar(str),
    "says it is a number": lambda: Liar(int),
    "says it is bytes": lambda: Liar(bytes),
    "has no name": Nameless,
    "says a long text": SaysLongText,
    "is a long text": lambda: LongText("x"),
    "lies about its items": lambda: LyingDict(a=1),
    "has no end": lambda: EndlessList([1, 2]),
    "dumps itself": Ouroboros,
    "array": lambda: Array(3),
    "large array": lambda: Array(10**9),
    "memory": lambda: memoryview(b"abc"),
    "class": lambda: object,
    "function": lambda: len,
    "lock": threading.Lock,
    "generator": lambda: (n for n in range(3)),
    "complex": lambda: 1j,
    "ellipsis": lambda: Ellipsis,
}
# Not for hypothesis, which asks what it is itself, and which the wrong exception would end without a word.
PARIAHS: dict[str, Callable[[], Any]] = {
    "raises when asked what it is": Accuser,
    "raises SystemExit": lambda: Evil(SystemExit),
    "raises KeyboardInterrupt": lambda: Evil(KeyboardInterrupt),
    "tells no time": lambda: datetime(2026, 1, 1, tzinfo=EvilZone()),
    "has fields nobody can read": Broken,
}

# On a busy machine it is slow to draw; that says nothing about the sanitizer.
patient = settings(deadline=None, suppress_health_check=list(HealthCheck))
ANY_TEXT = st.text(st.characters())  # lone surrogates and NUL included
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | ANY_TEXT
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([Mood.CALM, Level.HIGH])
    | st.sampled_from([5000, 20_000]).map(lambda digits: 10**digits)
    | st.sampled_from(sorted(EVILS)).map(lambda name: EVILS[name]())
)
HASHABLE = st.integers() | ANY_TEXT | st.none() | st.booleans() | st.floats(allow_nan=False) | st.tuples(st.integers())
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(HASHABLE, inner)
        | st.tuples(inner, inner)
        | st.builds(Sense, ANY_TEXT, st.lists(inner))
        | st.sets(HASHABLE)
        | st.builds(collections.deque, st.lists(inner))
    ),
    max_leaves=20,
)


def assert_clean(tree: object, *, bytes_max: int = 200_000) -> None:
    encoded = encode({"data": tree})
    assert len(encoded) <= bytes_max
    assert b"\\u0000" not in encoded.replace(b"\\\\", b"")
    assert orjson.loads(encoded) == {"data": tree}
    assert json.loads(encoded.decode("utf-8")) == {"data": tree}


@patient
@given(TREES)
def test_anything_becomes_an_object_of_plain_json(value: object) -> None:
    tree = sanitize_data(value)
    assert type(tree) is dict
    assert_clean(tree)


@patient
@given(TREES)
def test_plain_trees_are_what_they_were(value: Any) -> None:
    """What the fast path would have encoded, the slow path leaves as it is, NaN (which becomes nothing) included."""
    if type(value) is dict and is_plain(value, bytes_max=1000):
        try:
            encoded = encode(value)
        except TypeError:  # numbers, surrogates
            return
        if b"\\u0000" not in encoded:
            assert sanitize_data(value) == orjson.loads(encoded)


@pytest.mark.parametrize("name", [*EVILS, *PARIAHS])
def test_a_hostile_object_does_not_take_its_neighbours_along(name: str) -> None:
    tree = sanitize_data({"before": 1, "evil": {**EVILS, **PARIAHS}[name](), "after": 2})
    assert (tree["before"], tree["after"]) == (1, 2)
    assert_clean(tree)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ([], {"value": []}),
        ("x", {"value": "x"}),
        (float("nan"), {"value": None}),
        ({"x": float("-inf")}, {"x": None}),
        ({"x": "a\x00b\ud800"}, {"x": "a\ufffdb\\ud800"}),
        ({"\ud800": 1, "a\x00": 2}, {"\\ud800": 1, "a\ufffd": 2}),
        ({1: "a", "1": "b", 2.5: "c"}, {"1": "a", "1 (2)": "b", "2.5": "c"}),
        ({None: 1, (1, 2): 2}, {"None": 1, "(1, 2)": 2}),
        ({"x": 2**64}, {"x": "18446744073709551616"}),
        ({"x": [2**64 - 1, -(2**63)]}, {"x": [2**64 - 1, -(2**63)]}),
        ({"x": 10**5000}, {"x": "<int of 16,610 bits>"}),
        ({"x": b"ab\xff\x00"}, {"x": "ab\\xff\ufffd"}),
        ({"x": {3}}, {"x": [3]}),
        ({"x": (1, 2)}, {"x": [1, 2]}),
        ({"x": Mood.CALM, "y": Level.HIGH}, {"x": "calm", "y": 3}),
        ({"x": Decimal("1.50")}, {"x": "1.50"}),
        ({"x": uuid.UUID(int=5)}, {"x": "00000000-0000-0000-0000-000000000005"}),
        ({"x": Path("/a/b")}, {"x": "/a/b"}),
        ({"x": datetime(2026, 2, 14, tzinfo=UTC)}, {"x": "2026-02-14T00:00:00+00:00"}),
        ({"x": Array(3)}, {"x": [0, 1, 2]}),
        ({"x": Array(10**9)}, {"x": "array of 1000000000"}),
        ({"x": Model()}, {"x": {"field": 1}}),
        (Sense("pain", [Level.HIGH]), {"name": "pain", "values": [3]}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Point(1, 2), {"value": [1, 2]}),
        (SimpleNamespace(a=1), {"value": "namespace(a=1)"}),
    ],
)
def test_odd_values_become_something_readable(value: object, expected: dict[str, Any]) -> None:
    assert sanitize_data(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lies about its items", {"a": 1}),
        ("has no end", {"value": [1, 2]}),
        ("is a long text", {"value": "x"}),
        ("says a long text", {"value": "well"}),
        ("raises SystemExit", {"value": "<Evil: no text>"}),
        ("has no name", {"value": "<Nameless: no text>"}),
        ("dumps itself", {"value": "<Ouroboros: circular>", "broadcast.cut": ["circular"]}),
        ("tells no time", {"value": "<datetime: could not be read>"}),
        ("says it is a dict", {"value": "<Liar: could not be read>"}),
    ],
)
def test_hostile_values_are_read_as_what_they_are(name: str, expected: dict[str, Any]) -> None:
    assert sanitize_data({**EVILS, **PARIAHS}[name]()) == expected


def test_what_was_cut_is_said_where_it_was_cut() -> None:
    circular: dict[str, Any] = {"name": "me"}
    circular["self"] = circular
    assert sanitize_data(circular) == {"name": "me", "self": "<dict: circular>", "broadcast.cut": ["circular"]}
    long = sanitize_data({"x": "y" * 20_000})
    assert long["x"] == "y" * 16_384 + "… (3,616 more characters)"
    assert long["broadcast.cut"] == ["text"]
    many = sanitize_data(list(range(NODES_MAX * 3)), bytes_max=10**6)
    assert many["value"][-1] == f"… ({NODES_MAX * 3 - len(many['value']) + 1:,} more)"
    assert many["broadcast.cut"] == ["items"]
    keys = sanitize_data({str(i): i for i in range(NODES_MAX * 3)}, bytes_max=10**6)
    assert keys["…"] == f"{NODES_MAX * 3 - len(keys) + 2:,} more"
    raw = sanitize_data({"x": b"y" * 20_000})
    assert raw["broadcast.cut"] == ["text"]
    assert "broadcast.cut" not in sanitize_data({"x": object()})


def test_one_long_text_leaves_room_for_the_others() -> None:
    tree = sanitize_data({"a": "x" * 10**6, "b": "kept"}, bytes_max=1000, text_chars_max=100)
    assert tree["b"] == "kept"


def test_a_value_met_twice_is_no_circle() -> None:
    shared = [1]
    assert sanitize_data({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def test_a_list_that_holds_itself_twice_and_again_ends() -> None:
    bomb: list[Any] = [1]
    for _ in range(60):
        bomb = [bomb, bomb]
    assert not is_plain(bomb, bytes_max=30_000)
    assert_clean(sanitize_data(bomb))


def test_ten_thousand_keys_of_the_same_text_do_not_cost_their_square() -> None:
    class Same:
        def __str__(self) -> str:
            return "same"

    tree = sanitize_data({Same(): i for i in range(5000)}, bytes_max=10**6)
    assert len(tree) == 5000
    assert tree["same (5000)"] == 4999


def test_a_container_that_changes_while_it_is_copied_is_copied_again() -> None:
    walk = _Walk(1000, 1000)
    tries = iter([True, True, False])

    def iterator() -> Iterator[int]:
        if next(tries, True):
            raise RuntimeError("changed size during iteration")
        return iter([1, 2])

    assert walk._copied(iterator) == [1, 2]
    assert walk._copied(iterator) == []
    assert walk.cut == {"changing"}


def test_depth_is_bounded_whatever_the_host_allows() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert not is_plain(deep, bytes_max=30_000)
    tree = sanitize_data(deep)
    assert tree["broadcast.cut"] == ["depth"]
    assert_clean(tree)


@patient
@given(TREES, st.integers(0, 2000))
def test_the_budget_holds_about(value: object, bytes_max: int) -> None:
    """Every value may pay once more than there is left, so the sum stays near the bound."""
    tree = sanitize_data(value, bytes_max=bytes_max, text_chars_max=bytes_max)
    assert_clean(tree, bytes_max=10 * bytes_max + 20_000)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["x", "é", "\U0001f600", "\x01", '"']), st.integers(1, 40_000))
def test_characters_of_many_bytes_are_paid_for(character: str, count: int) -> None:
    tree = sanitize_data({"list": [character * 50] * count}, bytes_max=10_000)
    assert len(encode(tree)) <= 80_000


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": [1, 2.0, None, True, "x", {"b": ()}]}, True),
        ({"a": Mood.CALM}, False),
        ({"a": [[{"b": Level.HIGH}]]}, False),
        ({"a": LongText("x")}, False),
        ({"a": orjson.Fragment(b"no json")}, False),
        ({"a": Sense("x", [])}, False),
        ({1: 2}, False),
        ({}, True),
        ({"a": "x" * 999}, True),
        ({"a": "x" * 1000}, False),
        ({"x" * 1000: 1}, True),
        ({"a": [{"x" * 999: 1}]}, False),
        ({"a": [None] * 999}, True),
        ({"a": [[None] * 999, [None]]}, False),
    ],
)
def test_only_jsons_own_types_are_plain(value: dict[Any, Any], plain: bool) -> None:
    # A key that is no text is met by the encoder itself, which refuses it.
    assert (is_plain(value, bytes_max=1000) and all(type(key) is str for key in value)) is plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (42, 42),
        (True, 1),
        (42.0, 42),
        (None, 0),
        (Level.HIGH, 3),
        (10**30, "1" + "0" * 30),
        ("seven", "seven"),
        (float("nan"), "nan"),
        (1.5, "1.5"),
        ("x\x00\ud800", "x\ufffd\\ud800"),
    ],
)
def test_cycles_and_days_are_whole_numbers_where_they_can_be(value: object, expected: int | str) -> None:
    number = sanitize_number(value)
    assert number == expected
    assert type(number) is type(expected)


def test_a_cycle_of_five_thousand_digits_is_described() -> None:
    assert sanitize_number(10**5000) == "<int of 16,610 bits>"


@patient
@given(LEAVES)
def test_any_cycle_is_short(value: object) -> None:
    number = sanitize_number(value)
    assert_clean(number, bytes_max=600)


@patient
@given(LEAVES, st.integers(1, 300))
def test_any_text_is_bounded(value: object, chars_max: int) -> None:
    text = sanitize_text(value, chars_max=chars_max)
    assert len(text.encode()) <= 6 * chars_max + 50
    assert_clean(text)


def test_a_host_with_a_lower_limit_for_digits_costs_no_event() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert sanitize_data({"x": 10**700}) == {"x": "<int of 2,326 bits>"}
    finally:
        sys.set_int_max_str_digits(before)


CRASHERS = {
    "depth under a raised recursion limit, in a thread with a small stack": """
        import sys, threading
        sys.setrecursionlimit(10**6)
        threading.stack_size(256 * 1024)
        deep = []
        for _ in range(100_000):
            deep = [deep]
        results = []
        def run():
            results.append(b.emit("x", {"deep": deep, "dicts": make_dicts()}))
        def make_dicts():
            tree = {}
            for _ in range(50_000):
                tree = {"a": tree}
            return tree
        thread = threading.Thread(target=run); thread.start(); thread.join()
        import os; os._exit(0 if results and b.stats().emitted == 1 else 3)  # freeing it would need the stack
    """,
    "an enumeration that clears the list it stands in while it is read": """
        import enum
        class Clearing(enum.Enum):
            A = 1
            @property
            def value(self):
                box.clear()
                return [object() for _ in range(100)]
        for _ in range(20):
            box = [Clearing.A for _ in range(1000)]
            b.emit("x", {"box": box})
        assert b.stats().emitted == 20
    """,
    "containers that another thread changes while they are read": """
        import enum, sys, threading, time
        sys.setswitchinterval(1e-6)
        class E(enum.Enum):
            A = 1
        shared = {"list": [E.A] * 50, "dict": {i: E.A for i in range(50)}, "set": set(range(50))}
        stop = False
        def change():
            n = 0
            while not stop:
                n += 1
                shared["list"].clear(); shared["list"].extend([E.A] * (n % 90))
                shared["dict"].clear(); shared["dict"].update({i: E.A for i in range(n % 90)})
                shared["set"].clear(); shared["set"].update(range(n % 90))
                shared[str(n % 50)] = object()
        thread = threading.Thread(target=change); thread.start()
        deadline = time.monotonic() + 1.5
        n = 0
        while time.monotonic() < deadline:
            b.emit("x", shared); n += 1
        stop = True; thread.join()
        stats = b.stats()
        assert stats.emitted == n and not stats.dropped["unencodable"], (n, stats)
    """,
    "an emit at the very end of the stack": """
        import sys, broadcast
        def fall(n):
            try:
                fall(n + 1)
            except RecursionError:
                pass
            event = None
            try:
                event = broadcast.emit("x", {"a": object()})
            except RecursionError:
                pass  # not even the call to emit() had room
            if event is not None:
                assert event["type"] == "x" and len(event) == 5
        fall(0)
    """,
    "memory that runs out": """
        import resource
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, hard))
        try:
            big = ["x" * 2**20] * 2000
            event = b.emit("x", {"big": big})
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert len(event) == 5
    """,
}


@pytest.mark.parametrize("name", CRASHERS)
def test_what_could_end_the_process_does_not(name: str) -> None:
    head = "from broadcast import Broadcaster\nfrom broadcast.settings import Settings\n"
    head += "import faulthandler; faulthandler.enable()\n"
    head += 'b = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1", exit_timeout_s=0))\n'
    indented = CRASHERS[name].strip("\n").splitlines()
    body = "\n".join(line[8:] for line in indented)
    done = subprocess.run([sys.executable, "-c", head + body], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
