"""The grammar of the page's filter box, in Python and on the page: one golden file, one meaning."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast.catalogue import CATALOGUE
from broadcast.errors import FilterError
from broadcast.search import parse_search
from tests.test_digest import ROOT, node

GOLDEN: Final[dict[str, Any]] = json.loads((ROOT / "tests" / "golden" / "filters.json").read_text("utf-8"))
EVENTS: Final[list[dict[str, Any]]] = GOLDEN["events"]

# Reads filters and answers with which of the events pass each, or null where it is refused.
TWIN: Final = """
import { FilterError, parseFilter } from "./filter.ts";
let text = "";
for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
const { filters, events } = JSON.parse(text);
const answer = (filter) => {
  try {
    return events.map(parseFilter(filter)).map((passes) => (passes ? "1" : "0")).join("");
  } catch (error) {
    if (error instanceof FilterError) return null;
    throw error;
  }
};
process.stdout.write(JSON.stringify(filters.map(answer)));
"""

SPACES: Final = st.sampled_from([" ", ",", ", ", "  ", "\t", "\u00a0", "\ufeff", "\u2028"])
NUMBERS: Final = st.sampled_from(["0", "41", "43..45", "41..", "007", "1e2", "0.8", "-1", "1e-7", "1e+21", "1.5e-10"])
TIMES: Final = st.sampled_from(
    ["2026", "2026-02-14T19:01..2026-02-14T20", "2026-02-14T19:01:23.456Z", "19:01", "2026-2"]
)
WORDS: Final = st.sampled_from(
    ["rain", "RAIN", "a letter", "sense.*", "error", "x:y", "*", "-", "*.a", "é", "True", "{", "…"]
)
VALUES: Final = NUMBERS | TIMES | WORDS | st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), max_size=6)
FIELDS: Final = st.sampled_from(
    [
        "",
        "type:",
        "cycle:",
        "day:",
        "ts:",
        "by:",
        "id:",
        "sense:",
        "signal.nodes:",
        "projections.0:",
        "hunger:",
        "a b:",
        ":",
    ]
)
TERMS: Final = st.builds(
    lambda minus, field, quote, value: f"{minus}{field}{quote}{value}{quote}",
    st.sampled_from(["", "", "-"]),
    FIELDS,
    st.sampled_from(["", "", '"']),
    VALUES,
)
FILTERS: Final = st.lists(st.tuples(TERMS, SPACES), max_size=5).map(lambda parts: "".join(a + b for a, b in parts))
NUMBERED: Final = [
    {"type": "state.drive", "ts": "2026-02-14T19:01:23.456Z", "cycle": 41, "day": 1, "data": {"hunger": value}}
    for value in (0, 1.0, -0.5, 1e-7, 1.5e-10, 1e21, 123456789012345678901, True, None, [1, 2.5], "0.8", 100.0)
]


def passed(text: str, events: list[dict[str, Any]] = EVENTS) -> str:
    matches = parse_search(text)
    return "".join("1" if matches(event) else "0" for event in events)


@pytest.mark.parametrize(("text", "expected"), GOLDEN["matches"])
def test_a_filter_lets_pass_what_the_golden_file_says(text: str, expected: str) -> None:
    assert expected == passed(text)


@pytest.mark.parametrize("text", GOLDEN["wrong"])
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(FilterError, match=r"filter:|types:"):
        parse_search(text)


def test_the_page_passes_the_same_golden_file() -> None:
    done = node("--test", "--test-reporter=tap", "filter.test.ts")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"# tests (\d+)", done.stdout)
    assert ran is not None and len(GOLDEN["matches"]) + len(GOLDEN["wrong"]) < int(ran[1])


def test_the_page_lets_pass_what_python_lets_pass_whatever_is_written() -> None:
    made: list[str] = []

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(FILTERS)
    def collect(text: str) -> None:
        made.append(text)

    collect()
    made += [
        f"hunger:{value}" for value in ("0", "1", "-0.5", "1e-7", "1.5e-10", "1e+21", "true", "null", "2.5", "100")
    ]
    made += ["1e-7", "123456789012345680000", "[1,2.5]", ":100}", '"\\"0.8\\""']
    events = [*EVENTS, *NUMBERED]
    done = node("--input-type=module", "--eval", TWIN, stdin=json.dumps({"filters": made, "events": events}))
    assert done.returncode == 0, done.stderr
    answers: list[str | None] = json.loads(done.stdout)
    assert 100 < answers.count(None) < len(answers) / 2
    for text, answer in zip(made, answers, strict=True):
        try:
            here = passed(text, events)
        except FilterError:
            here = None
        assert answer == here, text


def test_every_type_of_the_catalogue_is_one_without_being_told() -> None:
    for name in CATALOGUE:
        matches = parse_search(name)
        assert matches({"type": name, "data": {}}) and not matches({"type": "other", "data": {"text": name}})


def test_data_of_any_depth_is_looked_through_or_passed_over() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert parse_search("deep.x")({"type": "deep.x", "data": deep})
    assert not parse_search("rain")({"type": "deep.x", "data": deep})
