"""`GET /events`: the same cursor over Server-Sent Events, for EventSource and `curl -N`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

__all__ = ["SseConnection"]

FRAMES_MAX: Final = 256
CHARS_MAX: Final = 256 * 1024
HEARTBEAT_S: Final = 15.0


class SseConnection:
    """One stream; the viewer writes frames, the HTTP response takes them."""

    def __init__(self) -> None:
        self._frames: deque[str] = deque()
        self._chars = 0
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    async def send(self, name: str, payload: str, *, event_id: str | None = None) -> None:
        """Write one event; events of the mind come unnamed, so that `onmessage` gets them."""
        place = f"id: {event_id}\n" if event_id is not None else ""
        kind = "" if name == "event" else f"event: {name}\n"
        frame = f"{place}{kind}data: {payload}\n\n"
        self._frames.append(frame)
        self._chars += len(frame)
        self._filled.set()

    async def wait_for_room(self, patience_s: float) -> bool:
        """Wait while too many frames wait; False if none was taken for so long."""
        while (len(self._frames) >= FRAMES_MAX or self._chars >= CHARS_MAX) and not self._closed:
            self._taken.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._taken.wait()
            except TimeoutError:
                return False
        return True

    async def close(self, *, may_return: bool, abort: bool = False) -> None:
        """End the stream; an EventSource comes back by itself unless it is told 204."""
        del may_return
        if abort:
            self._frames.clear()
        self._closed = True
        self._taken.set()
        self._filled.set()

    async def frames(self) -> AsyncGenerator[str]:
        """What goes out, with a comment now and then so that nobody between takes the silence for an end."""
        while True:
            while self._frames:
                batch = "".join(self._frames)
                self._frames.clear()
                self._chars = 0
                self._taken.set()
                yield batch
            if self._closed:
                return
            self._filled.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._filled.wait()
            except TimeoutError:
                yield ": still here\n\n"
