"""Broadcast a mind's events: one line emits, every viewer is a cursor on one ordered log.

    from broadcast import emit
    emit("sense.project", {"sense": "pain", "projection": "…"})

`emit` never waits and never raises. Importing this package loads neither redis nor asyncio.
"""

from __future__ import annotations

# The sender's thread must not be the first to import this: whichever thread is, is taken for the main thread, for which
# the interpreter waits at exit; a program without threads of its own would never end.
import threading  # noqa: F401  # pyright: ignore[reportUnusedImport]
from typing import TYPE_CHECKING

from broadcast.emitter.broadcaster import Broadcaster, Stats, get_broadcaster
from broadcast.emitter.cycle import Cycle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broadcast.event import Event
    from broadcast.log.listen import Listener

__all__ = [
    "Broadcaster",
    "cycle",
    "emit",
    "flush",
    "get_broadcaster",
    "listen",
    "set_cycle",
    "stats",
]


def emit(event_type: str, data: object = None) -> Event:
    """Hand an event over. Takes microseconds, never waits and never raises; see `Broadcaster.emit`."""
    try:
        return get_broadcaster().emit(event_type, data)
    except Exception:  # noqa: BLE001 - at the end of the stack or of memory not even the call succeeds
        return {"type": event_type, "ts": "", "cycle": 0, "day": 0, "data": {} if data is None else data}


def set_cycle(cycle: int, day: int) -> None:
    """Say which cycle and day the coming events belong to."""
    get_broadcaster().set_cycle(cycle, day)


def cycle(day: int | None = None, session: object = None) -> Cycle:
    """A context for one cycle of the mind; see `Broadcaster.cycle`."""
    return get_broadcaster().cycle(day, session)


def flush(timeout_s: float = 5.0) -> bool:
    """Wait until all that was emitted before is in the log; False if the time was too short."""
    return get_broadcaster().flush(timeout_s)


def stats() -> Stats:
    """What this process's broadcaster has done so far."""
    return get_broadcaster().stats()


def listen(
    types: str | Iterable[str] | None = None,
    since: str | int | None = None,
    *,
    redis_url: str | None = None,
    stream: str | None = None,
) -> Listener:
    """Read the log as it grows: `for event in listen(): …`, or `async for event in listen(): …`.

    Args:
        types: which types, as `"sense.*"` or `["sense.*", "-sense.all"]`; None for all.
        since: where to begin: None for what comes from now on, an event's id (what comes after it), `"0"` for the
            oldest that is left, a duration ago (`"5m"`), a time (`"2026-02-14T19:00:00Z"`), or the beginning of a cycle
            (`"cycle:42"`, the newest of that number). Where `DATABASE_URL` names an archive, what is older than the
            stream comes from there.
        redis_url: where Redis listens; None reads `REDIS_URL`.
        stream: the stream's key; None reads `BROADCAST_STREAM`.

    Returns:
        A listener, both an iterator and an async iterator of events in delivered form. It survives restarts of
        Redis. What can no longer be given is told by an event `broadcast.gap` with `{after, before, lost, reason}`.
        While an archive that is needed does not answer, it waits, and says so to the logger `broadcast`.

    Raises:
        FilterError: `types` holds what is no pattern.
        PositionError: `since` is no position; when reading begins, that there is no such cycle.
    """
    from broadcast.log.listen import Listener

    return Listener(types, since, redis_url=redis_url, stream=stream)
