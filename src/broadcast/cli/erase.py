"""`broadcast erase`: what shall be forgotten, asked once more, and then said tier by tier."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from broadcast.cli.interrupts import CUT_OFF, run_until_signalled
from broadcast.consumers.eraser import Eraser, Found, Report
from broadcast.errors import SettingError
from broadcast.log.erasure import Erasure
from broadcast.log.position import EntryId
from broadcast.settings import Settings

__all__ = ["erase"]


LEFT: Final = 1
"""The exit code where the archiver may still write some of it, or the archive's pages still hold it."""
UNREAD_SHOWN: Final = 20


def erase(settings: Settings, erasure: Erasure, *, is_agreed: bool) -> int:
    """Count, ask, erase, report.

    Args:
        settings: where the log is.
        erasure: what.
        is_agreed: whether nobody is to be asked.

    Returns:
        The exit code; it is 0 only if everything that is meant is gone, or somebody has said no.

    Raises:
        SettingError: nobody can be asked.
        UnreachableError: Redis or PostgreSQL does not answer, or refuses.
    """
    ends: list[int] = []

    async def run() -> None:
        ends.append(await _erase(settings, erasure, is_agreed=is_agreed))

    code = run_until_signalled(run())
    return ends[0] if ends else code or CUT_OFF


async def _erase(settings: Settings, erasure: Erasure, *, is_agreed: bool) -> int:
    said = "nothing was erased"
    try:
        async with Eraser(settings, erasure) as eraser:
            found = await eraser.count()
            sys.stderr.write(f"found     {_found(found)}\n")
            if not is_agreed and not await _agreed():
                sys.stderr.write(f"{said}\n")
                return 0
            said = "cut off: some of it may be erased, and some not. The same again does what is left"
            done = await eraser.erase()
    except asyncio.CancelledError:
        sys.stderr.write(f"\n{said}\n")
        raise
    _tell(done)
    return 0 if done.has_passed and done.is_clean else LEFT


def _unread(ids: tuple[EntryId, ...]) -> str:
    shown = ", ".join(map(str, ids[:UNREAD_SHOWN]))
    more = f" and {len(ids) - UNREAD_SHOWN} more" if len(ids) > UNREAD_SHOWN else ""
    return f"left are entries that are no events, of which nobody can tell the type; --id erases them: {shown}{more}"


def _found(found: Found) -> str:
    archive = "" if found.archive is None else f", {found.archive} in the archive"
    return f"{found.stream} events in the stream{archive}"


async def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise SettingError("erasing cannot be taken back: say --yes where nobody can be asked")
    sys.stderr.write("Erase them? They cannot be brought back. [y/N] ")
    sys.stderr.flush()
    loop, is_there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, is_there.set)  # a signal is heard while it waits for the line
    try:
        await is_there.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tell(done: Report) -> None:
    lines = [f"stream    {done.stream} blanked; Redis: {done.redis_files}"]
    if done.archive is None:
        lines.append("archive   none (DATABASE_URL names none)")
    else:
        lines.append(f"archive   {done.archive} blanked; {done.archive_pages}")
    lines.append("bridges   told: each has blanked them in its memory")
    lines.append("files     not reached: what `broadcast record` or `export` wrote, dumps, backups, pages left open")
    if done.unread:
        lines.append(f"unread    {_unread(done.unread)}")
    if not done.has_passed:
        lines.append("WARNING   the archiver has not come so far and may hold some of them: the same again in a minute")
    sys.stdout.write("\n".join(lines) + "\n")
