"""What of Docker can be followed without an engine: the interpolation of compose.yaml, the steps of a Dockerfile."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parent.parent

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?:(:-|:\?)([^{}$]*))?\}|(\$)|)")


class MissingVariableError(Exception):
    """Compose would refuse: the text is the file's own."""


class StepFailedError(Exception):
    """A step of the Dockerfile fails; the text is what it wrote."""


def read_compose(environ: Mapping[str, str]) -> dict[str, Any]:
    """compose.yaml as Docker Compose understands it with this `.env`."""
    interpolated: dict[str, Any] = _interpolated(yaml.safe_load((ROOT / "compose.yaml").read_text()), environ)
    return interpolated


def _interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolated(inner, environ) for inner in value]
    return _VARIABLE.sub(lambda found: _value(found, environ), value) if isinstance(value, str) else value


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    name, operator, text, dollar = found.groups()
    if dollar:
        return "$"
    if not name:
        raise ValueError(f"this form of interpolation is not known here: {found.string!r}")
    if operator == ":?" and not environ.get(name):
        raise MissingVariableError(f"{name}: {text}")
    return environ.get(name, "") or (text if operator == ":-" else "")


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile.

    Args:
        stage: counted from 0.
        name: as `COPY`.
        words: its arguments, flags among them.
    """

    stage: int
    name: str
    words: tuple[str, ...]


def read_dockerfile() -> list[Step]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    steps: list[Step] = []
    stage = -1
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        stage += name == "FROM"
        if name:
            words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
            steps.append(Step(stage, name, tuple(words)))
    return steps


def environment_of(words: Iterable[str]) -> dict[str, str]:
    """What an ENV step sets."""
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def copied_sources() -> list[str]:
    """What the Dockerfile takes out of the checkout."""
    copies = [step.words for step in read_dockerfile() if step.name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def tracked_files() -> list[str]:
    """What a fresh clone would hold: everything that is there and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if (ROOT / name).is_file()})


def tracked_under(source: str) -> list[str]:
    return [name for name in tracked_files() if name == source or name.startswith(f"{source.rstrip('/')}/")]


class NativeBuild:
    """Follows the builder's steps below a folder that stands for the container's root.

    The locked packages are those of the running virtualenv: they are not fetched again, and neither is the backend.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workdir = root
        self.environment: dict[str, str] = {}

    def path(self, inside: str) -> Path:
        """Where a path of the container lies here; a relative one counts from WORKDIR."""
        return self.root / inside[1:] if inside.startswith("/") else self.workdir / inside

    def run(self, environ: Mapping[str, str]) -> None:
        for step in read_dockerfile():
            if step.stage == 0 and step.name != "FROM":
                getattr(self, f"_{step.name.lower()}")(step.words, environ)
        site = next(self.path("/opt/broadcast").glob("lib/python*/site-packages"))
        (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def _env(self, words: tuple[str, ...], _environ: Mapping[str, str]) -> None:
        self.environment.update(environment_of(words))

    def _workdir(self, words: tuple[str, ...], _environ: Mapping[str, str]) -> None:
        self.workdir = self.path(words[0])
        self.workdir.mkdir(parents=True)

    def _copy(self, words: tuple[str, ...], _environ: Mapping[str, str]) -> None:
        *sources, target = words
        for source in sources:
            for name in tracked_under(source):
                place = self.path(target) / (Path(name).name if name == source else Path(name).relative_to(source))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place)

    def _run(self, words: tuple[str, ...], environ: Mapping[str, str]) -> None:
        if "--require-hashes" in words:
            assert self.path(words[-1]).is_file()
            return
        command = [str(self.path(word)) if word.startswith("/") else word for word in words]
        if "wheel" in command:
            command.insert(command.index("wheel") + 1, "--no-build-isolation")
        assert command[0] == "python"
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=self.workdir,
            env={**environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepFailedError(f"RUN {shlex.join(words)}\n{done.stdout}")
