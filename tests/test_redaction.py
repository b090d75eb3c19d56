"""Redaction: what a rule names is in no event, wherever it was put and however it was cut."""

from __future__ import annotations

import collections
import dataclasses
import enum
import itertools
import json
import marshal
import re
import time
from collections.abc import Iterator
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import broadcast.testing
from broadcast import Broadcaster
from broadcast.emitter.broadcaster import NESTED_MAX
from broadcast.emitter.redaction import NAMES_MAX, RULES_MAX, Redaction, listed_rules, redaction_of
from broadcast.errors import SettingError
from broadcast.event import encode
from broadcast.sanitize import MATCH_CHARS_MAX, REDACTED, sanitize_data
from broadcast.settings import HIDE_ALL, Settings
from tests.servers import RedisServer
from tests.test_sanitize import ANY_TEXT, EVILS, PARIAHS, TREES, Evil, assert_clean

patient = settings(deadline=None, suppress_health_check=list(HealthCheck))
KEY = "/sk-[A-Za-z0-9]{20,}/"


def redacted(data: object, *rules: str, **budgets: int) -> dict[str, Any]:
    return sanitize_data(data, redactor=Redaction(rules), **budgets)


# --- keys


@pytest.mark.parametrize(
    ("rule", "hidden", "shown"),
    [
        ("password", ["password", "PASSWORD", "Password"], ["passwords", "my_password", "pass", "password "]),
        ("*_token", ["api_token", "API_TOKEN", "_token"], ["token", "api_tokens", "token_api"]),
        ("*secret*", ["secret", "clientSecret", "secrets"], ["secre"]),
        ("p?n", ["pin", "PUN"], ["pn", "pinn"]),
        ("key[0-9]", ["key1", "KEY9"], ["key", "key[0-9]"]),
        ("größe", ["GRÖSSE".lower().replace("ss", "ß"), "GRÖßE"], ["grosse"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*", ["anything", ""], []),
    ],
)
def test_a_glob_names_keys_in_any_case(rule: str, hidden: list[str], shown: list[str]) -> None:
    tree = redacted(dict.fromkeys([*hidden, *shown], "x"), rule)
    assert tree == {**dict.fromkeys(hidden, REDACTED), **dict.fromkeys(shown, "x")}


@pytest.mark.parametrize("name", [*EVILS, *PARIAHS])
def test_nobody_looks_at_what_a_key_hides(name: str) -> None:
    hostile = {**EVILS, **PARIAHS}[name]()
    assert redacted({"a": 1, "Password": hostile, "b": [{"password": hostile}]}, "password") == {
        "a": 1,
        "Password": REDACTED,
        "b": [{"password": REDACTED}],
    }


def test_a_hidden_values_text_is_never_asked_for() -> None:
    asked: list[str] = []

    class Nosy:
        def __str__(self) -> str:
            asked.append("str")
            return "secret"

        __repr__ = __str__

        def __iter__(self) -> Iterator[int]:
            asked.append("iter")
            return iter(())

        def __getattribute__(self, name: str) -> Any:
            asked.append(name)
            return object.__getattribute__(self, name)

    tree = redacted({"password": Nosy(), "x": {"password": [Nosy()]}}, "password")
    assert tree == {"password": REDACTED, "x": {"password": REDACTED}}
    assert asked == []


class Name(str):
    """Says that it is another key."""

    def __str__(self) -> str:
        return "harmless"

    def lower(self) -> str:
        return "harmless"

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


class Field(str, enum.Enum):  # noqa: UP042 - its text is another
    PASSWORD = "password"


@dataclasses.dataclass
class Login:
    user: str
    password: Any


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {"user": "me", "password": {"deep": "secret"}}


@pytest.mark.parametrize("value", [None, 1, True, 1.5, "secret", b"secret", ["secret"], {"a": "secret"}, object()])
def test_a_hidden_value_may_be_anything(value: object) -> None:
    assert redacted({"password": value}, "password") == {"password": REDACTED}


@pytest.mark.parametrize(
    "data",
    [
        {b"password": "secret"},
        {Name("password"): "secret"},
        {Field.PASSWORD: "secret"},
        {"a": [{"b": ({"password": "secret"},)}]},
        collections.OrderedDict(password="secret"),
        collections.defaultdict(str, password="secret"),
        MappingProxyType({"password": "secret"}),
        collections.Counter(password=7),
        Login("me", "secret"),
        {"x": Login("me", Evil(ValueError))},
        Model(),
        {"x": [Model()]},
    ],
)
def test_keys_are_found_wherever_a_dict_comes_from(data: object) -> None:
    tree = redacted(data, "password")
    assert REDACTED in json.dumps(tree)
    assert "secret" not in json.dumps(tree)
    assert "no text" not in json.dumps(tree)


def test_what_is_no_dict_stands_under_value_and_can_be_hidden_there() -> None:
    assert redacted(["secret"], "value") == {"value": REDACTED}
    assert redacted("secret", "v*") == {"value": REDACTED}


def test_a_key_too_long_to_be_judged_hides_its_value() -> None:
    long = "x" * 2000 + "_token"
    assert redacted({long: "secret"}, "*_token")[f"{'x' * 256}… (1,750 more characters)"] == REDACTED
    assert redacted({long: "shown"}, KEY)[f"{'x' * 256}… (1,750 more characters)"] == "shown"


# --- patterns


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (["/b/"], "abc", "a[redacted]c"),
        (["/b+/"], "abbbc", "a[redacted]c"),
        (["/b/"], "bb", "[redacted]"),
        (["/b*/"], "aa", "aa"),
        (["/(?<=key=)\\w+/"], "key=abc, key=d", "key=[redacted], key=[redacted]"),
        (["/(?i)secret/"], "My SECRET", "My [redacted]"),
        (["/ab/", "/bcd/"], "xabcdx", "x[redacted]x"),
        (["/bcd/", "/ab/"], "xabcdx", "x[redacted]x"),
        (["/b.*y/", "/c/"], "abcyz", "a[redacted]z"),
        (["/^a/", "/z$/"], "abz", "[redacted]b[redacted]"),
        (["/redacted/"], "redacted", "[redacted]"),
        (["/a{1,2}/"], "xaax", "x[redacted]x"),
        (["/\\//"], "a/b", "a[redacted]b"),
        (["/(?s:.+)/"], "a\nb", "[redacted]"),
    ],
)
def test_a_pattern_replaces_only_what_it_matches(rules: list[str], text: str, expected: str) -> None:
    assert redacted([text], *rules) == {"value": [expected]}
    assert Redaction(rules).cut(text, 100) == (expected, 0)


