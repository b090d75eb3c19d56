"""The archiver: the stream into PostgreSQL, each event exactly once, whatever ends it and whoever else tries.

Two tasks work side by side: one reads the stream and makes lines of COPY, the other stores what is ready. After any
fault both begin anew from the checkpoint: there is one way to begin, and it is taken every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import psycopg

from broadcast.consumers.batch import Batch
from broadcast.consumers.headroom import Headroom
from broadcast.consumers.intake import Intake
from broadcast.consumers.keeper import Keeper
from broadcast.consumers.patience import Patience
from broadcast.consumers.store import FencedError, Store, refusal_of
from broadcast.errors import SettingError, UnreachableError
from broadcast.log.cancelling import end_tasks
from broadcast.log.position import START, Position
from broadcast.log.stream import LinkDown, LinkUp, StreamReader
from broadcast.settings import Settings

__all__ = ["Archiver", "Progress"]

HOLD_S: Final = 3.0
"""So often an archiver says that it lives while nothing flows."""
STANDBY_S: Final = 2.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
ONCE_WAIT_S: Final = 60.0
"""So long one that shall end waits for PostgreSQL, for Redis, or for another archiver to be silent."""
READ_EVENTS_MAX: Final = 1_000
STOP_S: Final = 10.0
"""The batch at hand may take so long when the archiver is told to end."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """What an archiver has done since it began, and how it stands."""

    position: Position | None = None
    """The checkpoint; None before the first contact with PostgreSQL, or as long as nothing was archived."""
    events: int = 0
    """Stored, those that stand in for parked ones among them."""
    repeats: int = 0
    """Left out, because they were archived before under another id."""
    parked: int = 0
    batches: int = 0
    commit_s: float = 0.0
    """How long the last transaction took."""
    lag_s: float = 0.0
    """How old the oldest event of the last batch was when it was stored, by the time in its id."""
    is_holder: bool = True
    """Whether it is the one who writes, or will be as soon as PostgreSQL answers."""
    error: str = ""
    """What it waits for; empty while all is well."""


class Archiver:
    """Archives one stream into one database.

    Args:
        settings: where both are: `redis_url`, `stream`, `database_url`.
        keep_s: what is older goes, a week at a time; None keeps everything for ever.
        is_once: whether it ends when everything that was there is archived, what is too old is dropped, and gaps are
            announced.
        on_note: told in a sentence what it waits for, and what it met.

    Raises:
        SettingError: no database is named.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        keep_s: float | None = None,
        is_once: bool = False,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        if not settings.database_url:
            raise SettingError(
                "DATABASE_URL is not set: the archive needs a PostgreSQL, such as postgresql://user:password@host/name"
            )
        self.settings = settings
        self.progress = Progress()
        self.is_over = False
        """Whether all of it was done; never without `is_once`."""
        self._is_once = is_once
        self._redis, self._postgresql = (Patience(ONCE_WAIT_S if is_once else None) for _ in range(2))
        self._on_note = on_note or _ignore
        # Long enough that no other has it, short enough for the name of a connection.
        self.holder = f"archiver-{os.urandom(8).hex()}"
        self._keeper = Keeper(settings, self.holder, keep_s=keep_s, on_note=self._on_note)
        self._headroom = Headroom(settings, self.holder, progress=lambda: self.progress, on_note=self._on_note)
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_claimed = False

    async def run(self) -> None:
        """Archive until cancelled, or until everything is there; ends after the batch at hand.

        Raises:
            SettingError: the database is not one that this archiver can work with.
            UnreachableError: with `is_once`: Redis or PostgreSQL was away for too long.
        """
        headroom = asyncio.create_task(self._headroom.run())
        try:
            await self._run()
        finally:
            await end_tasks(headroom)
            await self._headroom.aclose()
            await self._keeper.aclose()

    async def _run(self) -> None:
        backoff_s = 0.0
        while True:
            batches = self.progress.batches
            try:
                await self._work()
                return
            except FencedError as error:
                self._waits(str(error), is_holder=False)
                await asyncio.sleep(STANDBY_S)
                continue
            except UnreachableError:  # an OSError, too: patience has come to its end
                raise
            except (psycopg.Error, OSError) as error:
                self._waits(f"PostgreSQL: {type(error).__name__}: {error}"[:300].partition("\n")[0])
            backoff_s = _next_backoff_s(backoff_s, has_worked=self.progress.batches > batches)
            await asyncio.sleep(backoff_s)

    def _waits(self, error: str, *, is_holder: bool = True) -> None:
        if not self.progress.error:
            self._on_note(f"{error}; waiting")
        self.progress = replace(self.progress, error=error, is_holder=self.progress.is_holder and is_holder)
        now_s = time.monotonic()
        self._postgresql.away(error, now_s=now_s)
        self._postgresql.check(now_s=now_s)

    async def _work(self) -> None:
        """From the checkpoint on, until something fails."""
        store = Store(self.settings.database_url, self.settings.stream, self.holder)
        try:
            await store.open()
            await store.claim(at_once=not self._has_claimed)
            self._has_claimed = True
            if self.progress.error:
                self._on_note("archiving again")
            begin = Position(START) if store.checkpoint is None else store.checkpoint.position
            self.progress = replace(self.progress, error="", is_holder=True, position=store.checkpoint and begin)
            await self._archive(store, Intake(begin))
            await self._look_after(store)
            self.is_over = True
            await store.release()
        except asyncio.CancelledError:
            await self._finished(store.release())
            raise
        finally:
            await store.close()

    async def _archive(self, store: Store, intake: Intake) -> None:
        reader = StreamReader(
            self.settings.redis_url,
            self.settings.stream,
            name="archiver",
            renews_epoch=True,
            read_events_max=READ_EVENTS_MAX,
        )
        tasks = [asyncio.create_task(self._read(reader, intake))]
        if not self._is_once:
            tasks.append(asyncio.create_task(self._keeper.run()))
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        try:
            while not (self._is_once and intake.is_done):
                for task in tasks:
                    if task.done():  # neither ends but by a fault of ours
                        task.result()
                self._redis.check(now_s=time.monotonic())
                if await self._is_due(intake):
                    batch = intake.take()
                    self._has_room.set()
                    await self._finished(self._store(store, batch))
                else:
                    await store.hold()
        finally:
            await end_tasks(*tasks)
            await reader.aclose()

    async def _look_after(self, store: Store) -> None:
        """What the keeper has to do once; it may take long, and others are told meanwhile that this one lives."""
        keeping = asyncio.create_task(self._keeper.once())
        try:
            while not keeping.done():
                await asyncio.wait({keeping}, timeout=HOLD_S)
                await store.hold()
            keeping.result()
        finally:
            await end_tasks(keeping)

    async def _read(self, reader: StreamReader, intake: Intake) -> None:
        is_down = False
        async with aclosing(reader.tail(intake.position)) as items:
            async for item in items:
                if isinstance(item, LinkDown):
                    self._on_note(f"Redis cannot be read ({item.error}); waiting")
                    self._redis.away(f"Redis cannot be read ({item.error})", now_s=time.monotonic())
                    is_down = True
                elif isinstance(item, LinkUp):
                    self._redis.back()
                    if is_down:
                        self._on_note("Redis can be read again")
                    is_down = False
                intake.take_in(item, now_s=time.monotonic())
                self._changed.set()
                while intake.is_full:
                    self._has_room.clear()
                    await self._has_room.wait()

    async def _is_due(self, intake: Intake) -> bool:
        """Wait for a batch; False if there was none for so long that a sign of life is due."""
        give_up_s = time.monotonic() + HOLD_S
        while True:
            self._changed.clear()
            now_s = time.monotonic()
            due_in_s = intake.due_in_s(now_s)
            if due_in_s == 0:
                return True
            if now_s >= give_up_s or (self._is_once and intake.is_done):
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(give_up_s - now_s, HOLD_S if due_in_s is None else due_in_s)):
                    await self._changed.wait()
                    if due_in_s is not None:  # more of the same batch: the time it is due has not changed
                        await asyncio.sleep(0)

    async def _store(self, store: Store, batch: Batch) -> None:
        """Store a batch; one that PostgreSQL refuses in halves, down to the event that it refuses."""
        began_s = time.monotonic()
        try:
            fresh = await store.commit(batch)
        except psycopg.Error as error:
            refusal = refusal_of(error)
            parts = batch.parts(refusal) if refusal and batch.rows else []
            if not parts:
                raise
            for part in parts:
                await self._store(store, part)
            return
        self._note_stored(store, batch, fresh, time.monotonic() - began_s)

    def _note_stored(self, store: Store, batch: Batch, fresh: int, took_s: float) -> None:
        assert store.checkpoint is not None, "a commit sets it"
        self._postgresql.back()
        now, parked = self.progress, batch.parked
        self.progress = replace(
            now,
            position=store.checkpoint.position,
            events=now.events + fresh,
            repeats=now.repeats + len(batch.rows) - fresh,
            parked=now.parked + len(parked),
            batches=now.batches + 1,
            commit_s=took_s,
            lag_s=max(0.0, time.time() - batch.rows[0].entry.id.ms / 1000) if batch.rows else 0.0,
        )
        for each in parked[:3]:
            self._on_note(f"parked {each.id}: {each.error}")
        if len(parked) > 3:
            self._on_note(f"parked {len(parked) - 3} more, up to {parked[-1].id}")
        if batch.gap is not None:
            self._on_note(f"gap: {batch.gap.as_data()}")
            self._keeper.announce()

    async def _finished(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What must not be cut short by a cancellation is awaited first; a second one finds it still at work."""
        task = asyncio.create_task(work)
        give_up_s: float | None = None
        while not task.done() and (give_up_s is None or time.monotonic() < give_up_s):
            try:
                await asyncio.wait({task}, timeout=STOP_S if give_up_s else None)
            except asyncio.CancelledError:
                give_up_s = give_up_s or time.monotonic() + STOP_S
        if give_up_s is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise asyncio.CancelledError
        return task.result()


def _next_backoff_s(backoff_s: float, *, has_worked: bool) -> float:
    return BACKOFF_FIRST_S if has_worked else min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, backoff_s * 2))


def _ignore(note: str) -> None:
    del note
