"""Print the settings page of the documentation, made from `settings.py`; a test compares the two."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from broadcast.settings import Settings


def shown(value: Any) -> str:
    if value in ("", ()):
        return "–"
    return f"{value:,}" if type(value) is int and value > 65535 else str(value)


def page() -> str:
    lines = [
        "# Settings",
        "",
        "Every setting is a variable of the environment;",
        "`broadcast up` and `serve` take the commonest as options, too.",
        "With `_FILE` behind its name, a variable names a file that holds the value (for secrets);"
        " an empty file is refused.",
        "Made by `scripts/generate_settings_page.py`.",
        "",
        "| variable | default | what it is |",
        "| --- | --- | --- |",
    ]
    rows = [(f.metadata["variable"], shown(f.default), f.metadata["why"]) for f in fields(Settings)]
    return "\n".join([*lines, *(f"| `{name}` | {default} | {why} |" for name, default, why in rows)]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
