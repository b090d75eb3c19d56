"""Reading the stream: bounds, the newest, a range, and the tail that survives whatever Redis does."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Final, Literal

from redis.exceptions import RedisError, ResponseError

from broadcast.errors import UnreachableError
from broadcast.log.archiving import Archiving, Room, archive_key, maxlen_of, room
from broadcast.log.cancelling import heed_cancellation
from broadcast.log.entry import Entry, numbered
from broadcast.log.position import START, Bounds, EntryId, Gap, Position, judge
from broadcast.log.replies import bounds_of, entry_of, placed, read_rows, rows_of
from broadcast.log.servers import Server, Servers, refuse_replica
from broadcast.log.trail import Trail

__all__ = ["LinkDown", "LinkUp", "StreamReader", "TailItem"]

READ_EVENTS_MAX: Final = 500
BLOCK_S: Final = 2.0
WATCHED_BLOCK_S: Final = 0.5
"""Behind Sentinels, where it has to be seen between two reads that another server is the master."""
SOCKET_TIMEOUT_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The log can be read (again)."""

    bounds: Bounds
    position: Position
    """Behind this, reading goes on."""
    is_gap_next: bool = False
    """Whether something is missing in front of that; a `Gap` follows then."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The log cannot be read at the moment; the tail keeps trying."""

    error: str
    tier: Literal["Redis", "the archive"] = "Redis"
    """What of it."""


TailItem = list[Entry] | Gap | LinkUp | LinkDown


