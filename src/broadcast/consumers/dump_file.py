"""The file of an export: compressed where its name says so, whole or not there at all."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import zstandard

from broadcast.errors import BroadcastError, EventError
from broadcast.log.export_form import Mark, Unplaced, read_line

__all__ = ["DumpWriter", "Recorded", "lines_of", "recorded_beside"]

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
BUFFER_BYTES: Final = 1024 * 1024
FRAME_BYTES: Final = 16 * 1024
"""So much is decompressed at once, which bounds what comes of it."""
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_OTHER: Final = re.compile(rb'"broadcast\.(?:gap|epoch)"')
LEVEL: Final = 6
"""Twice as small as level 1 at half its speed; still faster than PostgreSQL gives events."""


class DumpWriter:
    """Writes beside the file, and takes its place at the end; standard output has no such end.

    Args:
        path: the file; None is standard output.
        is_compressed: whether to compress it with zstd.
    """

    def __init__(self, path: Path | None, *, is_compressed: bool) -> None:
        self._path = path
        self._part = None if path is None else path.with_name(f".{path.name}.{os.getpid()}.part")
        raw = sys.stdout.buffer if self._part is None else _private(self._part)
        self._raw: IO[bytes] = raw
        self._out: IO[bytes] = (
            zstandard.ZstdCompressor(level=LEVEL).stream_writer(raw, closefd=False) if is_compressed else raw
        )

    def write(self, data: bytes) -> None:
        """Write some lines."""
        self._out.write(data)

    def finish(self) -> None:
        """Everything is written: the file is there."""
        if self._out is not self._raw:
            self._out.close()
        self._raw.flush()
        if self._part is not None and self._path is not None:
            os.fsync(self._raw.fileno())
            self._raw.close()
            self._part.replace(self._path)
            self._part = None

    def discard(self) -> None:
        """Leave nothing behind; after `finish` there is nothing to discard."""
        if self._part is not None:
            self._raw.close()
            self._part.unlink(missing_ok=True)
            self._part = None


def _private(path: Path) -> IO[bytes]:
    # What a mind thinks is for its keeper alone.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", BUFFER_BYTES)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What stands beside a recorded file: the log of its end."""

    epoch: str
    """The log's name."""
    behind: int
    """It is the log of what is behind the line of this number, the last one that lets another log begin; 0 for all."""


def recorded_beside(path: Path) -> Recorded | None:
    """The log that the end of a recorded file is of, which the recorder keeps beside it; None if nothing says so.

    Raises:
        BroadcastError: see `lines_of`.
    """
    epoch = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        epoch = path.with_name(f".{path.name}.epoch").read_text("utf-8").strip()
    if not epoch:
        return None
    with lines_of(path) as lines:
        # Only what may be such a line is read as an event, which takes much longer.
        others = [number for number, line in enumerate(lines, 1) if _OTHER.search(line) and _begins_another(line)]
    return Recorded(epoch, others[-1] if others else 0)


def _begins_another(line: bytes) -> bool:
    try:
        read = read_line(line)
    except EventError:
        return False  # the import will say so
    return isinstance(read, Mark) or (isinstance(read, Unplaced) and read.is_of_another_log)


@contextlib.contextmanager
def lines_of(path: Path | None) -> Generator[Iterator[bytes]]:
    """The lines of a file, each without its end; compressed or not, it says so itself.

    Args:
        path: the file; None is standard input.

    Raises:
        BroadcastError: it cannot be decompressed, was cut off, or a line is longer than any event.
    """
    source = sys.stdin.fileno() if path is None else path
    with open(source, "rb", BUFFER_BYTES, closefd=path is not None) as raw:
        reader: Any = raw
        if reader.peek(4)[:4] == ZSTD_MAGIC:
            reader = io.BufferedReader(_Frames(raw), BUFFER_BYTES)
        yield _lines(reader)


class _Frames(io.RawIOBase):
    """What some frames of zstd hold. The library's own reader takes a file that ends inside of one for whole."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_inside = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not (data := self._raw.read(FRAME_BYTES)):
                if self._is_inside:
                    raise BroadcastError("it was cut off: what is compressed has no end")
                return 0
            self._ready = self._decompressed(data)
        given, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)

    def _decompressed(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        while data:
            parts.append(self._frame.decompress(data))
            data, self._is_inside = self._frame.unused_data, not self._frame.eof
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        return b"".join(parts)


def _lines(reader: IO[bytes]) -> Iterator[bytes]:
    try:
        while line := reader.readline(LINE_BYTES_MAX):
            if len(line) == LINE_BYTES_MAX:
                raise BroadcastError(f"a line of {LINE_BYTES_MAX} bytes or more is no event")
            yield line.rstrip(b"\r\n")
    except zstandard.ZstdError as error:
        raise BroadcastError(f"cannot be decompressed: {error}") from None
