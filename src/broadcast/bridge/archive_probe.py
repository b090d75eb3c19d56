"""Whether PostgreSQL answers this very bridge: asked now and then by a question that costs nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from broadcast.errors import UnreachableError

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["ArchiveProbe"]

LOOK_S: Final = 5.0
PATIENCE_S: Final = 10.0


class ArchiveProbe:
    """Looks now and then, for ever.

    Args:
        archive: of its own, so that it waits for nobody; None where there is none.
    """

    def __init__(self, archive: Archive | None) -> None:
        self._archive = archive
        self.is_up: bool | None = None
        """Whether it answered at the last look; None where there is no archive, or nobody has looked yet."""

    async def follow(self) -> None:
        """Look every few seconds; where there is nothing to look at, never."""
        while self._archive is not None:
            self.is_up = await self._answers(self._archive)
            await asyncio.sleep(LOOK_S)
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Close its connection."""
        if self._archive is not None:
            await self._archive.aclose()

    async def _answers(self, archive: Archive) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S), archive.snapshot() as connection:
                await connection.execute("SELECT 1")
        except (UnreachableError, TimeoutError):
            return False
        return True
