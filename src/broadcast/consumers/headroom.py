"""How long the archiver may be away: the stream's `maxlen`, raised within a budget; how far it is, told in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError

from broadcast.errors import UnreachableError
from broadcast.log.archiving import MAXLEN_FIELD, TRIMMED_FIELD, Archiving, archive_key, count_of
from broadcast.log.servers import Servers
from broadcast.settings import Settings

if TYPE_CHECKING:
    from broadcast.consumers.archiver import Progress

__all__ = ["Headroom", "wanted_maxlen"]

TELL_S: Final = 1.0
RAISE_S: Final = 10.0
TIMEOUT_S: Final = 5.0
RATE_OVER_S: Final = 60.0
MAXMEMORY_SHARE: Final = 4
ENTRY_BYTES: Final = 400
"""Of an entry, as long as there are too few to measure it, or nobody may ask."""
MEASURED_MIN: Final = 500
CHANGE_MIN: Final = 0.1
"""A `maxlen` that differs by less is left as it is."""


def wanted_maxlen(
    *, held: int | None, ours: int | None, least: int, budget_bytes: int, maxmemory_bytes: int, entry_bytes: float
) -> int | None:
    """Which `maxlen` the log should have; None to leave it as it is.

    Args:
        held: what stands in the log's hash; None for nothing.
        ours: what an archiver has last set there; None if none ever has.
        least: what the emitters use where nothing is set.
        budget_bytes: what the stream may take.
        maxmemory_bytes: what Redis may take in all; 0 for no bound.
        entry_bytes: what an entry takes.
    """
    if held is not None and held != ours:  # a person's own
        return None
    if maxmemory_bytes:
        budget_bytes = min(budget_bytes, maxmemory_bytes // MAXMEMORY_SHARE)
    wanted = max(least, int(budget_bytes / max(1.0, entry_bytes)))
    return None if held is not None and abs(wanted - held) <= CHANGE_MIN * held else wanted


class Headroom:
    """Tells and raises, for as long as the archiver runs.

    Args:
        settings: which Redis, which stream, and how many bytes it may take.
        holder: the archiver's name.
        progress: how far it is.
        on_note: told what was done, and what cannot be.
    """

    def __init__(
        self, settings: Settings, holder: str, *, progress: Callable[[], Progress], on_note: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._holder = holder
        self._progress = progress
        self._on_note = on_note
        self._log_key = f"{{{settings.stream}}}:log"
        self._servers = Servers(settings.redis_url, settings.stream, name="archiver", timeout_s=TIMEOUT_S)
        self._rate = 0.0
        self._counted: tuple[float, int] | None = None
        self._raise_at_s = 0.0
        self._said = ""

    async def aclose(self) -> None:
        """Tell a last time, and close the connection."""
        with suppress(RedisError, UnreachableError, OSError, TimeoutError):
            async with asyncio.timeout(TELL_S):
                await self._tell((await self._servers.located()).client)
        await self._servers.aclose()

    async def run(self) -> None:
        """Tell about once a second, until cancelled; while Redis is away, there is nobody to tell."""
        while True:
            server = None
            try:
                server = await self._servers.located()
                await self._tell(server.client)
                if time.monotonic() >= self._raise_at_s:
                    self._raise_at_s = time.monotonic() + RAISE_S
                    await self._raise(server.client)
            except ResponseError as error:  # an account that may only read; said once
                self._say(f"Redis refuses to be told how far the archive is ({error})")
            except (RedisError, UnreachableError, OSError):
                if server is not None:
                    await self._servers.leave(server)
            await asyncio.sleep(TELL_S)

    def _say(self, note: str) -> None:
        if note != self._said:
            self._said = note
            self._on_note(note)

    async def _tell(self, client: Any) -> None:
        progress = self._progress()
        if not progress.is_holder:  # another one's word counts
            return
        with suppress(ResponseError):  # there is no stream
            self._measure(_added(await client.xinfo_stream(self._settings.stream)), time.monotonic())
        position = progress.position
        told = Archiving(
            holder=self._holder,
            at_ms=int(time.time() * 1000),
            epoch=(position and position.epoch) or "",
            id=position and position.id,
            n=position and position.n,
            rate=self._rate,
            error=progress.error,
        )
        key, fields = archive_key(self._settings.stream), told.as_fields()
        if position is None:  # where an archiver before this one has come to is still true
            for name in ("epoch", "id", "n"):
                await client.hsetnx(key, name, fields.pop(name))
        await client.hset(key, mapping=fields)

    def _measure(self, added: int | None, now_s: float) -> None:
        if added is not None and self._counted is not None and added >= self._counted[1]:
            span_s = now_s - self._counted[0]
            weight = min(1.0, span_s / RATE_OVER_S)
            self._rate += weight * ((added - self._counted[1]) / max(span_s, 0.001) - self._rate)
        if added is not None:
            self._counted = (now_s, added)

    async def _raise(self, client: Any) -> None:
        held, ours = (count_of(value) for value in await client.hmget(self._log_key, "maxlen", MAXLEN_FIELD))
        wanted = wanted_maxlen(
            held=held,
            ours=ours,
            least=self._settings.stream_events_max,
            budget_bytes=self._settings.archive_stream_bytes_max,
            maxmemory_bytes=await self._maxmemory_bytes(client),
            entry_bytes=await self._entry_bytes(client),
        )
        if wanted is None:
            return
        fields: dict[str, int] = {"maxlen": wanted, MAXLEN_FIELD: wanted}
        if self._counted is not None:
            # From here on the stream grows: whoever finds it short of its maxlen can tell that from foreign trimming.
            fields[TRIMMED_FIELD] = self._counted[1] - await client.xlen(self._settings.stream)
        await client.hset(self._log_key, mapping=fields)
        self._on_note(f"the stream keeps up to {wanted:,} events now, for when the archive is away")

    async def _maxmemory_bytes(self, client: Any) -> int:
        try:
            return int((await client.info("memory")).get("maxmemory", 0))
        except ResponseError:
            return 0

    async def _entry_bytes(self, client: Any) -> float:
        try:
            length = await client.xlen(self._settings.stream)
            taken = await client.memory_usage(self._settings.stream, samples=20) if length >= MEASURED_MIN else None
        except ResponseError:
            return ENTRY_BYTES
        return taken / length if taken else ENTRY_BYTES


def _added(info: Any) -> int | None:
    facts: dict[Any, Any] = dict(info)
    return facts.get("entries-added")
