"""Forgetting: the same events out of the archive, the stream, and every bridge's memory, in one go.

Rules:
1. The stream first, then the archive: what the archiver reads from then on is blank.
2. Then the log says so (`broadcast.erased`), and whoever holds events in memory forgets them.
3. The archive once more when the archiver has come past it all, since it may have held some of them just then.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from broadcast.emitter.broadcaster import Broadcaster
from broadcast.errors import UnreachableError
from broadcast.log.erasure import ERASED, Erasure
from broadcast.log.position import EntryId
from broadcast.log.rewriting import StreamEraser
from broadcast.settings import Settings

if TYPE_CHECKING:
    from broadcast.consumers.blanking import ArchiveEraser

__all__ = ["Eraser", "Found", "Report"]

ARCHIVER_WAIT_S: Final = 10.0
LOOK_S: Final = 0.1
SAY_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """How many events are meant; one that is in both tiers counts in both."""

    stream: int
    archive: int | None
    """None where there is no archive."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    stream: int
    archive: int | None
    """None where there is no archive."""
    has_passed: bool
    """Whether the archiver has come past what was erased; if not, it may still write some of it."""
    redis_files: str
    """What is said of Redis's own files."""
    archive_pages: str
    """What is said of PostgreSQL's pages; empty where there is no archive."""
    is_clean: bool = True
    """Whether they hold nothing of it any more."""
    unread: tuple[EntryId, ...] = ()
    """Entries that are no events, so that nobody can tell whether they are of a type that is meant; they are left."""


class Eraser:
    """Erases in all tiers.

    Args:
        settings: where the log is; without `database_url` there is no archive.
        erasure: what.
    """

    def __init__(self, settings: Settings, erasure: Erasure) -> None:
        self._settings, self._erasure = settings, erasure
        self._stream = StreamEraser(settings.redis_url, settings.stream, erasure)
        self._archive: ArchiveEraser | None = None
        if settings.database_url:
            from broadcast.consumers.blanking import ArchiveEraser

            self._archive = ArchiveEraser(settings.database_url, erasure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with aclosing(self._stream):
            pass

    async def count(self) -> Found:
        """How many events are meant; what comes into the log from now on is not.

        Raises:
            UnreachableError: Redis or PostgreSQL does not answer, or refuses.
        """
        in_stream = await self._stream.count()
        if self._archive is None:
            return Found(in_stream, None)
        self._archive.epoch, self._archive.end = self._stream.epoch, self._stream.end
        self._archive.newest = self._stream.newest
        return Found(in_stream, await self._archive.count())

    async def erase(self) -> Report:
        """Erase what `count` has found.

        Raises:
            UnreachableError: Redis or PostgreSQL does not answer, or refuses; the same again does what is left.
        """
        # What announces comes first: what cannot be made then erases nothing.
        emitter = Broadcaster(settings=_announcing(self._settings))
        try:
            return await self._erase(emitter)
        finally:
            await asyncio.to_thread(emitter.close, CLOSE_TIMEOUT_S)

    async def _erase(self, emitter: Broadcaster) -> Report:
        in_stream = await self._stream.erase()
        archived = None if self._archive is None else await self._archive.erase()
        # To the bridges also where nothing was found: it may be in their memory alone.
        await asyncio.to_thread(self._say, emitter, in_stream, archived)
        has_passed = True
        if self._archive is not None and archived is not None:
            has_passed = await self._wait_for_archiver(self._archive)
            if late := await self._archive.erase():
                # A bridge may have read some of them after it had forgotten the others.
                await asyncio.to_thread(self._say, emitter, 0, late)
                archived += late
        # Also where nothing was found: it may have been found by a run that came no further than here.
        redis_files = await self._stream.purge()
        pages, is_clean = "", True
        if self._archive is not None:
            purged = await self._archive.purge()
            pages, is_clean = purged.said, purged.is_done
        unread = self._stream.unread.union(self._archive.unread if self._archive is not None else ())
        return Report(in_stream, archived, has_passed, redis_files, pages, is_clean, tuple(sorted(unread)))

    def _say(self, emitter: Broadcaster, in_stream: int, archived: int | None) -> None:
        until = {} if self._stream.end is None else {"until": str(self._stream.end)}
        data = {**self._erasure.as_data(), **until, "stream": in_stream}
        emitter.emit(ERASED, data | ({} if archived is None else {"archive": archived}))
        if not emitter.flush(SAY_TIMEOUT_S):
            raise UnreachableError("the bridges could not be told, and still hold it: the same command again")

    async def _wait_for_archiver(self, archive: ArchiveEraser) -> bool:
        deadline = time.monotonic() + ARCHIVER_WAIT_S
        while not await archive.has_all():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True


def _announcing(settings: Settings) -> Settings:
    """The settings without whatever would change or withhold an announcement, which bridges have to read as it is."""
    return settings.with_changes(limits=(), redact=(), event_bytes_max=Settings().event_bytes_max)
