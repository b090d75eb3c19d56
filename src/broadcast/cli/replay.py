"""`broadcast replay`: a stretch of the past, as it was lived, faster or slower, or at once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Final

import orjson
from rich.console import Console

from broadcast.cli.tail import event_line, is_sought
from broadcast.errors import SettingError, UnreachableError
from broadcast.event import Event
from broadcast.filters import parse_filter
from broadcast.log.pacing import SPEED_MAX, Pacing
from broadcast.log.position import Gap, Since, parse_since
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from broadcast.log.timeline import Timeline, gap_event
from broadcast.search import parse_search
from broadcast.settings import Settings

__all__ = ["replay"]

SPEED_MIN: Final = 0.01


async def replay(
    settings: Settings,
    *,
    since: str,
    until: str | None,
    speed: float | None,
    types: str | None,
    sought: str,
    as_json: bool,
) -> None:
    """Print events of the past, in the log's order, until its end.

    Args:
        settings: where the log is; without `database_url` it reaches as far back as the stream.
        since: where to begin: an id, a time, a duration ago, `cycle:42`.
        until: where to end, inclusive; None for where the log ends as it is now.
        speed: how many seconds of the mind's time pass in one second; None for all at once.
        types: the filter, None for all.
        sought: what of these is shown, in the terms of the page's filter box; empty for all.
        as_json: the delivered form, a line each; else digests.

    Raises:
        SettingError: the speed is none.
        PositionError: a place is none.
        FilterError: a term, or a type pattern, is none.
    """
    if speed is not None and not SPEED_MIN <= speed <= SPEED_MAX:
        raise SettingError(f"speed: expected a number from {SPEED_MIN:g} to {SPEED_MAX:g}, got {speed:g}")
    matches = parse_search(sought)
    now = datetime.now(UTC)
    begin = parse_since(since, now=now)
    end = None if until is None else parse_since(until, now=now)
    pacing = None if speed is None else Pacing(speed, time.monotonic())
    console = Console(highlight=False, soft_wrap=True)
    async with aclosing(_events(settings, begin, end, types)) as events:
        async for event in events:
            if not is_sought(event, matches):
                continue
            if pacing is not None and "id" in event:  # a gap has no time of its own
                await _wait(pacing, event)
            if as_json:
                sys.stdout.write(orjson.dumps(event).decode() + "\n")
            else:
                console.print(event_line(event, width=console.width), overflow="ellipsis", no_wrap=True)
            if pacing is not None:
                pacing.gave(time.monotonic())
                sys.stdout.flush()
    if pacing is not None and pacing.cut_s >= 1:
        sys.stderr.write(f"broadcast: {pacing.cut_s:,.0f} s in which nothing happened were left out\n")


async def _events(settings: Settings, begin: Since, end: Since | None, types: str | None) -> AsyncGenerator[Event]:
    matches = None if types is None else parse_filter(types).matches
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(
            aclosing(StreamReader(settings.redis_url, settings.stream, name="replay"))
        )
        archive = None
        if settings.database_url:
            from broadcast.log.archive import Archive

            archive = await stack.enter_async_context(aclosing(Archive(settings.database_url, name="replay")))
        timeline = Timeline(reader, archive)
        async with aclosing(timeline.follow(begin, end or await _end_of(timeline), matches=matches)) as items:
            async for item in items:
                if isinstance(item, list):
                    for each in item:
                        yield each.event
                elif isinstance(item, Gap):
                    yield gap_event(item)
                elif isinstance(item, LinkDown):
                    sys.stderr.write(f"broadcast: {item.tier} cannot be read ({item.error}); waiting\n")
                else:
                    assert isinstance(item, LinkUp)


async def _end_of(timeline: Timeline) -> Since:
    try:
        return await timeline.end()
    except UnreachableError:  # what the archive has is given meanwhile, and the rest is waited for
        now = datetime.now(UTC)
        return parse_since(now.isoformat(), now=now)


async def _wait(pacing: Pacing, event: Event) -> None:
    pacing.take(str(event["ts"]), time.monotonic())
    await asyncio.sleep(max(0.0, pacing.wait_s(time.monotonic())))
