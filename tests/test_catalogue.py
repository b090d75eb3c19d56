"""The vocabulary against the specification's own tables, and what is generated from it against what is committed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from broadcast.catalogue import CATALOGUE, Field

ROOT: Final = Path(__file__).parent.parent
SPECIFICATION: Final = ROOT.parent / "shared" / "spec"
OWN: Final = {
    "broadcast.lost": ["count", "reason", "first_ts", "last_ts", "producer"],
    "broadcast.producer": ["state", "producer", "host", "pid"],
    "broadcast.limited": ["withheld", "first_ts", "last_ts", "producer"],
    "broadcast.gap": ["after", "before", "lost", "reason"],
    "broadcast.malformed": ["id", "reason"],
    "broadcast.erased": ["ids", "types", "from", "to", "until", "stream", "archive"],
    "broadcast.blank": ["reason"],
}
"""Our own types and their fields, as docs/protocol.md has them."""

Shape = list[tuple[str, str, Any]]
"""Name, `list`, `object` or nothing, and the shape inside."""


class Row(NamedTuple):
    group: str
    fields: Shape
    when: str


@pytest.fixture(scope="module")
def table() -> dict[str, Row]:
    pages = sorted(SPECIFICATION.glob("*.txt"))
    if not pages:
        pytest.skip(f"the specification is not beside this checkout ({SPECIFICATION})")
    return read_tables("".join(page.read_text("utf-8") for page in pages))


def read_tables(text: str) -> dict[str, Row]:
    chapter = text.partition("\n## Event Types\n")[2].partition("\n## ")[0]
    rows: dict[str, Row] = {}
    group = ""
    for line in chapter.splitlines():
        if line.startswith("### "):
            group = line.removeprefix("### ")
        elif found := re.fullmatch(r"\| `(.+?)` \| `(.+)` \| (.+) \|", line):
            rows[found[1]] = Row(group, read_object(re.findall(r"\w+|[{}\[\]]", found[2])), found[3])
    return rows


def read_object(tokens: list[str]) -> Shape:
    """Take `{ a b [ … ] c { … } }` off the front of the tokens."""
    assert tokens.pop(0) == "{"
    shape: Shape = []
    while (name := tokens.pop(0)) != "}":
        if tokens[0] == "{":
            shape.append((name, "object", read_object(tokens)))
        elif tokens[0] == "[":
            tokens.pop(0)
            shape.append((name, "list", read_object(tokens) if tokens[0] == "{" else []))
            assert tokens.pop(0) == "]"
        else:
            shape.append((name, "", []))
    return shape


def shape_of(fields: tuple[Field, ...], beside: Shape) -> Shape:
    """A field's kind counts where the specification shows one; the rest of them is ours to say."""
    said = {name: (kind, inside) for name, kind, inside in beside}
    shape: Shape = []
    for field in fields:
        kind, inside = said.get(field.name, ("", []))
        shape.append((field.name, field.kind if kind else "", shape_of(field.inside, inside)))
    return shape


def test_the_catalogue_has_the_specifications_types_in_its_order_and_ours_after_them(
    table: dict[str, Row],
) -> None:
    assert len(table) == 20
    assert [*table, *OWN] == list(CATALOGUE)


def test_groups_fields_and_occasions_are_the_specifications(table: dict[str, Row]) -> None:
    ours = {
        name: Row(CATALOGUE[name].group, shape_of(CATALOGUE[name].fields, row.fields), CATALOGUE[name].when)
        for name, row in table.items()
    }
    assert table == ours


def test_our_own_types_have_the_fields_that_are_written_down() -> None:
    ours = {name: event_type for name, event_type in CATALOGUE.items() if name.startswith("broadcast.")}
    assert OWN == {name: [field.name for field in event_type.fields] for name, event_type in ours.items()}
    protocol = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    assert [] == [name for name in OWN if f"`{name}" not in protocol]


def test_a_key_of_the_catalogue_is_the_types_name() -> None:
    assert {name: name for name in CATALOGUE} == {name: each.name for name, each in CATALOGUE.items()}


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_digest_names_only_fields_of_its_type(name: str) -> None:
    event_type = CATALOGUE[name]
    holes: list[str] = re.findall(r"\{#?([^}|]*)[^}]*\}", event_type.digest)
    assert holes
    for hole in holes:
        fields = event_type.fields
        for part in hole.split("."):
            found = {field.name: field for field in fields}
            assert part in found, f"{{{hole}}} is no field of {name}"
            fields = found[part].inside


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_digest_is_well_formed(name: str) -> None:
    """What is neither hole nor section holds no bracket, and no section holds another."""
    bare = re.sub(r"\{#?[a-z0-9_.]+(\|[a-z]+\|[a-z]+)?\}", "", CATALOGUE[name].digest)
    assert not re.search(r"[{}\[\]]", re.sub(r"\[[^\[\]]*\]", "", bare))


def test_the_generated_typescript_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "generate_catalogue_ts.py"))
    committed: str = script["TARGET"].read_text("utf-8")
    assert script["generate"]() == committed, "run scripts/generate_catalogue_ts.py"
