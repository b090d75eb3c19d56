"""What the Dockerfile, .dockerignore and the server's lock say; tests/test_compose.py follows them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.containers import ROOT, copied_sources, environment_of, read_dockerfile, tracked_under


@pytest.mark.parametrize("source", copied_sources())
def test_what_the_dockerfile_copies_is_in_a_fresh_clone(source: str) -> None:
    assert tracked_under(source)


def test_the_build_is_given_what_the_dockerfile_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[: len(allowed) + 1] == ["*", *(f"!{name}" for name in allowed)]
    assert sorted(allowed) == sorted(copied_sources())
    assert {"web/node_modules", "src/broadcast/bridge/static"} <= set(rules[len(allowed) + 1 :])


def test_only_the_finished_folder_goes_from_the_builder_into_the_image() -> None:
    last = [step for step in read_dockerfile() if step.stage == 1]
    assert [step.words for step in last if step.name == "COPY"] == [
        ("--from=builder", "/opt/broadcast", "/opt/broadcast")
    ]
    assert not [step for step in last if step.name == "RUN"]
    froms = [step.words[0] for step in read_dockerfile() if step.name == "FROM"]
    assert len(set(froms)) == 1, "a virtualenv only runs on the Python it was made with"


def test_an_image_without_the_page_cannot_be_made() -> None:
    words = [word for step in read_dockerfile() if (step.stage, step.name) == (0, "ENV") for word in step.words]
    assert environment_of(words)["BROADCAST_REQUIRE_WEB"] == "1"


def test_the_servers_lock_is_whole_hashed_and_the_same_as_the_developers() -> None:
    text = (ROOT / "requirements" / "server.lock").read_text()
    locked = pins(text)
    assert "://" not in text, "a lock names no registry: the user's own is used"
    assert text.count("--hash=sha256:") >= len(locked)
    developers = pins((ROOT / "requirements" / "dev.lock").read_text())
    assert locked.items() <= developers.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["bridge"], *extras["archive"], *extras["cli"]]
    assert {normal(re.split(r"[^\w.-]", each)[0]) for each in asked} <= set(locked)


def pins(lock: str) -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
