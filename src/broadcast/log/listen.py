"""`listen()`: the log as a plain iterator for scripts, and as an async iterator for everybody else."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from broadcast.errors import BroadcastError
from broadcast.event import Event
from broadcast.filters import ALL, parse_filter
from broadcast.log.position import Gap, Position, Seen, Since, parse_since
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from broadcast.log.timeline import Timeline, gap_event
from broadcast.settings import Settings

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["Listener"]

_log: Final = logging.getLogger("broadcast")


class Listener:
    """A cursor on the log; made by `broadcast.listen`.

    As a plain iterator it runs an event loop of its own between two events, so it cannot be used where one runs:
    there, use `async for`. Close it, or use it in a `with`, to give its connection back early.

    Args:
        types: which types; see `broadcast.listen`.
        since: where to begin; see `broadcast.listen`. A `Position` too.
        redis_url: where Redis listens; None reads `REDIS_URL`.
        stream: the stream's key; None reads `BROADCAST_STREAM`.
        name: what CLIENT LIST calls the connection, behind `broadcast-`.
        on_link: told when Redis is lost, and on every contact.
    """

    def __init__(
        self,
        types: str | Iterable[str] | None = None,
        since: object = None,
        *,
        redis_url: str | None = None,
        stream: str | None = None,
        name: str = "listen",
        on_link: Callable[[LinkUp | LinkDown], None] | None = None,
    ) -> None:
        settings = Settings.from_environment(redis_url=redis_url, stream=stream)
        self.filter = parse_filter(types)
        known = isinstance(since, Position)
        self.since = Since(since) if known else parse_since(since, now=datetime.now(UTC))
        self._settings = settings
        self._name = name
        self._on_link = on_link
        self.seen = Seen()
        """Which events were had; a consumer that goes on from a file fills it first."""
        self.epoch: str | None = None
        """The epoch of what was given last, or of the last contact."""
        self._runner: asyncio.Runner | None = None
        self._waiting: AsyncGenerator[list[Event]] | None = None
        self._ready: deque[Event] = deque()
        self._is_closed = False

    async def events(self) -> AsyncGenerator[Event]:
        """The events as an async generator; close it to give its connection back."""
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def _batches(self) -> AsyncGenerator[list[Event]]:
        matches = None if self.filter == ALL else self.filter.matches
        async with AsyncExitStack() as stack:
            timeline = await self._open(stack)
            items = timeline.follow(self.since, matches=matches)
            await stack.enter_async_context(aclosing(items))
            async for item in items:
                if isinstance(item, Gap):
                    yield [gap_event(item)]
                elif isinstance(item, list):
                    self.epoch = item[0].position.epoch or self.epoch
                    yield [each.event for each in item]
                else:
                    self._note(item)

    def _note(self, link: LinkUp | LinkDown) -> None:
        if isinstance(link, LinkUp):
            self.epoch = link.bounds.epoch
        if self._on_link is not None:
            self._on_link(link)
        elif isinstance(link, LinkDown):
            _log.warning("%s cannot be read (%s); waiting", link.tier, link.error)

    async def _open(self, stack: AsyncExitStack) -> Timeline:
        reader = StreamReader(self._settings.redis_url, self._settings.stream, name=self._name)
        await stack.enter_async_context(aclosing(reader))
        begins_now = self.since.position is None and self.since.cycle is None
        archive = None if begins_now else _archive(self._settings, self._name)
        if archive is not None:
            await stack.enter_async_context(aclosing(archive))
        return Timeline(reader, archive, seen=self.seen)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._ready:
            self._ready.extend(self._wait_for_batch())
        return self._ready.popleft()

    def _wait_for_batch(self) -> list[Event]:
        if self._is_closed:
            raise StopIteration
        if self._runner is None:
            _refuse_inside_a_loop()
            # A Runner turns Ctrl-C into the end of the read; an exception raised inside asyncio might be swallowed.
            self._runner = asyncio.Runner()
            self._waiting = self._batches()
        try:
            return self._runner.run(self._next_batch())
        except BaseException:
            self.close()
            raise

    async def _next_batch(self) -> list[Event]:
        assert self._waiting is not None
        return await anext(self._waiting)

    def close(self) -> None:
        """Give the connection back; the iterator ends."""
        self._is_closed = True
        self._ready.clear()
        runner, self._runner = self._runner, None
        if runner is not None:
            if self._waiting is not None:
                runner.run(_close(self._waiting))
            runner.close()

    def __del__(self) -> None:
        # A script that leaves its `for` loop has no reason to know that there is something to close.
        with suppress(Exception):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _archive(settings: Settings, name: str) -> Archive | None:
    """The archive to read from; None where there is none, or where what reads it is not installed."""
    if not settings.database_url:
        return None
    try:
        from broadcast.log.archive import Archive
    except ImportError:
        return None
    return Archive(settings.database_url, name=name, connections_max=1)


async def _close(batches: AsyncGenerator[list[Event]]) -> None:
    await batches.aclose()


def _refuse_inside_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BroadcastError("an event loop runs in this thread: use `async for event in listen(…)`")
