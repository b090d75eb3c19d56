"""What the repository itself promises: documents that are true, locks without addresses, stable names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from broadcast.errors import CODES
from broadcast.settings import VARIABLES

ROOT = Path(__file__).parent.parent


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8", "replace")


def test_locks_hold_hashes_and_no_address() -> None:
    locks = [name for name in tracked() if re.search(r"(\.lock|lock\.json)$", name)]

    assert {"requirements/dev.lock", "web/package-lock.json"} <= set(locks)
    assert [] == [name for name in locks if re.search(r"https?://", text_of(name))]
    assert "--hash=sha256:" in text_of("requirements/dev.lock")


def test_the_core_needs_two_packages_and_everything_else_is_an_extra() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]

    assert ("v5-broadcast", ">=3.11") == (project["name"], project["requires-python"])
    assert ["orjson", "redis"] == sorted(re.split(r"\W", each)[0] for each in project["dependencies"])
    assert {"bridge", "archive", "cli", "embedded", "all"} == set(extras)
    (everything,) = extras["all"]
    assert set(extras) - {"all"} == set(re.findall(r"\w+", everything.partition("[")[2]))


def test_no_path_of_a_machine_is_in_a_tracked_file() -> None:
    needle = str(ROOT.parent) + "/"

    assert [] == [name for name in tracked() if needle in text_of(name)]


def test_no_built_bundle_is_tracked() -> None:
    assert [] == tracked("src/broadcast/bridge/static", "web/node_modules")


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "docs/security.md"])
def test_files_that_a_document_names_exist(document: str) -> None:
    text = text_of(document)
    named = set(re.findall(r"`((?:tests|src|docs|deploy|scripts|examples)/[\w./-]+)`", text))
    named |= set(re.findall(r"\]\(([\w./-]+)\)", text))

    assert named
    places = [ROOT, (ROOT / document).parent]
    assert [] == sorted(name for name in named if not any((place / name).exists() for place in places))


def test_every_setting_is_on_its_page() -> None:
    command = [sys.executable, "scripts/generate_settings_page.py"]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert page == text_of("docs/settings.md")
    assert [] == [name for name in VARIABLES if f"`{name}`" not in text_of("docs/settings.md")]


def test_every_code_is_in_the_protocol() -> None:
    assert [] == [name for name in CODES if f"| `{name}` |" not in text_of("docs/protocol.md")]


def test_the_readme_shows_code_early_and_stays_short() -> None:
    lines = text_of("README.md").splitlines()

    assert lines.index("```python") < 25
    assert len(lines) <= 130


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"`broadcast (\w+)", text_of("README.md")))
    shown = subprocess.run([sys.executable, "-m", "broadcast", "--help"], capture_output=True, text=True, check=True)

    assert named
    assert [] == sorted(name for name in named if not re.search(rf"\b{name}\b", shown.stdout))


def test_every_target_of_make_that_documents_name_exists() -> None:
    named = set(re.findall(r"(?m)(?:`|^ *)make (\w+)", text_of("README.md") + text_of("CONTRIBUTING.md")))
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))

    assert {"run", "test", "setup", "bench", "check"} <= targets
    assert named <= targets


def test_source_files_stay_small() -> None:
    """House rule: about 250 lines, 400 stop."""
    sizes = {name: text_of(name).count("\n") for name in tracked("src/*.py", "web/*.ts", "examples/*.py")}

    assert {} == {name: size for name, size in sizes.items() if size > 400 and ".gen." not in name}
