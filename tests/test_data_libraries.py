"""What minds really hand over: arrays, tables, models, and the standard library's own odd objects."""

from __future__ import annotations

import contextlib
import ctypes
import decimal
import fractions
import gc
import io
import ipaddress
import json
import pathlib
import queue
import re
import sys
import tempfile
import threading
import time
import types
import uuid
import warnings
from array import array
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NamedTuple, NoReturn

import attrs
import msgspec
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it carries no types
import pydantic
import pytest

from broadcast import Broadcaster
from broadcast.emitter.broadcaster import NESTED_MAX
from broadcast.settings import Settings
from tests.test_broadcaster import assert_valid, payloads_of

NAN, INF = float("nan"), float("inf")


class Inner(pydantic.BaseModel):
    at: date
    tags: set[str]


class Outer(pydantic.BaseModel):
    inner: Inner
    weights: list[float]
    anything: Any = None

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def count(self) -> int:
        return len(self.weights)


class RaisingSerializer(pydantic.BaseModel):
    a: int = 1

    @pydantic.field_serializer("a")
    def no(self, _value: int) -> int:
        raise SystemExit


class RaisingField(pydantic.BaseModel):
    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def no(self) -> int:
        raise KeyboardInterrupt


class Names(pydantic.RootModel[list[str]]):
    pass


@attrs.define
class Attrs:
    x: int
    y: list[int]


class Struct(msgspec.Struct):
    x: int


class Point(NamedTuple):
    x: int


