"""Filters: the canonical form obeys an algebra, and matches what the patterns say when read naively."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.errors import FilterError
from broadcast.filters import ALL, PATTERNS_MAX, Filter, parse_filter

# Few letters, so that patterns meet each other and the types.
SEGMENTS = st.sampled_from(["a", "b", "ab", ""])
STEMS = st.lists(SEGMENTS, min_size=1, max_size=3).map(".".join).filter(bool)
BARE = STEMS | STEMS.map(lambda stem: f"{stem}.*") | st.just("*")
PATTERNS = st.lists(BARE | BARE.map(lambda bare: f"-{bare}"), max_size=6)
TYPES = st.lists(SEGMENTS, min_size=0, max_size=4).map(".".join)


def reads(pattern: str, event_type: str) -> bool:
    if pattern == "*":
        return True
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern


def naively(patterns: list[str], event_type: str) -> bool:
    wanted = [pattern for pattern in patterns if not pattern.startswith("-")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("-")]
    return any(reads(p, event_type) for p in wanted) and not any(reads(p, event_type) for p in unwanted)


@given(PATTERNS, st.lists(TYPES, min_size=1))
def test_a_filter_matches_what_its_patterns_say(patterns: list[str], types: list[str]) -> None:
    matches = parse_filter(patterns).matches
    assert {t: matches(t) for t in types} == {t: naively(patterns, t) for t in types}


@given(PATTERNS)
def test_the_canonical_form_of_a_canonical_form_is_itself(patterns: list[str]) -> None:
    once = parse_filter(patterns)
    assert parse_filter(once.patterns) == once
    assert parse_filter(",".join(once.patterns)) == once


@given(PATTERNS, st.randoms(use_true_random=False))
def test_order_and_repeats_have_no_meaning(patterns: list[str], chance: random.Random) -> None:
    shuffled = patterns + patterns[:2]
    chance.shuffle(shuffled)
    assert parse_filter(shuffled) == parse_filter(patterns)
    assert hash(parse_filter(shuffled)) == hash(parse_filter(patterns))


@given(PATTERNS, PATTERNS, st.lists(TYPES, min_size=1))
def test_equal_canonical_forms_match_the_same_types(one: list[str], other: list[str], types: list[str]) -> None:
    if parse_filter(one).patterns == parse_filter(other).patterns:
        assert [naively(one, t) for t in types] == [naively(other, t) for t in types]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (None, ("*",)),
        ("", ("*",)),
        ([], ("*",)),
        ("sense.*, cycle.start", ("cycle.start", "sense.*")),
        (["sense.*", "sense.all", "sense.*"], ("sense.*",)),
        (["*", "sense.*"], ("*",)),
        ("-state.drive", ("*", "-state.drive")),
        (["sense.*", "-state.drive"], ("sense.*",)),
        (["sense.*", "state.mood", "-state.*"], ("sense.*",)),
        (["sense.*", "-sense.*"], ("-*",)),
        (["a.b", "-a.b"], ("-*",)),
        (["a", "b", "-a"], ("b",)),
        ("-*", ("-*",)),
        ({"a", "b"}, ("a", "b")),
    ],
)
def test_canonical_forms(types: Any, expected: tuple[str, ...]) -> None:
    assert parse_filter(types).patterns == expected


def test_no_patterns_are_the_filter_that_lets_everything_pass() -> None:
    assert parse_filter(None) is ALL
    assert parse_filter("*") == ALL
    assert ALL.matches("")
    assert isinstance(ALL, Filter)


@pytest.mark.parametrize(
    "types",
    ["*.a", "a*", "a.*.b", ".*", "-", "--a", "a b", ["a,b"], ["a\x00"], [""], "x" * 300],
)
def test_what_is_no_pattern_is_refused_and_what_is_accepted_is_said(types: Any) -> None:
    with pytest.raises(FilterError, match=r"accepted are 'cycle\.start', 'sense\.\*'"):
        parse_filter(types)


@pytest.mark.parametrize("types", [7, {"a": 1}, [7], [None], b"abc", ["a"] * (PATTERNS_MAX + 1)])
def test_what_is_no_list_of_patterns_is_refused(types: Any) -> None:
    with pytest.raises(FilterError, match=r"^types: "):
        parse_filter(types)


@given(st.text() | st.lists(st.text()))
def test_any_text_is_either_a_filter_or_refused(types: Any) -> None:
    with contextlib.suppress(FilterError):
        assert isinstance(parse_filter(types).matches("a.b"), bool)
