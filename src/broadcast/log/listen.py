"""`listen()`: the log as a plain iterator for scripts, and as an async iterator for everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from broadcast.errors import BroadcastError
from broadcast.event import Event, timestamp
from broadcast.filters import parse_filter
from broadcast.log.entry import Entry
from broadcast.log.position import Gap, Seen, parse_since
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings

__all__ = ["Listener", "gap_event"]


class Listener:
    """A cursor on the log; made by `broadcast.listen`.

    As a plain iterator it runs an event loop of its own between two events, so it cannot be used where one runs:
    there, use `async for`. Close it, or use it in a `with`, to give its connection back early.
    """

    def __init__(
        self,
        types: str | Iterable[str] | None = None,
        since: object = None,
        *,
        redis_url: str | None = None,
        stream: str | None = None,
        name: str = "listen",
    ) -> None:
        settings = Settings.from_environment(redis_url=redis_url, stream=stream)
        self.filter = parse_filter(types)
        self.since = parse_since(since, now=datetime.now(UTC))
        self._settings = settings
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: AsyncGenerator[Event] | None = None

    async def _read(self) -> AsyncGenerator[Event]:
        reader = StreamReader(self._settings.redis_url, self._settings.stream, name=self._name)
        seen = Seen()
        async with aclosing(reader), aclosing(reader.tail(self.since.position)) as items:
            async for item in items:
                if isinstance(item, Gap):
                    yield gap_event(item)
                elif isinstance(item, list):
                    for entry in item:
                        if seen.is_new(entry.by) and self._wants(entry):
                            yield entry.event

    def _wants(self, entry: Entry) -> bool:
        if self.since.ts is not None and entry.event["ts"] < self.since.ts:
            return False
        return self.filter.matches(entry.event["type"])

    def __aiter__(self) -> AsyncIterator[Event]:
        self._events = self._read()
        return self._events

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._loop is None:
            _refuse_inside_a_loop()
            self._loop = asyncio.new_event_loop()
            self._events = self._read()
        assert self._events is not None
        try:
            return self._loop.run_until_complete(anext(self._events))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back; the iterator ends."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            if self._events is not None:
                loop.run_until_complete(self._events.aclose())
            loop.close()

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


def _refuse_inside_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BroadcastError("an event loop runs in this thread: use `async for event in listen(…)`")
