"""The child processes of `broadcast up`: each in a group of its own, ended in the order in which they depend."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from broadcast.cli.lifeline import CHILD_STOP_S
from broadcast.cli.reach import ask_bridge
from broadcast.embedded.process import stop_process
from broadcast.errors import BroadcastError, SettingError
from broadcast.settings import Settings

__all__ = [
    "Child",
    "example_mind",
    "private_state_folder",
    "start_archiver",
    "start_bridge",
    "start_mind",
    "state_folder",
]

READY_TIMEOUT_S: Final = 30.0
NO_ANSWER: Final = "no answer yet"
WORDS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Child:
    """A child process."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path | None
    """What it says; None where that goes to the terminal."""
    is_needed: bool
    """Whether the others are nothing without it."""

    def last_words(self) -> str:
        """That it ended by itself, and the last line of its log."""
        ended = f"the {self.name} ended by itself with code {self.process.returncode}"
        if self.log_path is None:
            return ended
        lines = self.log_path.read_text("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{ended}: {said[:WORDS_MAX]} (its log: {self.log_path})" if said else ended


def state_folder() -> Path:
    """Where this user's programs keep what must outlive them (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "v5-broadcast"


def private_state_folder() -> Path:
    """The same, made if missing, for this user's eyes alone: there are logs in it, and the archive's address."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # somebody else's, who lets us write: his to say
        folder.chmod(0o700)  # an earlier version has made it for all to see
    return folder


def start_bridge(
    stack: contextlib.ExitStack, console: Console, settings: Settings, environment: dict[str, str]
) -> Child:
    """Start the bridge, and wait until it is ready.

    Args:
        stack: ends it.
        console: where it is said what is waited for.
        settings: where it listens.
        environment: its own.

    Raises:
        SettingError: it ended at once.
        BroadcastError: it is not ready in time; the text names its log.
    """
    command = ["-m", "broadcast", "serve", "--host", settings.host, "--port", str(settings.port)]
    log_path = _log_path("bridge", settings)
    child = Child("bridge", _start(stack, command, environment, log_path), log_path, is_needed=True)
    deadline = time.monotonic() + READY_TIMEOUT_S
    said = ""
    while missing := _missing_for(settings):
        if child.process.poll() is not None:
            raise SettingError(f"the bridge did not start: {log_path.read_text('utf-8', 'replace')[-500:].strip()}")
        if time.monotonic() > deadline:
            raise BroadcastError(
                f"the bridge is not ready after {READY_TIMEOUT_S:g} s ({missing}); its log: {log_path}"
            )
        if missing not in (NO_ANSWER, said):
            said = missing
            console.print(f"waiting   {missing}", markup=False)
        time.sleep(0.05)
    return child


def _missing_for(settings: Settings) -> str:
    """What the bridge still lacks; empty if it is ready."""
    try:
        with ask_bridge(settings, "/readyz", timeout_s=1):
            return ""
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError, KeyError):
            return ", ".join(orjson.loads(error.read())["reasons"])
        return f"/readyz answers {error.code}"
    except OSError:
        return NO_ANSWER


def _log_path(name: str, settings: Settings) -> Path:
    return private_state_folder() / f"{name}-{settings.port}.log"


def start_archiver(
    stack: contextlib.ExitStack, settings: Settings, environment: dict[str, str], *, keep: str | None
) -> Child:
    """Start the archiver, which waits for whatever it needs by itself.

    Args:
        stack: ends it.
        settings: whose port its log is named by.
        environment: its own.
        keep: what is older is dropped; None for nothing.
    """
    log_path = _log_path("archiver", settings)
    command = ["-m", "broadcast", "archive", *(() if keep is None else ("--keep", keep))]
    process = _start(stack, command, environment, log_path)
    return Child("archiver", process, log_path, is_needed=False)


def start_mind(stack: contextlib.ExitStack, environment: dict[str, str]) -> Child:
    """Start the example mind.

    Raises:
        SettingError: there is none.
    """
    return Child("mind", _start(stack, [str(example_mind())], environment, None), None, is_needed=True)


def example_mind() -> Path:
    """The folder of the example mind: in the installed package, or in the checkout.

    Raises:
        SettingError: it is in neither.
    """
    spec = find_spec("broadcast")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    for folder in (package / "_example_mind", package.parent.parent / "examples" / "mind"):
        if (folder / "__main__.py").is_file():
            return folder
    raise SettingError("this installation carries no example mind; use --no-mind")


def _start(
    stack: contextlib.ExitStack, arguments: list[str], environment: dict[str, str], log_path: Path | None
) -> subprocess.Popen[bytes]:
    with contextlib.nullcontext() if log_path is None else log_path.open("wb") as log:
        # A group of its own: Ctrl-C on the terminal reaches us alone, and we end the others in our order.
        child = subprocess.Popen(
            [sys.executable, "-m", "broadcast.cli.lifeline", *arguments], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        )  # fmt: skip
    assert child.stdin is not None
    stack.callback(child.stdin.close)  # its lifeline: nothing is ever written there
    stack.callback(stop_process, child, timeout_s=CHILD_STOP_S)
    return child