SECRET = "sk-abcdefghij0123456789XYZ"


class Says:
    def __str__(self) -> str:
        return f"key {SECRET}!"


class Mood(enum.Enum):
    SECRET = f"is {SECRET}"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "nothing to see"


class Pair(NamedTuple):
    user: str
    key: str


@pytest.mark.parametrize(
    "data",
    [
        SECRET,
        {"x": f"key {SECRET}!"},
        {f"key {SECRET}!": 1},
        {f"key {SECRET}": 1, f"key {SECRET}!": 2},
        {("x", SECRET): 1},
        {Says(): 1},
        {"x": Says()},
        {"x": [Says()]},
        {"x": SECRET.encode()},
        {"x": bytearray(SECRET.encode())},
        {"x": memoryview(SECRET.encode())},
        {SECRET.encode(): 1},
        {"x": Text(SECRET)},
        {"x": Mood.SECRET},
        {"x": Login("me", SECRET)},
        {"x": Pair("me", SECRET)},
        {"x": SimpleNamespace(key=SECRET)},
        {"x": {SECRET}},
        {"x": collections.deque([SECRET])},
        {"x": ValueError(SECRET)},
        {"x": f"\x00{SECRET}\ud800"},
    ],
)
def test_a_pattern_reads_every_text(data: object) -> None:
    tree = redacted(data, KEY)
    assert REDACTED in json.dumps(tree)
    assert SECRET[:4] not in json.dumps(tree)
    assert_clean(tree)


