"""Pages of the past on their way to their clients: so many bytes of them at once, and whoever takes too little is cut.

A page is read at once, and taken as slowly as its client likes: until then this process holds it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broadcast.bridge.door import CUT
from broadcast.errors import RequestError

__all__ = ["Bodies", "BodyResponse"]

_log: Any = structlog.get_logger("broadcast.bridge")
BYTES_MAX: Final = 64 * 1024 * 1024
PER_HOLDER_MAX: Final = 16 * 1024 * 1024
"""Of one token, or of one address that has none: two of the largest pages."""
CHUNK_BYTES: Final = 64 * 1024
"""So much is handed to the transport at once; a body of no more than this counts nowhere."""
STALLED_S: Final = 30.0
"""Whoever takes no chunk for so long is cut."""
WHOLE_S: Final = 300.0
"""By then all of it has to be taken: else a few could hold for hours what all have together."""


class Bodies:
    """Counts the bytes that wait."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._of: Counter[str] = Counter()

    @contextmanager
    def held(self, holder: str, size: int) -> Generator[None]:
        """Count a body for as long as it is on its way.

        Raises:
            RequestError: too much waits already, of this holder's or in all.
        """
        if size <= CHUNK_BYTES:
            yield
            return
        # One is given however large it is, a cycle of many large events for example: else it would never be.
        if holder in self._of and self._of[holder] + size > PER_HOLDER_MAX:
            raise RequestError("too_many_requests", "pages of yours wait to be taken; take them first", retry_after_s=1)
        if self.held_bytes and self.held_bytes + size > BYTES_MAX:
            raise RequestError("too_many_requests", "as many pages as may wait to be taken; come back", retry_after_s=5)
        self.held_bytes += size
        self._of[holder] += size
        try:
            yield
        finally:
            self.held_bytes -= size
            self._of[holder] -= size
            if not self._of[holder]:
                del self._of[holder]


class BodyResponse(Response):
    """An answer as JSON, given as its client takes it.

    Args:
        body: the JSON.
        headers: of the answer.
        bodies: where it is counted.
        holder: whose it is: a token or an address.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], *, bodies: Bodies, holder: str) -> None:
        super().__init__(body, 200, headers, "application/json")
        self._bodies = bodies
        self._holder = holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            RequestError: too much waits already; nothing has been sent.
        """
        try:
            with self._bodies.held(self._holder, len(self.body)):
                async with asyncio.timeout(WHOLE_S):
                    await self._send(send)
        except TimeoutError:
            _log.warning("a page of the past was cut short", reason="its client took too little")
            cut = scope.get(CUT)
            if cut is not None:
                cut()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        size = len(self.body)
        for at in range(0, max(1, size), CHUNK_BYTES):
            end = at + CHUNK_BYTES
            async with asyncio.timeout(STALLED_S):
                await send({"type": "http.response.body", "body": self.body[at:end], "more_body": end < size})
