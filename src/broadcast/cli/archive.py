"""`broadcast archive`: the archiver as a program."""

from __future__ import annotations

import gc
from typing import Final

import structlog

from broadcast.cli.interrupts import CUT_OFF, run_until_signalled
from broadcast.cli.logs import configure_logs
from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["archive", "collect_seldom"]

GC_OBJECTS: Final = 50_000


def archive(settings: Settings, *, keep_s: float | None, is_once: bool) -> int:
    """Archive until a signal comes, or until everything is there.

    Args:
        settings: where Redis and PostgreSQL are.
        keep_s: what is older is dropped; None for nothing.
        is_once: whether to end when everything that was there is archived.

    Returns:
        The exit code; with `is_once` it is 0 only if everything is there.

    Raises:
        SettingError: there is no database to write to, or not one that can be written to.
        UnreachableError: with `is_once`: Redis or PostgreSQL was away for too long.
    """
    try:
        from broadcast.consumers.archiver import Archiver
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise SettingError("psycopg is not installed: install the extra `archive` (v5-broadcast[archive])") from None
    configure_logs()
    collect_seldom()
    log = structlog.get_logger("archiver")
    archiver = Archiver(settings, keep_s=keep_s, is_once=is_once, on_note=log.info)
    log.info("archiving", stream=settings.stream)
    code = run_until_signalled(archiver.run())
    done = archiver.progress
    position = done.position and str(done.position.id)
    log.info("archived", events=done.events, repeats=done.repeats, parked=done.parked, up_to=position)
    return code if archiver.is_over or not is_once else code or CUT_OFF


def collect_seldom() -> None:
    """Thousands of events are held for a moment each: to look through them for rings costs a tenth of the work."""
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 100)