def test_numbers_are_no_texts() -> None:
    assert redacted({"x": 4711, "y": 10**30, "z": 1.5}, "/\\d+/") == {"x": 4711, "y": REDACTED, "z": 1.5}


def test_keys_that_become_one_are_told_apart() -> None:
    assert redacted({"a1": 1, "b1": 2, "a2": 3}, "/[ab]/") == {
        "[redacted]1": 1,
        "[redacted]1 (2)": 2,
        "[redacted]2": 3,
    }


LETTERS = st.text("ab-", max_size=40)
SOME_PATTERNS = st.lists(st.sampled_from(["a", "ab", "b+", "-.*?-", "(?<=a)b", "a*", "^b", "a$", "aba"]), max_size=3)


def redacted_by_letters(patterns: list[str], text: str) -> str:
    """The same, decided for each letter by itself."""
    gone = {at for pattern in patterns for found in re.finditer(pattern, text) for at in range(*found.span())}
    runs = itertools.groupby(range(len(text)), key=gone.__contains__)
    return "".join(REDACTED if is_gone else "".join(text[at] for at in run) for is_gone, run in runs)


@given(SOME_PATTERNS, LETTERS, st.integers(0, 200))
def test_the_beginning_is_that_of_the_whole_and_what_is_behind_is_counted(
    patterns: list[str], text: str, chars_max: int
) -> None:
    redaction = Redaction([f"/{pattern}/" for pattern in patterns])
    whole = redacted_by_letters(patterns, text)
    assert redaction.cut(text, 10**6) == (whole, 0)
    assert redaction.plain({"x": [text]}) == {"x": [whole]}
    shown, behind = redaction.cut(text, chars_max)
    assert whole.startswith(shown)
    assert len(shown) <= chars_max
    assert behind == 0 or len(shown) + len(REDACTED) > chars_max
    assert behind <= len(text)
    assert (behind == 0) is (shown == whole)


# --- wherever and however


SECRETS = st.text("ABCDEFGHIJ0123456789", min_size=20, max_size=60).map(lambda tail: f"sk-{tail}")
FILLERS = st.text('xyz .-é\x00\ud800\U0001f600"\\', max_size=30)
LENGTHS = st.integers(0, 30) | st.integers(0, 3000) | st.sampled_from([MATCH_CHARS_MAX, MATCH_CHARS_MAX + 100])


@st.composite
def texts_with(draw: st.DrawFn, secret: str) -> str:
    before = draw(FILLERS) + draw(st.sampled_from("x é\U0001f600\x00")) * draw(LENGTHS)
    return before + secret + " " + draw(FILLERS) + "." * draw(LENGTHS)


@st.composite
def trees_with(draw: st.DrawFn) -> tuple[str, Any]:
    secret = draw(SECRETS)
    leaf: Any = draw(texts_with(secret))
    for _ in range(draw(st.integers(0, 4))):
        neighbours = draw(st.lists(texts_with(secret) | TREES, max_size=2))
        wrap = draw(st.sampled_from(["list", "value", "key", "bytes", "object", "fields", "set", "hidden"]))
        if wrap == "list":
            leaf = [*neighbours, leaf]
        elif wrap == "value":
            leaf = {"a": neighbours, "b": leaf}
        elif wrap == "key":
            leaf = {draw(texts_with(secret)): leaf, b"x" + secret.encode(): 1}
        elif wrap == "bytes":
            leaf = [draw(texts_with(secret)).encode("utf-8", "replace"), leaf]
        elif wrap == "object":
            leaf = [ValueError(draw(texts_with(secret))), SimpleNamespace(x=secret), leaf]
        elif wrap == "fields":
            leaf = Login(draw(texts_with(secret)), leaf)
        elif wrap == "set":
            leaf = [frozenset([draw(texts_with(secret))]), leaf]
        else:
            leaf = {"PassWord": leaf, "shown": secret}
    return secret, leaf