class StreamReader:
    """Reads one stream of one Redis.

    Args:
        url: where Redis listens, in any form that `broadcast.addresses` knows. Of several servers, the one that takes
            the stream is looked for before the first contact, and again after each failure.
        stream: the stream's key.
        name: what CLIENT LIST calls this reader, behind `broadcast-`.
        renews_epoch: whether it marks the log when it finds it rewound; bridges do.
        read_events_max: so many entries are read at once by the tail.

    Raises:
        SettingError: the address is none.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        name: str = "reader",
        renews_epoch: bool = False,
        read_events_max: int = READ_EVENTS_MAX,
    ) -> None:
        self.stream = stream
        self.read_events_max = read_events_max
        self.log_key = f"{{{stream}}}:log"
        self.renews_epoch = renews_epoch
        self._epoch: str | None = None
        # A read may block so long; else every quiet moment would look like a broken connection.
        self._servers = Servers(url, stream, name=name, timeout_s=BLOCK_S + SOCKET_TIMEOUT_S)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def bounds(self) -> Bounds:
        """The stream as it is now.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        info, log = await self._ask(("XINFO", "STREAM", self.stream))
        return bounds_of(info, log)

    async def archiving(self, *, events_max: int) -> tuple[Archiving, Room] | None:
        """How far the archive is, as its archiver last told it; None if none ever did.

        Args:
            events_max: `maxlen` where the log's hash names none.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        told, info, log = await self._ask(("HGETALL", archive_key(self.stream)), ("XINFO", "STREAM", self.stream))
        archiving = Archiving.of_fields(dict(told or {}))
        if archiving is None:
            return None
        maxlen = maxlen_of(dict(log or {}), events_max)
        return archiving, room(archiving, bounds_of(info, log), maxlen=maxlen, now_ms=int(time.time() * 1000))

    async def newest(self, count: int) -> tuple[list[Entry], Bounds]:
        """The newest entries, oldest first, each with its ordinal; and the stream at that same moment.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        command = ("XREVRANGE", self.stream, "+", "-", "COUNT", count)
        rows, info, log = await self._ask(command, ("XINFO", "STREAM", self.stream))
        entries = [entry_of(row) for row in reversed(rows_of(rows))]
        bounds = bounds_of(info, log)
        return numbered(entries, None if bounds.added is None else bounds.added - len(entries) + 1), bounds

    async def older(self, before: EntryId, *, count: int) -> list[Entry]:
        """The newest entries before an id (exclusive), oldest first, without ordinals.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        rows, _log = await self._ask(("XREVRANGE", self.stream, f"({before}", "-", "COUNT", count))
        return [entry_of(row) for row in reversed(rows_of(rows))]

    async def range(
        self, after: Position, *, until: EntryId | None = None, count: int
    ) -> tuple[list[Entry], Gap | None]:
        """Entries behind a position, oldest first, and what was trimmed between it and the first of them.

        Args:
            after: exclusive.
            until: inclusive; None for no end.
            count: at most so many.

        Returns:
            The entries, with ordinals where the position has one or the stream's own count reaches them.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        end = "+" if until is None else str(until)
        command = ("XRANGE", self.stream, f"({after.id}", end, "COUNT", count)
        rows, info, log = await self._ask(command, ("XINFO", "STREAM", self.stream))
        return placed(rows_of(rows), bounds_of(info, log), after.id, after.n)

    async def tail(self, position: Position | None = None) -> AsyncGenerator[TailItem]:
        """Everything behind a position, for ever, in order.

        Args:
            position: where to begin; None for the end of the log as it is at the first contact.

        Yields:
            Lists of entries; a `Gap` before the entries it precedes; `LinkDown` once when Redis is lost, `LinkUp` on
            every contact.
        """
        backoff_s = 0.0
        is_down = False
        trail = Trail()
        while True:
            server = None
            try:
                server = await self._servers.located()
                position, gap, bounds = await self._contact(server, position, trail)
                yield LinkUp(bounds, position, is_gap_next=gap is not None)
                if gap is not None:
                    yield gap
                backoff_s, is_down = 0.0, False
                async with aclosing(self._follow(server, position)) as items:
                    async for item in items:
                        if isinstance(item, list):
                            position = Position(item[-1].id, item[-1].n, self._epoch)
                            trail.note(item[-1])
                        yield item
                position = replace(position, epoch=self._epoch)
                continue  # another log stands under the same key: look at it anew
            except (UnreachableError, RedisError, OSError) as error:
                if not is_down:
                    yield LinkDown(f"{type(error).__name__}: {error}"[:300])
                is_down = True
                if server is not None:
                    await self._servers.leave(server)
            backoff_s = min(BACKOFF_MAX_S, backoff_s * 2 or BACKOFF_FIRST_S)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    async def _contact(
        self, server: Server, position: Position | None, trail: Trail
    ) -> tuple[Position, Gap | None, Bounds]:
        """First words after a (re)connect: is the log still the one we were reading?"""
        if self._servers.may_be_replicas:
            pipe = server.tail_client.pipeline(transaction=False)
            pipe.execute_command("ROLE")
            refuse_replica((await pipe.execute(raise_on_error=False))[0])
        at = START if position is None else position.id
        latest_up_to_us = ("XREVRANGE", self.stream, str(at), "-", "COUNT", 1)
        info, rows, log = await self._together(server.tail_client, ("XINFO", "STREAM", self.stream), latest_up_to_us)
        bounds = await self._named(server, bounds_of(info, log))
        if position is None:
            return bounds.end, None, bounds
        nearest = rows_of(rows)
        fork = await self._parting(server, position, trail) if self._servers.may_be_replicas else None
        if fork is None and self._lost_its_tail(position, bounds, nearest):
            fork = entry_of(nearest[0]).id if nearest else START
        if fork not in (None, position.id):
            bounds = await self._renewed(server, bounds, fork)
            return *_rewound(position, bounds, fork), bounds
        return *judge(position, bounds), bounds

    async def _named(self, server: Server, bounds: Bounds) -> Bounds:
        """Give a log that has no epoch yet (no emitter of ours has written) one, so that its end can be noticed."""
        if bounds.epoch is not None or not self.renews_epoch:
            return bounds
        pipe = server.tail_client.pipeline(transaction=True)
        pipe.execute_command("HSETNX", self.log_key, "epoch", os.urandom(8).hex())
        pipe.execute_command("HGET", self.log_key, "epoch")
        try:
            _, epoch = await pipe.execute()
        except ResponseError:  # an account that may only read
            return bounds
        return replace(bounds, epoch=epoch.decode())

    async def _parting(self, server: Server, position: Position, trail: Trail) -> EntryId | None:
        """The last place we came by that this master has too; None if it has none of them."""
        places = trail.behind(position.id)
        if not places:
            return None
        pipe = server.tail_client.pipeline(transaction=False)
        for place in places:
            pipe.execute_command("XRANGE", self.stream, str(place), str(place))
        found = [rows_of(rows) for rows in await pipe.execute(raise_on_error=False)]
        return trail.parting([entry_of(rows[0]) if rows else None for rows in found])

    def _lost_its_tail(self, position: Position, bounds: Bounds, nearest: list[Any]) -> bool:
        """Whether the entry we stand on is gone though it is not old enough to have been trimmed."""
        same_log = position.epoch is None or bounds.epoch is None or position.epoch == bounds.epoch
        if not same_log or position.n is None or position.id == START:
            return False
        if position.id > bounds.last:
            return True
        stands = bool(nearest) and entry_of(nearest[0]).id == position.id
        return not stands and bounds.first is not None and position.id > bounds.first

    async def _renewed(self, server: Server, bounds: Bounds, fork: EntryId) -> Bounds:
        if not self.renews_epoch or bounds.epoch is None:
            return bounds
        script = (files("broadcast.log") / "renew_epoch.lua").read_text("utf-8")
        try:
            held: Any = await server.tail_client.eval(  # pyright: ignore
                script, 1, self.log_key, bounds.epoch, os.urandom(8).hex(), str(fork)
            )
        except ResponseError:  # an account that may only read; another bridge marks the log
            return bounds
        if held is None:  # the log's hash has just gone: the next look finds another log
            return bounds
        return replace(bounds, epoch=held.decode(), parent=bounds.epoch, forked_at=fork)

    async def _follow(self, server: Server, position: Position) -> AsyncGenerator[list[Entry] | Gap]:
        """What comes behind a position; ends when the log is no longer the same."""
        at, n, self._epoch = position.id, position.n, position.epoch
        blocking = n is not None
        while True:
            heed_cancellation()
            rows, bounds, epoch = await self._next_rows(server, at, blocking=blocking)
            if epoch != self._epoch:  # another log, or one that has just got its name: look at it anew
                return
            # A full read means that we are behind, and that the next one need not wait.
            blocking = len(rows) < self.read_events_max
            if not rows:
                if n is None and bounds is not None and at >= bounds.last:
                    n = bounds.added
                continue
            entries, gap = placed(rows, bounds, at, n)
            if gap is not None:
                yield gap
            at, n = entries[-1].id, entries[-1].n
            yield entries

    async def _next_rows(
        self, server: Server, at: EntryId, *, blocking: bool
    ) -> tuple[list[Any], Bounds | None, str | None]:
        """What comes behind `at`; without bounds if it follows on `at` without a doubt."""
        # Always from a concrete id, never `$`: what is appended between two reads would be lost.
        if blocking:
            pipe = server.tail_client.pipeline(transaction=False)
            wait_ms = int((WATCHED_BLOCK_S if self._servers.may_be_replicas else BLOCK_S) * 1000)
            pipe.execute_command(
                "XREAD", "COUNT", self.read_events_max, "BLOCK", wait_ms, "STREAMS", self.stream, str(at)
            )
            # In the same round trip: while the entry we stand on is there, nothing behind it was trimmed; and after
            # FLUSHALL another log grows under this key, with ids that look like ours.
            pipe.execute_command("XRANGE", self.stream, str(at), str(at))
            pipe.execute_command("HGET", self.log_key, "epoch")
            if self._servers.may_be_replicas:
                # A master that was replaced goes on answering, as a replica or for nobody but us.
                pipe.execute_command("ROLE")
            results: list[Any] = await pipe.execute(raise_on_error=False)
            reply, standing, epoch = results[:3]
            for result in results[:3]:
                if isinstance(result, Exception):
                    raise result
            if self._servers.may_be_replicas:
                refuse_replica(results[3])
                server.refuse_replaced()
            rows = read_rows(reply)
            if not rows or standing:
                return rows, None, epoch.decode() if epoch else None
        command = ("XRANGE", self.stream, f"({at}", "+", "COUNT", self.read_events_max)
        rows, info, log = await self._together(server.tail_client, command, ("XINFO", "STREAM", self.stream))
        bounds = bounds_of(info, log)
        return rows_of(rows), bounds, bounds.epoch

    async def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        server = await self._servers.located()
        try:
            return await self._together(server.client, *commands)
        except UnreachableError:
            await self._servers.leave(server)
            raise

    async def _together(self, client: Any, *commands: tuple[Any, ...]) -> list[Any]:
        """Run commands as one transaction, and HGETALL of the log's hash last."""
        try:
            pipe = client.pipeline(transaction=True)
            for command in commands:
                pipe.execute_command(*command)
            pipe.execute_command("HGETALL", self.log_key)
            results: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        for result in results:
            if isinstance(result, ResponseError) and "no such key" in str(result):
                continue
            if isinstance(result, Exception):
                raise UnreachableError(f"{type(result).__name__}: {result}") from result
        return results


def _rewound(position: Position, bounds: Bounds, fork: EntryId) -> tuple[Position, Gap]:
    n = bounds.added if fork == bounds.last else None
    return Position(fork, n, bounds.epoch), Gap(position.id, None, None, "rewound")
