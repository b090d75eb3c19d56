"""How far the archive is, for `/readyz`: asked of Redis, however often it is asked for, once a second at the most."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

from broadcast.errors import UnreachableError
from broadcast.log.stream import StreamReader

__all__ = ["ArchiveWatch"]

FRESH_S: Final = 1.0


class ArchiveWatch:
    """What an archiver last told.

    Args:
        reader: of the stream that it archives.
        events_max: `maxlen` where the log's hash names none.
    """

    def __init__(self, reader: StreamReader, *, events_max: int) -> None:
        self._reader = reader
        self._events_max = events_max
        self._state: dict[str, Any] | None = None
        self._stale_at_s = 0.0

    async def state(self) -> dict[str, Any] | None:
        """As `/readyz` says it; None where no archiver ever told anything, or Redis does not answer."""
        if time.monotonic() >= self._stale_at_s:
            self._stale_at_s = time.monotonic() + FRESH_S
            self._state = await self._ask()
        return self._state

    async def _ask(self) -> dict[str, Any] | None:
        with suppress(UnreachableError):
            if found := await self._reader.archiving(events_max=self._events_max):
                archiving, room = found
                return room.as_json(archiving, now_ms=int(time.time() * 1000))
        return None
