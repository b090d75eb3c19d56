"""`broadcast export` and `broadcast import`: what flows between an archive and a file, and how far it is."""

from __future__ import annotations

import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Final

from broadcast.cli.interrupts import CUT_OFF, run_until_signalled
from broadcast.consumers.dump_file import DumpWriter, lines_of
from broadcast.consumers.exporter import Exporter
from broadcast.consumers.importer import Importer
from broadcast.errors import BroadcastError

__all__ = ["export_to", "import_from"]

TELL_S: Final = 0.5


class _Progress:
    """Says on a terminal how many events have passed."""

    def __init__(self) -> None:
        self._began_s = self._told_s = time.monotonic()
        self._is_shown = sys.stderr.isatty()

    def __call__(self, events: int) -> None:
        now_s = time.monotonic()
        if self._is_shown and now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            sys.stderr.write(f"\r{events:,} events, {events / (now_s - self._began_s):,.0f} a second ")
            sys.stderr.flush()

    def end(self, text: str) -> None:
        sys.stderr.write(f"{chr(13) if self._is_shown else ''}{text}\n")


def export_to(exporter: Exporter, path: Path | None, *, is_compressed: bool) -> int:
    """Write an export.

    Args:
        exporter: what gives it.
        path: the file, which is there only once it is whole; None is standard output.
        is_compressed: whether with zstd.

    Returns:
        The exit code; it is 0 only if the export is whole.
    """
    code = run_until_signalled(_export(exporter, path, is_compressed=is_compressed))
    return code if exporter.is_whole else code or CUT_OFF


async def _export(exporter: Exporter, path: Path | None, *, is_compressed: bool) -> None:
    progress = exporter.on_progress = _Progress()
    writer = DumpWriter(path, is_compressed=is_compressed)
    try:
        async with aclosing(exporter.lines()) as blocks:
            async for data in blocks:
                writer.write(data)
        writer.finish()
    finally:
        writer.discard()
    progress.end(f"exported  {exporter.events} events")


def import_from(importer: Importer, path: Path | None) -> int:
    """Read an export, or a recorded file.

    Args:
        importer: what takes it in.
        path: the file; None is standard input.

    Returns:
        The exit code; it is 0 only if everything was taken in.

    Raises:
        BroadcastError: a line is no event, or the export was cut off.
    """
    code = run_until_signalled(_import(importer, path))
    return code if importer.is_over else code or CUT_OFF


async def _import(importer: Importer, path: Path | None) -> None:
    progress = importer.on_progress = _Progress()
    try:
        with lines_of(path) as lines:
            done = await importer.run(lines)
    except BroadcastError as error:
        raise BroadcastError(f"{path or 'standard input'}: {error} ({importer.done.fresh} new events so far)") from None
    notes = [f"{done.events - done.fresh - done.beyond} were there"]
    if done.parked:
        notes.append(f"{done.parked} cannot be stored and were parked")
    if done.unplaced:
        notes.append(f"{done.unplaced} lines without an id left out")
    if done.beyond:
        notes.append(f"{done.beyond} left to the archiver, which has not come so far")
    progress.end(f"imported  {done.fresh} events; {', '.join(notes)}")
