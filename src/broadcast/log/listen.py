"""`listen()`: the log as a plain iterator for scripts, and as an async iterator for everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from broadcast.errors import BroadcastError
from broadcast.event import Event, timestamp
from broadcast.filters import parse_filter
from broadcast.log.entry import Entry
from broadcast.log.position import Gap, Position, Seen, Since, parse_since
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from broadcast.settings import Settings

__all__ = ["Listener", "gap_event"]


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
        """The log's epoch as of the last contact."""
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
        reader = StreamReader(self._settings.redis_url, self._settings.stream, name=self._name)
        seen = self.seen
        async with aclosing(reader), aclosing(reader.tail(self.since.position)) as items:
            async for item in items:
                if isinstance(item, Gap):
                    yield [gap_event(item)]
                elif isinstance(item, list):
                    batch = [entry.event for entry in item if seen.is_new(entry.by) and self._wants(entry)]
                    if batch:
                        yield batch
                else:
                    self._note(item)

    def _note(self, link: LinkUp | LinkDown) -> None:
        if isinstance(link, LinkUp):
            self.epoch = link.bounds.epoch
        if self._on_link is not None:
            self._on_link(link)

    def _wants(self, entry: Entry) -> bool:
        if self.since.ts is not None and entry.event["ts"] < self.since.ts:
            return False
        return self.filter.matches(entry.event["type"])

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


def gap_event(gap: Gap) -> Event:
    """What a reader in Python gets in the place of events it cannot be given; it has no id of its own."""
    ts = timestamp(int(datetime.now(UTC).timestamp() * 1_000_000_000))
    return {"type": "broadcast.gap", "ts": ts, "cycle": 0, "day": 0, "data": gap.as_data()}


async def _close(batches: AsyncGenerator[list[Event]]) -> None:
    await batches.aclose()


def _refuse_inside_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BroadcastError("an event loop runs in this thread: use `async for event in listen(…)`")
