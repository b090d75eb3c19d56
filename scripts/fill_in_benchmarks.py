"""Print `docs/benchmarks.md` with its results made anew from `docs/benchmarks.json`; a test compares the two.

.venv/bin/python -m benchmarks emit latency memory exits imports append --json docs/benchmarks.json
.venv/bin/python scripts/fill_in_benchmarks.py > page && mv page docs/benchmarks.md
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
REPORT = ROOT / "docs" / "benchmarks.json"
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
    return inspect.cleandoc(importlib.import_module(f"benchmarks.{part}").__doc__ or "")


def row(figure: dict[str, Any]) -> str:
    from benchmarks.figures import verdict

    word = verdict(figure["target"], figure["reached"])
    cells = (figure["name"], figure["measured"], figure["target"], f"**{word}**" if word == "missed" else word)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(text: str, report: dict[str, Any]) -> str:
    head, marker, _ = text.partition(BEGIN)
    assert marker, f"{PAGE} has lost its marker: {BEGIN}"
    return f"{head}{BEGIN}\n\n{results(report)}"


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))  # for the parts, which are no package that is installed
    there = PAGE.read_text("utf-8")
    made = page(there, json.loads(REPORT.read_text("utf-8")))
    if arguments == ["--check"]:
        return int(made != there)
    PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