@settings(parent=patient, max_examples=400)
@given(trees_with(), st.integers(0, 4000) | st.just(60_000), st.integers(0, 300) | st.just(50_000))
def test_no_part_of_a_secret_is_in_the_event_however_it_is_cut(
    secret_and_tree: tuple[str, Any], bytes_max: int, text_chars_max: int
) -> None:
    secret, data = secret_and_tree
    tree = redacted(data, KEY, "password", bytes_max=bytes_max, text_chars_max=text_chars_max)
    assert secret[:5].encode() not in encode(tree)
    assert_clean(tree, bytes_max=10 * bytes_max + 20_000)


@settings(parent=patient, max_examples=300)
@given(
    st.integers(0, 200),
    st.integers(-100, MATCH_CHARS_MAX + 100),
    st.integers(20, 200) | st.integers(20, MATCH_CHARS_MAX - 3),
    st.sampled_from([0, 1, 100, MATCH_CHARS_MAX, 10**6]),
)
@example(100, -5, 3000, 10**6)
@example(100, -1, MATCH_CHARS_MAX - 3, 10**6)
@example(100, MATCH_CHARS_MAX - 10, 40, 10**6)
def test_a_secret_that_crosses_the_cut_or_the_windows_end_is_not_shown_in_part(
    chars_max: int, offset: int, secret_chars: int, behind: int
) -> None:
    before = "." * max(0, chars_max + offset)
    text = f"{before}sk-{'A' * secret_chars}Z{'.' * behind}"
    # One that is recognised by its end alone, too: half of it is no match.
    for rule in (KEY, "/sk-A+Z/"):
        shown, rest = Redaction([rule]).cut(text, chars_max)
        assert "s" not in shown
        assert len(shown) <= chars_max
        assert rest <= len(text)
        for unit in (2, 3, 4):
            raw = text.replace(".", {2: "é", 3: "…", 4: "\U0001f600"}[unit]).encode()
            tree = redacted({"x": raw}, rule, bytes_max=10**6, text_chars_max=chars_max)
            assert "sk-A" not in tree["x"]


def test_what_becomes_short_brings_nothing_into_sight_that_was_not_seen_whole() -> None:
    """Two secrets shrink to two words; the third one reaches over the window's end, where its `q` is seen alone."""
    text = f"sk-{'A' * 8000}Z " * 2 + f"sk-AAA{'q' * 8000}Z"
    assert Redaction(["/sk-[Aq]+Z/", "/q/"]).cut(text, 300)[0] == REDACTED


@patient
@given(TREES)
def test_what_no_rule_names_stays_as_it_is(data: object) -> None:
    try:
        expected = sanitize_data(data)
    except BaseException as error:
        pytest.skip(repr(error))
    assert str(redacted(data, "no such key", "/no such text/")) == str(expected) or "0x" in str(expected)


def test_a_text_far_longer_than_its_limit_costs_no_more_than_its_beginning() -> None:
    text = "sk-" * 10_000_000
    began = time.thread_time()
    tree = redacted({"x": text, "y": text.encode()}, KEY, bytes_max=2000, text_chars_max=500)
    assert time.thread_time() - began < 1
    assert tree["x"].startswith("sk-sk-")


def test_ten_thousand_long_secrets_cost_a_bounded_time() -> None:
    secret = "sk-" + "A" * 10_000
    began = time.thread_time()
    tree = redacted([secret] * 9000, KEY)
    assert time.thread_time() - began < 2
    assert tree["value"][0] == REDACTED
    assert tree["broadcast.cut"] == ["text"] or tree["broadcast.cut"] == ["items", "text"]
    assert "A" not in json.dumps(tree)


