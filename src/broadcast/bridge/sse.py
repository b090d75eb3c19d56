"""`GET /events`: the same cursor over Server-Sent Events, for EventSource and `curl -N`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Protocol

from broadcast.bridge.wire import SSE, Form

__all__ = ["SseConnection"]

BYTES_MAX: Final = 256 * 1024
HEARTBEAT_S: Final = 15.0
HEARTBEAT: Final = b": still here\n\n"


class Roused(Protocol):
    """Who writes to it."""

    def rouse(self) -> None:
        """It is full."""
        ...

    def gone(self) -> None:
        """It is over."""
        ...


class SseConnection:
    """One stream: what is written waits here until the HTTP response takes it.

    Args:
        address: where it goes to.
        cut: ends the connection under it at once: a response that nobody takes does not end. None: there is no way.
    """

    form: Form = SSE

    def __init__(self, address: str, cut: Callable[[], None] | None = None) -> None:
        self.viewer: Roused | None = None
        self.waiting_bytes = 0
        self.is_closed = False
        self._address = address
        self._cut = cut
        self._frames: list[bytes] = []
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more should be written."""
        return self.waiting_bytes >= BYTES_MAX and not self.is_closed

    @property
    def write(self) -> Callable[[bytes], None]:
        """Writes frames; the same bytes may go to many."""
        return self._write

    def _write(self, frames: bytes) -> None:
        if self.is_closed:
            return
        self._frames.append(frames)
        self.waiting_bytes += len(frames)
        self._filled.set()
        if self.is_full and self.viewer is not None:
            self.viewer.rouse()

    async def wait_for_room(self, patience_s: float, *, until_empty: bool) -> bool:
        """Wait while too much waits; False if nothing was taken for so long."""
        del until_empty  # whoever takes anything takes all of it
        while self.is_full:
            self._taken.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._taken.wait()
            except TimeoutError:
                return False
        return True

    def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the stream; an EventSource comes back by itself unless it is told 204."""
        del may_return
        if abort:
            self._frames.clear()
            if self._cut is not None:
                self._cut()
        self.is_closed = True
        self._taken.set()
        self._filled.set()

    def describe(self) -> dict[str, Any]:
        """What is known of it."""
        return {"id": None, "transport": "sse", "address": self._address}

    async def frames(self) -> AsyncGenerator[bytes]:
        """What goes out, with a comment now and then so that nobody between takes the silence for an end."""
        while self._frames or not self.is_closed:
            yield await self._next()

    def lost(self) -> None:
        """The response is over, whoever ended it."""
        self._frames.clear()
        self.close(may_return=True)
        if self.viewer is not None:
            self.viewer.gone()

    async def _next(self) -> bytes:
        if not self._frames:
            self._filled.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._filled.wait()
            except TimeoutError:
                return HEARTBEAT
        frames = b"".join(self._frames)
        self._frames.clear()
        self.waiting_bytes = 0
        self._taken.set()
        return frames
