"""`broadcast erase`: what shall be forgotten, asked once more, and then said tier by tier."""

from __future__ import annotations

import sys

from broadcast.consumers.eraser import Eraser, Found, Report
from broadcast.errors import SettingError
from broadcast.log.erasure import Erasure
from broadcast.settings import Settings

__all__ = ["erase"]


async def erase(settings: Settings, erasure: Erasure, *, is_agreed: bool) -> None:
    """Count, ask, erase, report.

    Args:
        settings: where the log is.
        erasure: what.
        is_agreed: whether nobody is to be asked.

    Raises:
        SettingError: nobody can be asked.
        UnreachableError: Redis or PostgreSQL does not answer, or refuses.
    """
    async with Eraser(settings, erasure) as eraser:
        found = await eraser.count()
        sys.stderr.write(f"found     {_found(found)}\n")
        if not is_agreed and not _agreed():
            sys.stderr.write("nothing was erased\n")
            return
        _tell(await eraser.erase())


def _found(found: Found) -> str:
    archive = "" if found.archive is None else f", {found.archive} in the archive"
    return f"{found.stream} events in the stream{archive}"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise SettingError("erasing cannot be taken back: say --yes where nobody can be asked")
    sys.stderr.write("Erase them? They cannot be brought back. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tell(done: Report) -> None:
    lines = [f"stream    {done.stream} blanked; Redis: {done.redis_files}"]
    if done.archive is None:
        lines.append("archive   none (DATABASE_URL names none)")
    else:
        lines.append(f"archive   {done.archive} blanked; {done.archive_pages}")
    lines.append("bridges   told: each has blanked them in its memory")
    lines.append("files     not reached: what `broadcast record` or `export` wrote, dumps, backups, pages left open")
    if not done.has_passed:
        lines.append("WARNING   the archiver has not come so far and may hold some of them: the same again in a minute")
    sys.stdout.write("\n".join(lines) + "\n")