def test_as_many_keys_as_a_mind_invents_cost_bounded_memory() -> None:
    redaction = Redaction(["password"])
    for i in range(3 * NAMES_MAX):
        assert not redaction.hides(f"key {i}", f"key {i}")
    assert len(redaction._verdicts) <= NAMES_MAX
    assert redaction.hides("password", "password")


PLAIN_LEAVES = st.none() | st.integers(-(2**63), 2**63) | ANY_TEXT | SECRETS
PLAIN = st.recursive(
    PLAIN_LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(ANY_TEXT | st.sampled_from(["password", "a", "b", SECRET]), inner, max_size=4)
    ),
)


@patient
@given(st.dictionaries(ANY_TEXT | st.sampled_from(["password", "a", SECRET]), PLAIN, max_size=4))
@example({"a": [{"b": (SECRET, {"password": ["x"]})}], "c": [[], (), {}]})
def test_plain_data_is_redacted_the_same_way(data: dict[str, Any]) -> None:
    plain = Redaction([KEY, "password", "/0+/"]).plain(marshal.loads(marshal.dumps(data, 2)))
    if plain is not None:
        assert sanitize_data(plain) == redacted(data, KEY, "password", "/0+/")
    else:
        assert any(pattern in json.dumps(data) for pattern in ("sk-", "0"))


# --- what is no rule


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("", "is no rule"),
        ("  ", "is no rule"),
        ("x" * 2000, "is no rule"),
        ("/", "begins with a slash"),
        ("//", "begins with a slash"),
        ("/abc", "begins with a slash"),
        ("/abc/i", "begins with a slash"),
        ("/(/", "is no regular expression: missing"),
        ("/a{99999999999}/", "is no regular expression"),
    ],
)
def test_a_broken_rule_is_named(rule: str, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        Redaction(["password", rule])
    assert repr(rule[:60]) in str(caught.value)


def test_there_are_not_endlessly_many_rules() -> None:
    with pytest.raises(SettingError, match="at most 100 rules, got 101"):
        Redaction(["x"] * (RULES_MAX + 1))


@pytest.mark.parametrize("rules", ["password", b"password", 7, None, ["password", 7], [None]])
def test_what_is_no_list_of_texts_is_refused(rules: Any) -> None:
    with pytest.raises(SettingError, match="redact: e"):
        listed_rules(rules)


def test_a_broken_rule_of_the_environment_hides_everything() -> None:
    problems: list[str] = []
    redaction = redaction_of(["password", "/(/"], problems)
    assert redaction is not None
    assert sanitize_data({"a": "secret", "n": 1, "secret": [1]}, redactor=redaction) == {
        REDACTED: REDACTED,
        f"{REDACTED} (2)": REDACTED,
        f"{REDACTED} (3)": REDACTED,
    }
    assert len(problems) == 1
    assert re.match(r"BROADCAST_REDACT: redact: '/\(/' is no regular.*all data is hidden", problems[0])
    assert redaction_of((), problems) is None
    with pytest.raises(SettingError):
        redaction_of(["/(/"], None)


# --- an emitter with rules


def lonely(**arguments: Any) -> Broadcaster:
    """Nobody takes anything out of its buffer."""
    emitter = Broadcaster("redis://127.0.0.1:1", **arguments)
    emitter._sender.running = True
    emitter._sender.idle = False
    return emitter


def payloads_of(emitter: Broadcaster) -> list[bytes]:
    return emitter._buffer.take(events_max=10**6, bytes_max=10**9)


def data_of(emitter: Broadcaster) -> Any:
    [payload] = payloads_of(emitter)
    return json.loads(payload)["data"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"password": "x", "n": 1}, {"password": REDACTED, "n": 1}),
        ({"a": f"key {SECRET}!"}, {"a": f"key {REDACTED}!"}),
        ({"a": {"b": [{"password": 1}, SECRET]}}, {"a": {"b": [{"password": REDACTED}, REDACTED]}}),
        ({SECRET: 1}, {REDACTED: 1}),
        ({"a": Login("me", object())}, {"a": {"user": "me", "password": REDACTED}}),
        (Login("me", object()), {"user": "me", "password": REDACTED}),
        (SECRET, {"value": REDACTED}),
        ([SECRET], {"value": [REDACTED]}),
        (None, {}),
        ({"a": "\x00", "password": "\x00"}, {"a": "\ufffd", "password": REDACTED}),
        ({"a": "\ud800", "b": SECRET}, {"a": "\\ud800", "b": REDACTED}),
        ({"a": list(range(20_000)), "password": 1}, {"a": list(range(20_000)), "password": REDACTED}),
    ],
)
def test_what_is_hidden_is_not_in_the_event_whichever_way_it_takes(data: object, expected: dict[str, Any]) -> None:
    emitter = lonely(redact=["password", KEY], settings=Settings(event_bytes_max=200_000))
    emitter.emit("x", data)
    assert data_of(emitter) == expected


