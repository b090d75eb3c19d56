"""Whatever is emitted, PostgreSQL's jsonb takes it, and says the same as Python's readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.liars import LIARS
from tests.postgresql import PostgresqlServer
from tests.test_broadcaster import assert_valid, payloads_of
from tests.test_data_libraries import LIBRARY_LEAVES
from tests.test_sanitize import ANY_TEXT, EVILS, LEAVES, PARIAHS, TREES

EVENT_BYTES = 8192
BATCH = 200

ASKED = "SELECT json::jsonb::text FROM unnest(%s::text[]) WITH ORDINALITY AS given (json, place) ORDER BY place"

# Hypothesis prints what it draws, which these would not survive: it draws their names.
NAMES = st.sampled_from(sorted({*EVILS, *PARIAHS, *LIBRARY_LEAVES, *LIARS}))
SHAPES: st.SearchStrategy[Any] = st.recursive(
    NAMES.map(lambda name: ("made", name)),
    lambda inner: (
        st.tuples(st.just("list"), st.lists(inner, max_size=4))
        | st.tuples(st.just("dict"), st.dictionaries(ANY_TEXT, inner, max_size=4))
    ),
    max_leaves=8,
)
PLAIN = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner),
        max_leaves=20,
    ),
    max_size=8,
)
patient = settings(
    deadline=None,
    max_examples=BATCH,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
    database=None,
)


def build(shape: Any) -> Any:
    kind, content = shape
    if kind == "list":
        return [build(each) for each in content]
    if kind == "dict":
        return {key: build(each) for key, each in content.items()}
    if content in LIARS:
        return LIARS[content][0]
    return {**EVILS, **PARIAHS, **LIBRARY_LEAVES}[content]()


def refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def exactly(text: str | bytes) -> Any:
    """As jsonb has it, whose numbers are decimal ones."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


@pytest.fixture
def emitter() -> Iterator[Broadcaster]:
    made = Broadcaster(settings=Settings(redis_url="redis://127.0.0.1:1", event_bytes_max=EVENT_BYTES))
    made._sender.running = True
    yield made
    made._sender.running = False


def assert_accepted(server: PostgresqlServer, payloads: list[bytes]) -> None:
    """All of them in one question."""
    with server.connect() as connection:
        rows = connection.execute(ASKED, ([payload.decode("utf-8") for payload in payloads],)).fetchall()
    assert len(rows) == len(payloads)
    for payload, (stored,) in zip(payloads, rows, strict=True):
        assert exactly(payload) == exactly(stored)


def emitted(emitter: Broadcaster, event_type: Any, data: Any, cycle: Any = 1, day: Any = 1) -> bytes:
    emitter.set_cycle(cycle, day)
    emitter.emit(event_type, data)
    [payload] = payloads_of(emitter)
    assert_valid(payload, bytes_max=EVENT_BYTES)
    assert json.loads(payload, parse_constant=refuse) == orjson.loads(payload)
    return payload


def test_any_tree_is_accepted(emitter: Broadcaster, postgresql_server: PostgresqlServer) -> None:
    payloads: list[bytes] = []

    @seed(7)
    @patient
    @given(st.text() | ANY_TEXT | LEAVES, TREES, LEAVES, LEAVES)
    def emit(event_type: Any, data: Any, cycle: Any, day: Any) -> None:
        payloads.append(emitted(emitter, event_type, data, cycle, day))

    emit()
    assert len(payloads) >= BATCH / 2
    assert_accepted(postgresql_server, payloads)


def test_any_tree_of_hostile_and_foreign_objects_is_accepted(
    emitter: Broadcaster, postgresql_server: PostgresqlServer
) -> None:
    payloads: list[bytes] = []

    @seed(7)
    @patient
    @given(SHAPES)
    def emit(shape: Any) -> None:
        payloads.append(emitted(emitter, "x", build(shape)))

    emit()
    assert len(payloads) >= BATCH / 2
    assert_accepted(postgresql_server, payloads)


def test_plain_data_comes_back_equal(emitter: Broadcaster, postgresql_server: PostgresqlServer) -> None:
    payloads: list[bytes] = []

    @seed(7)
    @patient
    @given(PLAIN)
    def emit(data: dict[str, Any]) -> None:
        payload = emitted(emitter, "x", data)
        if len(payload) < EVENT_BYTES:
            assert orjson.loads(payload)["data"] == data
        payloads.append(payload)

    emit()
    assert len(payloads) >= BATCH / 2
    assert_accepted(postgresql_server, payloads)


@pytest.mark.parametrize(
    "data",
    [
        {"\x00": "\x00", "a": ["\x00"]},
        {"\ud800": "\udfff\ud800"},
        {"a": "\\u0000 \\ud800"},
        {"a": float("nan"), "b": float("-inf"), "c": -0.0, "d": 5e-324, "e": 1.7976931348623157e308},
        {"a": 10**5000, "b": 10**300, "c": 2**64},
        {"a": "\x01\x1f\x7f\ufffe\U0010ffff\u2028"},
        {"": "", " ": []},
        {"a": b"\x00\xff\xed\xa0\x80"},
        "x" * 10**6,
        [[[[[]]]]] * 10_000,
    ],
)
def test_what_jsonb_refuses_never_gets_there(
    emitter: Broadcaster, postgresql_server: PostgresqlServer, data: Any
) -> None:
    assert_accepted(postgresql_server, [emitted(emitter, "\x00\ud800", data, "\x00", "\ud800")])


def test_the_deepest_event_is_accepted(emitter: Broadcaster, postgresql_server: PostgresqlServer) -> None:
    payloads = []
    for depth in (30, 31, 32, 33, 1000):
        data: Any = {}
        for _ in range(depth):
            data = {"a": data, "b": [data] if depth == 1000 else 1}
        payloads.append(emitted(emitter, "x", data))
    assert_accepted(postgresql_server, payloads)


@pytest.mark.parametrize("refused", ['{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": NaN}', "{"])
def test_this_server_refuses_what_it_should(postgresql_server: PostgresqlServer, refused: str) -> None:
    """Else the tests above would say nothing."""
    with postgresql_server.connect() as connection, pytest.raises(psycopg.DataError):
        connection.execute(ASKED, ([refused],))
