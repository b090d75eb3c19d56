"""A folder that one process owns at a time, also when the process that took it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from broadcast.errors import BroadcastError

__all__ = ["FolderInUseError", "FolderLock", "take_folder"]

ORPHAN_STOP_S: Final = 20.0


class FolderInUseError(BroadcastError):
    """Another process owns the folder.

    Args:
        folder: the folder.
        owner: what its owner wrote into the lock.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(
            f"{folder} is in use by another `broadcast up` (process {owner or 'unknown'}): "
            "end that one, or name another folder with --data"
        )
        pids = [int(digits) for digits in re.findall(r"\d+", owner)]
        self.starter = pids[0] if pids else None
        """The process that took the folder, None if that is not known."""
        self.server = pids[1] if len(pids) > 1 else None
        """The server that it started there, None if it had not come so far."""


class FolderLock:
    """The right to use a folder, made if missing.

    It lasts as long as any process that inherits it: two servers on one folder would spoil its data.

    Args:
        folder: where `lock` lies.

    Raises:
        FolderInUseError: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file: IO[str] = (folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip()
            self._file.close()
            raise FolderInUseError(folder, owner) from None
        self.note_server(None)

    def fileno(self) -> int:
        """What a server has to inherit."""
        return self._file.fileno()

    def note_server(self, pid: int | None) -> None:
        """Write down who uses the folder.

        Args:
            pid: the server's process; None while there is none.
        """
        self._file.truncate(0)
        self._file.write(str(os.getpid()) + (f", its server {pid}" if pid else ""))
        self._file.flush()

    def release(self) -> None:
        """Give it up; who inherited it keeps it."""
        self._file.close()


def take_folder(folder: Path, server_in: Callable[[], int | None], number: signal.Signals) -> FolderLock:
    """Take a folder; a server that was left behind in it, since its starter was killed, is ended first.

    Args:
        folder: where `lock` lies.
        server_in: the process of which the server itself has written there that it is the one; None for none.
        number: the signal that ends it in good order.

    Raises:
        FolderInUseError: another process has it, and its starter lives.
    """
    try:
        return FolderLock(folder)
    except FolderInUseError as error:
        if error.server is None or error.server != server_in() or _is_running(error.starter):
            raise
        # Nobody but us needs it any more.
        return _taken_from_orphan(folder, error.server, number)


def _taken_from_orphan(folder: Path, pid: int, number: signal.Signals) -> FolderLock:
    """End it, and take its folder: its children hold that a moment longer."""
    deadline = time.monotonic() + ORPHAN_STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    while True:
        try:
            return FolderLock(folder)
        except FolderInUseError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _is_running(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
