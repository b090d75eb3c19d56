"""Runs the `broadcast` command as its users do: as a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

COMMAND = (sys.executable, "-m", "broadcast")
PATIENCE_S = 40.0


class Command(Protocol):
    """Runs the command in this process: exit code, standard output, standard error."""

    def __call__(
        self, *arguments: str, redis_url: str | None = None, text: str = "", **more: str
    ) -> tuple[int, str, str]: ...


T = TypeVar("T")


def environment(redis_url: str | None, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BROADCAST_") and k != "REDIS_URL"}
    return {**kept, **({"REDIS_URL": redis_url} if redis_url else {}), **more}


def run(
    *arguments: str, redis_url: str | None = None, text: str = "", timeout_s: float = PATIENCE_S, **more: str
) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(redis_url, **more),
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def started(
    *arguments: str, folder: Path, redis_url: str | None = None, new_group: bool = False, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in the background; its output goes to `out` and `err` in the folder."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(redis_url, **more),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=new_group,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        if process.poll() is None:
            process.kill()
            process.wait()


def in_time(act: Callable[[], T], took_s: Callable[[T], float], *, max_s: float) -> T:
    """What an act gives that must not take long. A busy machine may spoil a try; what really waits does so each time.

    Args:
        act: done again where it took too long, twice at the most.
        took_s: how long it took, of what it gave.
        max_s: what is too long, seconds.
    """
    tries: list[float] = []
    while len(tries) < 3:
        done = act()
        tries.append(took_s(done))
        if tries[-1] < max_s:
            return done
    raise AssertionError(f"took {tries} s, each time more than {max_s} s")


def timed(act: Callable[[], object]) -> float:
    """How long it takes, seconds."""
    began_s = time.monotonic()
    act()
    return time.monotonic() - began_s


def wait_until(condition: Callable[[], bool], *, timeout_s: float = PATIENCE_S, what: str = "the condition") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)
