"""A file of whole lines: appended, rotated, repaired; never half a line."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broadcast.errors import BroadcastError

__all__ = ["LineFile"]

TAIL_BYTES: Final = 4 * 1024 * 1024
HALF_BYTES: Final = 4096


class LineFile:
    """A file that only grows by whole lines, held by one process.

    Args:
        path: the file; made if missing. What is rotated lies beside it, as `name.DAY.ext`, `name.DAY.2.ext`, ….

    Raises:
        BroadcastError: another process holds the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self.size = 0
        """Bytes of whole lines in it."""
        self._open()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BroadcastError(f"{self.path} is being written by another process") from None
        self.size = self._end_of_lines()

    def _end_of_lines(self) -> int:
        end = os.fstat(self._fd).st_size
        while end > 0:
            begin = max(0, end - 64 * 1024)
            at = os.pread(self._fd, end - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            end = begin
        return 0

    def half_line(self) -> bytes:
        """How the half line begins that a process left which was killed in the middle of a write; empty if none did."""
        return os.pread(self._fd, HALF_BYTES, self.size)

    def mend(self) -> None:
        """Take half a line away: it was never acknowledged to anybody."""
        os.ftruncate(self._fd, self.size)

    def append(self, lines: bytes) -> None:
        """Write whole lines, or nothing of them, behind the last whole one (`mend` before the first).

        Args:
            lines: each with its newline.

        Raises:
            OSError: the disk is full, or broken.
        """
        try:
            self._write(lines)
        except OSError:
            # Take back what was written of it: the file ends with a whole line whenever it is looked at.
            os.ftruncate(self._fd, self.size)
            raise

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            left = left[os.write(self._fd, left) :]
        self.size += len(lines)

    def last_lines(self) -> Iterator[bytes]:
        """The last lines, oldest first, as far as a few megabytes reach."""
        return iter(_tail_of(self._fd, self.size))

    def rotate(self, day: str) -> Path:
        """Put the file aside under its day, and begin another.

        Args:
            day: `2026-11-22`.

        Returns:
            Where it lies now.
        """
        os.fsync(self._fd)
        target = next(path for path in _rotated_names(self.path, day) if not path.exists())
        self.path.rename(target)
        self.close()
        self._open()
        return target

    def close(self) -> None:
        """Write it out and give it free."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def rotated(self) -> list[Path]:
        """What was put aside, oldest first."""
        pattern = f"{self.path.stem}.????-??-??*{self.path.suffix}"
        return sorted(self.path.parent.glob(pattern), key=_rotation_order)


def last_lines_of(path: Path) -> list[bytes]:
    """The last lines of a file that nobody writes any more, oldest first."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _tail_of(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _tail_of(fd: int, size: int) -> list[bytes]:
    begin = max(0, size - TAIL_BYTES)
    lines = os.pread(fd, size - begin, begin).split(b"\n")
    return [line for line in (lines if begin == 0 else lines[1:]) if line]


def _rotated_names(path: Path, day: str) -> Iterator[Path]:
    yield path.with_name(f"{path.stem}.{day}{path.suffix}")
    number = 2
    while True:
        yield path.with_name(f"{path.stem}.{day}.{number}{path.suffix}")
        number += 1


def _rotation_order(path: Path) -> tuple[str, int]:
    parts = path.stem.split(".")
    return (parts[-2], int(parts[-1])) if parts[-1].isdigit() else (parts[-1], 1)
