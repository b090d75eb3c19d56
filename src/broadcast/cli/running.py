"""What each `broadcast up` of this account runs, so that other commands find it: a file for each of them.

A file is locked as long as its `up` lives, also one that is killed in the end: what nobody holds is of no account.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from broadcast.cli.children import private_state_folder, state_folder

__all__ = ["Running", "noted_running", "running_here"]


@dataclass(frozen=True, slots=True)
class Running:
    """Two addresses that belong together."""

    pid: int
    """Of `broadcast up`."""
    redis_url: str
    database_url: str


def _folder() -> Path:
    return state_folder() / "running"


@contextmanager
def noted_running(redis_url: str, database_url: str) -> Generator[None]:
    """Have it written down what this process runs."""
    private_state_folder()
    _folder().mkdir(mode=0o700, exist_ok=True)
    path = _folder() / f"{os.getpid()}.json"
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(orjson.dumps(asdict(Running(os.getpid(), redis_url, database_url))))
        file.flush()
        fresh.replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def running_here() -> list[Running]:
    """What runs, with an archive; the first started first."""
    found: list[tuple[float, Running]] = []
    for path in _folder().glob("*.json"):
        # Gone meanwhile, of another account, or half a line: it is none of those that are looked for.
        with contextlib.suppress(OSError, ValueError, TypeError), path.open("rb") as file:
            if _is_held(file.fileno()):
                found.append((path.stat().st_mtime, Running(**orjson.loads(file.read()))))
            else:
                path.unlink(missing_ok=True)
    return [running for _, running in sorted(found, key=lambda each: each[0])]


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