class Row:
    """As SQLAlchemy has it: an attribute that is loaded when it is looked at, or cannot be any more."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"{name}: the session is closed")

    def __str__(self) -> str:
        return "<Row 7>"


class GpuTensor:
    """As torch has it: `size` is a method, and the values are far away."""

    def size(self) -> tuple[int, ...]:
        return (3,)

    def tolist(self) -> NoReturn:
        raise RuntimeError("device-side assert triggered")

    def __str__(self) -> str:
        return "tensor(device='cuda:0')"


class LostTensor(GpuTensor):
    size = 3  # type: ignore[assignment]


class SlowTensor:
    size = 2

    def tolist(self) -> list[int]:
        time.sleep(0.05)
        return [1, 2]


def closed_file() -> Any:
    with tempfile.TemporaryFile("w") as file:
        return file


def detached_file() -> Any:
    wrapper = io.TextIOWrapper(io.BytesIO())
    wrapper.detach()
    return wrapper


def released_view() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


def frames() -> Iterator[Any]:
    yield sys._getframe()


def structured() -> Any:
    return np.array([(1, NAN)], dtype=[("a", "i4"), ("b", "f8")])


MADE: dict[str, tuple[Callable[[], Any], Any]] = {
    "bool_": (lambda: np.bool_(True), True),
    "float16 infinity": (lambda: np.float16(INF), None),
    "float64 NaN": (lambda: np.float64(NAN), None),
    "longdouble": (lambda: np.longdouble(1.5), 1.5),
    "longdouble NaN": (lambda: np.longdouble(NAN), None),
    "longdoubles": (lambda: np.array([1.5, NAN], "g"), [1.5, None]),
    "complex64": (lambda: np.complex64(1 + 2j), "(1+2j)"),
    "complexes": (lambda: np.array([1 + 2j]), ["(1+2j)"]),
    "clongdouble": (lambda: np.clongdouble(1 + 2j), "(1+2j)"),
    "a moment": (lambda: np.datetime64("2026-02-14T10:00", "s"), "2026-02-14T10:00:00"),
    "a moment in nanoseconds": (lambda: np.datetime64("2026-02-14", "ns"), "2026-02-14T00:00:00.000000000"),
    "no moment": (lambda: np.datetime64("NaT"), "NaT"),
    "moments": (lambda: np.array([["2026-02-14", "NaT"]], "datetime64[ns]").astype("M8[D]"), [["2026-02-14", "NaT"]]),
    "a span": (lambda: np.timedelta64(5, "ns"), "5 nanoseconds"),
    "spans": (lambda: np.array([5], "m8[s]"), ["5 seconds"]),
    "text": (lambda: np.str_("a\x00"), "a\ufffd"),
    "bytes": (lambda: np.bytes_(b"a\x00b"), "a\ufffdb"),
    "void": (lambda: np.void(b"ab"), "ab"),
    "0-d": (lambda: np.array(5), 5),
    "0-d of objects": (lambda: np.array(None, dtype=object), None),
    "objects": (lambda: np.array([1, {"a": NAN}, object], dtype=object), [1, {"a": None}, "<class 'object'>"]),
    "structured": (structured, [[1, None]]),
    "a record": (lambda: structured()[0], [1, None]),
    "masked": (lambda: np.ma.array([1, 2], mask=[False, True]), [1, None]),
    "the mask": (lambda: np.ma.masked, None),
    "large array": (lambda: np.zeros((1000, 1000)), "<ndarray: shape (1000, 1000), float64>"),
    "dtype": (lambda: np.dtype("f8"), "float64"),
    "DataFrame": (lambda: pd.DataFrame({"a": [1]}), "   a\n0  1"),
    "large DataFrame": (lambda: pd.DataFrame(np.zeros((10_000, 3))), "<DataFrame: shape (10000, 3)>"),
    "Series": (lambda: pd.Series([1.0, NAN, INF]), [1.0, None, None]),
    "Series of moments": (
        lambda: pd.Series(pd.to_datetime(["2026-02-14", None])),
        ["2026-02-14T00:00:00", "NaT"],
    ),
    "large Series": (lambda: pd.Series(range(10_000)), "<Series: shape (10000,), int64>"),
    "Timestamp": (lambda: pd.Timestamp("2026-02-14", tz="UTC"), "2026-02-14T00:00:00+00:00"),
    "NaT": (lambda: pd.NaT, "NaT"),
    "NA": (lambda: pd.NA, "<NA>"),
    "Timedelta": (lambda: pd.Timedelta(days=1), "1 days 00:00:00"),
    "Categorical": (lambda: pd.Categorical(["a", None]), ["a", None]),
    "Interval": (lambda: pd.Interval(0, 1), "(0, 1]"),
    "Index": (lambda: pd.Index([1, 2]), [1, 2]),
    "MultiIndex": (lambda: pd.MultiIndex.from_tuples([(1, "a")]), [[1, "a"]]),
    "model": (
        lambda: Outer(inner=Inner(at=date(2026, 2, 14), tags={"a"}), weights=[NAN], anything={1: np.int8(2)}),
        {"inner": {"at": "2026-02-14", "tags": ["a"]}, "weights": [None], "anything": {"1": 2}, "count": 1},
    ),
    # pydantic warns, which is an error here
    "model without validation": (lambda: Inner.model_construct(tags=7), "<Inner: could not be read>"),
    "model of a list": (lambda: Names(["a"]), ["a"]),
    "model's class": (lambda: Outer, f"<class '{__name__}.Outer'>"),
    "model whose serializer raises": (RaisingSerializer, "<RaisingSerializer: could not be read>"),
    "model whose field raises": (RaisingField, "<RaisingField: could not be read>"),
    "attrs": (lambda: Attrs(1, [2]), "Attrs(x=1, y=[2])"),
    "Struct": (lambda: Struct(1), "Struct(x=1)"),
    "NamedTuple": (lambda: Point(1), [1]),
    "lazy attributes": (Row, "<Row 7>"),
    "tensor": (GpuTensor, "tensor(device='cuda:0')"),
    "tensor that is lost": (LostTensor, "<LostTensor: could not be read>"),
    "tensor that is slow": (SlowTensor, [1, 2]),
    "UUID": (lambda: uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "path": (lambda: pathlib.PurePosixPath("/a\udcff"), "/a\\udcff"),
    "Decimal": (lambda: decimal.Decimal("sNaN"), "sNaN"),
    "Fraction": (lambda: fractions.Fraction(1, 3), "1/3"),
    "Fraction of long numbers": (lambda: fractions.Fraction(10**5000, 3), "<Fraction: no text>"),
    "address": (lambda: ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    "exception": (lambda: ValueError("what", 7), "('what', 7)"),
    "type": (lambda: int, "<class 'int'>"),
    "module": (lambda: json, str(json)),
    "pattern": (lambda: re.compile("x"), "re.compile('x')"),
    "namespace": (lambda: types.SimpleNamespace(a=1), "namespace(a=1)"),
    "proxy of a dict": (lambda: types.MappingProxyType({"a": {1}}), {"a": [1]}),
    "keys": ({"a": 1}.keys, ["a"]),
    "items": ({"a": NAN}.items, [["a", None]]),
    "array": (lambda: array("d", [1.0, NAN]), [1.0, None]),
    "range": (lambda: range(10**12), "range(0, 1000000000000)"),
    "memoryview": (lambda: memoryview(b"ab\x00"), "ab\ufffd"),
    "memoryview of numbers": (lambda: memoryview(array("H", [1, 2])), "\x01\ufffd\x02\ufffd"),
    "bad pointer": (lambda: ctypes.c_char_p(1), "c_char_p(1)"),
    "empty py_object": (ctypes.py_object, "py_object(<NULL>)"),
}
ANY: dict[str, Callable[[], Any]] = {
    "lock": threading.RLock,
    "event": threading.Event,
    "queue": queue.Queue,
    "closed file": closed_file,
    "detached file": detached_file,
    "pointer": ctypes.POINTER(ctypes.c_int),
    "released memoryview": released_view,
    "memoryview of two dimensions": lambda: memoryview(np.zeros((2, 2))),  # type: ignore[arg-type]
    "groups": lambda: pd.DataFrame({"a": [1]}).groupby("a"),
    "generator of random numbers": np.random.default_rng,
    "frame": lambda: next(iter(frames())),
}
LIBRARY_LEAVES = {**{name: make for name, (make, _) in MADE.items()}, **ANY}


@pytest.fixture
def emitter() -> Iterator[Broadcaster]:
    made = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1"))
    made._sender.running = True
    yield made
    made._sender.running = False


def data_of(emitter: Broadcaster, data: Any, *, event_type: Any = "x") -> Any:
    emitter.emit(event_type, data)
    [payload] = payloads_of(emitter)
    assert_valid(payload, bytes_max=emitter.settings.event_bytes_max)
    return json.loads(payload)["data"]


@pytest.mark.parametrize("name", MADE)
def test_what_libraries_make_is_read_as_what_it_means(emitter: Broadcaster, name: str) -> None:
    make, expected = MADE[name]
    data = data_of(emitter, {"before": 1, "x": make(), "after": 2})
    assert data["x"] == expected
    assert (data["before"], data["after"]) == (1, 2)
    assert ("broadcast.cut" in data) == name.startswith("large ")


@pytest.mark.parametrize("name", LIBRARY_LEAVES)
def test_wherever_it_stands_it_costs_no_event_and_no_warning(emitter: Broadcaster, name: str) -> None:
    made = LIBRARY_LEAVES[name]()
    data_of(emitter, made)
    data_of(emitter, [made], event_type=made)
    keyed = {}
    with contextlib.suppress(TypeError, ValueError):  # what cannot be hashed is nobody's key
        keyed[made] = made
    data_of(emitter, keyed)
    emitter.set_cycle(made, made)
    data_of(emitter, None)


@pytest.mark.parametrize("code", "?bhilqpBHILQPefdgFDGSUVOMm")
def test_every_dtype_has_its_scalar_and_its_array(emitter: Broadcaster, code: str) -> None:
    for kind in (code, f">{code}" if code in "hilqHILQefdFD" else code):
        zeros = np.zeros((2, 3), "M8[s]" if code == "M" else "m8[s]" if code == "m" else kind)
        data = data_of(emitter, {"scalar": zeros[0, 0], "array": zeros})
        assert data["array"] == [[data["scalar"]] * 3] * 2
        assert type(data["scalar"]) is not list
        assert "broadcast.cut" not in data


def test_a_large_table_is_not_printed_even_where_somebody_wants_all_of_it_printed(emitter: Broadcaster) -> None:
    table = pd.DataFrame(np.random.default_rng(7).random((100_000, 10)))
    numbers = np.random.default_rng(7).random(1_000_000)
    with pd.option_context("display.max_rows", None), np.printoptions(threshold=10**9):
        began = time.thread_time()
        data = data_of(emitter, {"table": table, "numbers": numbers, "one of them": numbers[:1]})
        took_s = time.thread_time() - began
    assert data["table"] == "<DataFrame: shape (100000, 10)>"
    assert data["one of them"] == [numbers[0]]
    assert took_s < 1  # printed, it takes more than 10


def test_a_large_text_of_an_unknown_object_is_cut_and_that_is_said(emitter: Broadcaster) -> None:
    data = data_of(emitter, {"x": Attrs(1, list(range(1000)))})
    assert data["x"].startswith("Attrs(x=1, y=[0, 1, 2,")
    assert data["x"].endswith("more characters)")
    assert len(data["x"]) < 1050
    assert data["broadcast.cut"] == ["text"]


def test_a_model_that_emits_while_it_is_read_is_read(emitter: Broadcaster) -> None:
    class Chatty(pydantic.BaseModel):
        a: int = 1

        def model_dump(self, **options: Any) -> dict[str, Any]:
            emitter.emit("plain", {"a": 1})
            emitter.emit("itself", self)
            return super().model_dump(**options)

    emitter.emit("x", Chatty())
    types = [json.loads(payload)["type"] for payload in payloads_of(emitter)]
    assert types == [*["plain"] * NESTED_MAX, *["itself"] * (NESTED_MAX - 1), "x"]
    assert emitter.stats().dropped["nested"] == 1


def test_a_model_within_itself_ends(emitter: Broadcaster) -> None:
    model = Outer.model_construct(inner=None, weights=[])
    model.anything = [model]
    data = data_of(emitter, {"x": model, "y": 1})
    assert data["x"]["anything"][0]["anything"] == ["<Outer: circular>"]
    assert (data["y"], data["broadcast.cut"]) == (1, ["circular"])


def test_a_coroutine_is_neither_awaited_nor_missed(emitter: Broadcaster) -> None:
    async def wait() -> None:
        raise AssertionError

    coroutine = wait()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert "coroutine object" in data_of(emitter, {"x": coroutine})["x"]
        gc.collect()
        assert heard == []
    coroutine.close()


def test_generators_and_files_are_where_they_were(emitter: Broadcaster) -> None:
    generator = (n for n in range(3))
    file = io.StringIO("one\ntwo\n")
    data_of(emitter, {"generator": generator, "file": file})
    assert list(generator) == [0, 1, 2]
    assert file.readline() == "one\n"


def test_an_array_that_grows_meanwhile_may_grow(emitter: Broadcaster) -> None:
    """A view of its memory, held while it is read, would forbid its owner to change its size."""
    ended = False
    shared = bytearray(b"x" * 50_000)
    failures: list[BaseException] = []

    def grow() -> None:
        try:
            while not ended:
                shared.extend(b"y" * 1000)
                del shared[:1000]
        except BufferError as error:
            failures.append(error)

    thread = threading.Thread(target=grow)
    thread.start()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        data_of(emitter, {"x": shared})
    ended = True
    thread.join()
    assert failures == []
