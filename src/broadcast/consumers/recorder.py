"""The recorder: the log as a JSONL file that goes on exactly where it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import orjson

from broadcast.consumers.linefile import LineFile, last_lines_of
from broadcast.errors import BroadcastError, EventError, PositionError
from broadcast.event import Event, decode, timestamp
from broadcast.log.export_form import epoch_line, is_of_another_log
from broadcast.log.listen import Listener
from broadcast.log.position import START, Position, Seen, parse_id
from broadcast.log.stream import LinkDown, LinkUp

__all__ = ["Recorder"]

ROTATE_BYTES: Final = 100 * 1024 * 1024
DISK_RETRY_S: Final = 1.0


class Recorder:
    """Writes every event of a filter to a file, in delivered form, one a line; before those of another log, its name.

    The file is its own cursor: at the start the last event in it says where to go on, so that nothing is missing and
    nothing stands twice, however the last run ended. A second file, `.NAME.epoch`, remembers the log that it is of.

    Args:
        path: the file.
        rotate_bytes: a file that would grow beyond this is put aside; 0 for never.
        rotate_daily: whether a file holds one day (UTC, by `ts`) only.
        on_wait: told what is waited for: the disk, or Redis.

    Raises:
        BroadcastError: another process writes the file, or it holds something else; it is left as it was then.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_daily: bool = True,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.rotate_bytes = rotate_bytes
        self.rotate_daily = rotate_daily
        self.written = 0
        """Events written by this object."""
        self._file = LineFile(path)
        self._on_wait = on_wait or _ignore
        self._epoch_path = path.with_name(f".{path.name}.epoch")
        self._epoch = self._read_epoch()
        self._named = self._epoch if self._file.size else None
        self._day = ""
        self.seen = Seen()
        try:
            self.position = self._resume()
        except BaseException:
            self._file.close()
            raise
        self._file.mend()

    def _read_epoch(self) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._epoch_path.read_text("utf-8").strip() or None
        return None

    def _resume(self) -> Position:
        """Where the file ends; before everything that is left if there is no file yet."""
        events = [_recorded(line, self._file.path) for line in self._file.last_lines()]
        rotated = self._file.rotated()
        # Killed right behind a rotation, the last run has left nothing with a place, or only the name of a log.
        if rotated and not any("id" in event for event in events):
            events = [_recorded(line, rotated[-1]) for line in last_lines_of(rotated[-1])] + events
        position = Position(START)
        for event in events:
            self.seen.is_new(event.get("by"))
            if "id" in event:
                position = Position(parse_id(event["id"]), event.get("n"), self._epoch)
                self._day = event["ts"][:10]
        # A machine that lost its power may leave zeros where a line was to be.
        half = self._file.half_line().strip(b"\0")
        if not b'{"'.startswith(half[:2]):
            raise _foreign(half, self._file.path)
        return position

    async def run(self, types: str | Iterable[str] | None = None, *, redis_url: str | None = None) -> None:
        """Record until cancelled; while the disk is full, wait without losing the place."""
        listener = Listener(types, self.position, redis_url=redis_url, name="record", on_link=self._note_link)
        listener.seen = self.seen
        async with aclosing(listener.events()) as events:
            async for event in events:
                await self._write_patiently(event, listener.epoch)

    async def _write_patiently(self, event: Event, epoch: str | None) -> None:
        while True:
            try:
                self.write(event, log=epoch)
                break
            except OSError as error:
                self._on_wait(f"{self._file.path}: {error.strerror}")
            await asyncio.sleep(DISK_RETRY_S)
        # Not before: killed with nothing of another log in the file, the next run must still find that it is another.
        if epoch not in (None, self._epoch):
            self._remember(epoch)

    def _note_link(self, link: LinkUp | LinkDown) -> None:
        if isinstance(link, LinkDown):
            self._on_wait(f"{link.tier} cannot be read ({link.error})")

    def _remember(self, epoch: str | None) -> None:
        fresh = self._epoch_path.with_name(f"{self._epoch_path.name}.new")
        try:
            fresh.write_text(f"{epoch}\n", "utf-8")
            fresh.replace(self._epoch_path)
        except OSError as error:  # a full disk: the next contact tries again
            self._on_wait(f"{self._epoch_path}: {error.strerror}")
            return
        self._epoch = epoch

    def write(self, event: Event, *, log: str | None = None) -> None:
        """Write one event; rotates before it where its turn has come.

        Args:
            event: in delivered form.
            log: the name of the log that it is of; None where that is not known.

        Raises:
            OSError: the disk is full, or broken; nothing of the event is in the file then.
        """
        line = orjson.dumps(event) + b"\n"
        day = str(event["ts"])[:10]
        if self._file.size and self._is_full(line, day):
            self._file.rotate(self._day or day)
            self._named = None
        # An event that waited in a producer's buffer may be of yesterday: it does not open yesterday's file again.
        self._day = max(self._day, day)
        self._file.append(self._with_name(event, line, log))
        self._named = log or self._named
        self.written += 1

    def _with_name(self, event: Event, line: bytes, log: str | None) -> bytes:
        """A line with the name of its log, where the file does not say it yet; both are written, or none."""
        is_other = is_of_another_log(event)
        if not log or (log == self._named and not is_other):
            return line
        name = epoch_line(log, ts=timestamp(time.time_ns()))
        # Whoever reads the file takes such a gap for the end of whatever log was named before it.
        return line + name if is_other else name + line

    def _is_full(self, line: bytes, day: str) -> bool:
        if self.rotate_daily and self._day and day > self._day:
            return True
        return bool(self.rotate_bytes) and self._file.size + len(line) > self.rotate_bytes

    def rotated(self) -> list[Path]:
        """The files that were put aside, oldest first."""
        return self._file.rotated()

    def close(self) -> None:
        """Write the file out."""
        self._file.close()


def _recorded(line: bytes, path: Path) -> Event:
    """The event in a line; a file of somebody else's is not gone on with."""
    try:
        event = decode(line)
        parse_id(event.get("id", str(START)))
    except (EventError, PositionError):
        raise _foreign(line, path) from None
    return event


def _foreign(line: bytes, path: Path) -> BroadcastError:
    shown = line[:60].decode("utf-8", "replace")
    return BroadcastError(
        f"{path}: {shown!r} is no recorded event; expected a new file, or one that `broadcast record` has written"
    )


def _ignore(reason: str) -> None:
    del reason
