"""What the `broadcast up` of this account runs, so that other commands find it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from broadcast.cli.children import private_state_folder, state_folder

__all__ = ["Running", "forget_running", "note_running", "running_here"]


@dataclass(frozen=True, slots=True)
class Running:
    """Two addresses that belong together."""

    pid: int
    """Of `broadcast up`."""
    redis_url: str
    database_url: str


def _path() -> Path:
    return state_folder() / "running.json"


def note_running(redis_url: str, database_url: str) -> None:
    """Write down what this process runs."""
    private_state_folder()
    fresh = _path().with_suffix(".new")
    fresh.write_bytes(orjson.dumps(asdict(Running(os.getpid(), redis_url, database_url))))
    fresh.replace(_path())


def forget_running() -> None:
    """This process ends; what another has written since stays."""
    if (noted := _noted()) is not None and noted.pid == os.getpid():
        _path().unlink(missing_ok=True)


def running_here() -> Running | None:
    """What runs; None if nothing does, or without an archive."""
    noted = _noted()
    if noted is not None:
        with contextlib.suppress(OSError):
            os.kill(noted.pid, 0)
            return noted
    return None


def _noted() -> Running | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Running(**orjson.loads(_path().read_bytes()))
    return None
