"""Make the results in the pages of benchmarks anew from what was measured; a test compares the two.

.venv/bin/python -m benchmarks emit latency memory exits imports append --json docs/benchmarks.json
.venv/bin/python -m benchmarks archive history filters --json docs/archive-benchmarks.json
.venv/bin/python scripts/fill_in_benchmarks.py
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "archive-benchmarks.md"]
"""Each beside its report: the same name with `.json`, one run or a list of them."""
BEGIN = "<!-- results: made by scripts/fill_in_benchmarks.py, not typed -->"


def results(report: dict[str, Any]) -> str:
    machine = report["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"{machine['date']}, on {machine['processor']}, {machine['cores']} cores, {machine['kernel']}; "
        f"Python {machine['python']}; {machine['server']}; {packages}.",
        f"Load of the machine before the run {machine['load_before']}, behind it {machine['load_after']}.",
    ]
    for name, part in report["parts"].items():
        title = part["title"].partition(": ")[2]
        lines += ["", f"### {name}: {title}", "", meaning(name), ""]
        lines += ["| figure | measured | target | |", "| --- | --- | --- | --- |"]
        lines += [row(figure) for figure in part["figures"]]
    return "\n".join(lines) + "\n"


def meaning(part: str) -> str:
    """What the part itself says about what it measures."""
    from benchmarks.__main__ import PARTS

    module = inspect.getmodule(PARTS[part])
    return inspect.cleandoc((module and module.__doc__) or "")


def row(figure: dict[str, Any]) -> str:
    from benchmarks.figures import verdict

    word = verdict(figure["target"], figure["reached"])
    cells = (figure["name"], figure["measured"], figure["target"], f"**{word}**" if word == "missed" else word)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(text: str, *runs: dict[str, Any]) -> str:
    head, marker, _ = text.partition(BEGIN)
    assert marker, f"the page has lost its marker: {BEGIN}"
    return f"{head}{BEGIN}\n\n{chr(10).join(map(results, runs))}"


def remade(path: Path) -> str:
    found = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return page(path.read_text("utf-8"), *(found if isinstance(found, list) else [found]))


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))  # for the parts, which are no package that is installed
    made = {path: remade(path) for path in PAGES}
    if arguments == ["--check"]:
        return int(any(text != path.read_text("utf-8") for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