def test_the_returned_event_holds_the_callers_own_data() -> None:
    emitter = lonely(redact=["password"])
    data = {"password": "x", "deep": {"password": "y"}}
    event = emitter.emit("x", data)
    assert event["data"] is data
    assert data == {"password": "x", "deep": {"password": "y"}}


@settings(parent=patient, max_examples=200)
@given(trees_with(), st.sampled_from([4096, 8192, 64 * 1024]))
def test_no_part_of_a_secret_leaves_the_process(secret_and_tree: tuple[str, Any], event_bytes_max: int) -> None:
    secret, data = secret_and_tree
    emitter = lonely(redact=[KEY, "password"], settings=Settings(event_bytes_max=event_bytes_max))
    emitter.emit("x", data)
    [payload] = payloads_of(emitter)
    assert secret[:5].encode() not in payload
    assert len(payload) <= event_bytes_max


@pytest.mark.parametrize("name", [*EVILS, *PARIAHS])
def test_a_hostile_object_is_an_event_like_any_other(name: str) -> None:
    emitter = lonely(redact=[KEY, "password"])
    hostile: Any = {**EVILS, **PARIAHS}[name]()
    emitter.emit(hostile, {"x": hostile, "password": hostile, "key": SECRET})
    data = data_of(emitter)
    assert (data["password"], data["key"]) == (REDACTED, REDACTED)


def test_the_error_of_a_cycle_is_redacted_too() -> None:
    emitter = lonely(redact=[KEY])
    with pytest.raises(ValueError, match=SECRET), emitter.cycle():
        raise ValueError(f"401 for {SECRET}")
    events = [json.loads(payload) for payload in payloads_of(emitter)]
    assert [event["type"] for event in events] == ["cycle.start", "error", "cycle.end"]
    assert events[1]["data"]["message"] == f"ValueError: 401 for {REDACTED}"
    # The line of the program that raises is in it as well.
    assert SECRET not in events[1]["data"]["traceback"]


def test_an_object_that_emits_plain_data_while_it_is_read_is_heard() -> None:
    class Chatty:
        def __str__(self) -> str:
            emitter.emit("inner", {"flat": SECRET})
            emitter.emit("inner", {"deep": [SECRET]})
            emitter.emit("inner", {"me": self})
            return "done"

    emitter = lonely(redact=[KEY])
    emitter.emit("outer", {"x": Chatty()})
    assert [json.loads(payload)["data"] for payload in payloads_of(emitter)] == [
        *[{"flat": REDACTED}, {"deep": [REDACTED]}] * NESTED_MAX,
        *[{"me": "done"}] * (NESTED_MAX - 1),
        {"x": "done"},
    ]
    assert emitter.stats().dropped["nested"] == 1


