"""What an archive needs beside its events: partitions ahead of time, dropping what is too old, gaps announced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from broadcast.consumers.batch import HOUR_MS, MINUTE_MS
from broadcast.consumers.blanks import drop_types
from broadcast.consumers.connection import connect
from broadcast.log.partitions import begin_ms, detach, detached, make, older_than, week_of
from broadcast.log.position import EntryId
from broadcast.settings import Settings

if TYPE_CHECKING:
    from broadcast.emitter.broadcaster import Broadcaster

__all__ = ["Keeper"]

AHEAD_WEEKS: Final = 2
ROUND_S: Final = 3600.0
RETRY_S: Final = 60.0
ANNOUNCE_RETRY_S: Final = 10.0
FLUSH_S: Final = 5.0
LOCK_TIMEOUT_MS: Final = 2_000
"""So long a drop waits for those who read; whoever comes meanwhile waits behind it, and so does the archiver."""


class Keeper:
    """Looks after the archive, on a connection of its own, while its archiver holds the checkpoint.

    Args:
        settings: which database; which Redis the announcements go to.
        holder: the archiver's name.
        keep_s: what is older goes; None keeps everything.
        on_note: told what was dropped, and what could not be.
    """

    def __init__(
        self, settings: Settings, holder: str, *, keep_s: float | None, on_note: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._holder = holder
        self._keep_s = keep_s
        self._on_note = on_note
        self._wanted = asyncio.Event()
        self._broadcaster: Broadcaster | None = None

    def announce(self) -> None:
        """There is a gap to announce."""
        self._wanted.set()

    async def aclose(self) -> None:
        """Close what announces, with what it has in hand."""
        broadcaster, self._broadcaster = self._broadcaster, None
        if broadcaster is not None:
            await asyncio.to_thread(broadcaster.close, 1.0)

    async def run(self) -> None:
        """Do it all at once, and again every hour, until cancelled. What fails is tried again in a minute."""
        round_at_s = 0.0
        self._wanted.set()  # a run before this one may have left some
        while True:
            try:
                if time.monotonic() >= round_at_s:
                    await self._round()
                    round_at_s = time.monotonic() + ROUND_S
                is_told = not self._wanted.is_set() or await self._announce()
            except (psycopg.Error, OSError) as error:
                self._on_note(f"the archive was not looked after, next try in {RETRY_S:g} s: {error}"[:300].strip())
                self._wanted.set()  # what it was about to announce was perhaps not
                await asyncio.sleep(RETRY_S)  # whatever is wanted: each try may hold up whoever reads
                continue
            if not is_told:
                await asyncio.sleep(ANNOUNCE_RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, round_at_s - time.monotonic())):
                    await self._wanted.wait()

    async def once(self) -> None:
        """Do all of it once; what Redis does not take is left to the next archiver.

        Raises:
            psycopg.Error: PostgreSQL does not answer, or somebody reads for long what is to be dropped.
        """
        await self._round()
        if not await self._announce():
            self._on_note("Redis takes no announcement of a gap now; the next archiver tries again")

    async def _round(self) -> None:
        async with await connect(self._settings.database_url, f"broadcast-keeper-{self._holder}") as connection:
            this_week = week_of(int(time.time() * 1000))
            await make(connection, range(this_week, this_week + AHEAD_WEEKS + 1))
            await self._drop_detached(connection)  # a run before this one may have left some
            if self._keep_s is not None:
                await self._forget(connection, int((time.time() - self._keep_s) * 1000))

    async def _forget(self, connection: psycopg.AsyncConnection[Any], before_ms: int) -> None:
        for name in await older_than(connection, before_ms):
            async with connection.transaction():
                await _wait_shortly(connection)
                await detach(connection, name)
            await self._drop_detached(connection)
            self._on_note(f"dropped {name}: older than is to be kept")
        # As far back as the events that are left.
        oldest_ms = begin_ms(week_of(before_ms))
        spans = (MINUTE_MS, HOUR_MS)
        await connection.execute(
            "DELETE FROM counts WHERE span_ms = ANY(%s) AND begin_ms < %s", (list(spans), oldest_ms)
        )
        await connection.execute("DELETE FROM parked WHERE id_ms < %s", (oldest_ms,))
        await connection.execute(
            "DELETE FROM gaps WHERE coalesce(before_ms, after_ms) < %s AND announced", (oldest_ms,)
        )
        await connection.execute("DELETE FROM producers WHERE last_ms < %s", (oldest_ms,))

    async def _drop_detached(self, connection: psycopg.AsyncConnection[Any]) -> None:
        for name in await detached(connection):
            async with connection.transaction():
                await _wait_shortly(connection)
                # Counted once nobody can change it any more: an erasure counts anew what it takes out.
                table = sql.Identifier(name)
                count = sql.SQL("SELECT type, count(*) FROM {} GROUP BY type").format(table)
                gone = dict(await (await connection.execute(count)).fetchall())
                await connection.execute(sql.SQL("DROP TABLE {}").format(table))
                await connection.execute(
                    "UPDATE types SET events = types.events - gone.events "
                    "FROM unnest(%s::text[], %s::bigint[]) AS gone (type, events) WHERE types.type = gone.type",
                    (list(gone), list(gone.values())),
                )
                await drop_types(connection)

    async def _announce(self) -> bool:
        """Emit what was not announced; whether all of it is in the log."""
        self._wanted.clear()
        async with await connect(self._settings.database_url, f"broadcast-keeper-{self._holder}") as connection:
            rows = await connection.execute(
                "SELECT gap, after_ms, after_seq, before_ms, before_seq, lost, reason FROM gaps WHERE NOT announced "
                "ORDER BY gap"
            )
            for gap, after_ms, after_seq, before_ms, before_seq, lost, reason in await rows.fetchall():
                before = None if before_ms is None else str(EntryId(before_ms, before_seq))
                data = {"after": str(EntryId(after_ms, after_seq)), "before": before, "lost": lost, "reason": reason}
                if not await asyncio.to_thread(self._emit, data):
                    self._wanted.set()
                    return False
                await connection.execute("UPDATE gaps SET announced = true WHERE gap = %s", (gap,))
        return True

    def _emit(self, data: dict[str, Any]) -> bool:
        from broadcast.emitter.broadcaster import Broadcaster

        if self._broadcaster is None:
            self._broadcaster = Broadcaster(settings=self._settings)
        self._broadcaster.emit("broadcast.gap", data)
        return self._broadcaster.flush(FLUSH_S)


async def _wait_shortly(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(LOCK_TIMEOUT_MS),))
    # To count a large week takes its time, and nobody waits for that.
    await connection.execute("SELECT set_config('statement_timeout', '0', true)")