def test_what_a_test_captures_is_redacted() -> None:
    with broadcast.testing.capture() as events:
        Broadcaster(redact=["password"]).emit("x", {"password": "x"})
    assert events[0]["data"] == {"password": REDACTED}


def test_nothing_is_redacted_unless_somebody_asks() -> None:
    emitter = lonely()
    emitter.emit("x", {"password": SECRET})
    assert data_of(emitter) == {"password": SECRET}
    assert emitter._screen is None


# --- the environment, and arguments


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("password, *_token", ("password", "*_token")),
        ("/sk-[a-z]+/,", ("/sk-[a-z]+/",)),
        (' ["/a{1,2}/", "[p]in"]', ("/a{1,2}/", "[p]in")),
        ("[]", ()),
    ],
)
def test_the_environment_names_rules(text: str, rules: tuple[str, ...]) -> None:
    assert Settings.from_environment({"BROADCAST_REDACT": text}).redact == rules


@pytest.mark.parametrize("text", ['["a"', "[1]", '["a", null]', "[password]"])
def test_a_list_that_is_no_json_hides_everything_in_an_emitter_and_stops_others(text: str) -> None:
    found, problems = Settings.for_emitter({"BROADCAST_REDACT": text})
    assert found.redact == HIDE_ALL
    assert [problem.partition(":")[0] for problem in problems] == ["BROADCAST_REDACT"]
    with pytest.raises(SettingError, match="BROADCAST_REDACT"):
        Settings.from_environment({"BROADCAST_REDACT": text})


@pytest.mark.parametrize("text", ["/(/", "password,/a{1,2}/", '["/["]', '["a"', "/x/i"])
def test_an_emitter_with_a_broken_rule_says_so_and_tells_no_data(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BROADCAST_REDACT", text)
    emitter = lonely()
    emitter.set_cycle(7, 8)
    assert emitter.emit("x", {"a": "secret"})["type"] == "x"
    [payload] = payloads_of(emitter)
    event = json.loads(payload)
    assert (event["type"], event["cycle"], event["data"]) == ("x", 7, {REDACTED: REDACTED})
    [problem] = emitter.stats().problems
    assert problem.startswith("BROADCAST_REDACT: ")


def test_a_file_of_rules_that_cannot_be_read_hides_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCAST_REDACT_FILE", "/nowhere/at/all")
    emitter = lonely()
    emitter.emit("x", {"a": "secret"})
    assert data_of(emitter) == {REDACTED: REDACTED}


def test_a_broken_rule_that_is_an_argument_raises() -> None:
    with pytest.raises(SettingError, match=r"'/\(/' is no regular expression"):
        Broadcaster(redact=["/(/"])
    with pytest.raises(SettingError, match="is no regular expression"):
        Broadcaster(settings=Settings(redact=("/(/",)))
    with pytest.raises(SettingError, match="expected a list of rules"):
        Broadcaster(redact="password")


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCAST_REDACT", "a")
    for redact, expected in ((None, {"a": REDACTED, "b": 1}), (["b"], {"a": 1, "b": REDACTED}), ([], {"a": 1, "b": 1})):
        emitter = lonely(redact=redact)
        emitter.emit("x", {"a": 1, "b": 1})
        assert data_of(emitter) == expected


def test_on_the_wire_there_is_no_secret(valkey_server: RedisServer) -> None:
    emitter = Broadcaster(valkey_server.url, redact=["password", KEY])
    emitter.set_cycle(1, 1)
    for data in ({"password": SECRET}, {"deep": [SECRET]}, {"x": ValueError(SECRET)}, SECRET.encode()):
        emitter.emit("x", data)
    assert emitter.close(5)
    with valkey_server.client() as client:
        entries: Any = client.xrange("v5:stream")
    events = [fields[b"event"] for _, fields in entries]
    assert len(events) == 4
    assert SECRET[:6].encode() not in b"".join(events)
    assert b"".join(events).count(REDACTED.encode()) == 4
