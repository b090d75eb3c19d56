"""Tokens that are valid no more before their end: kept in Redis until that end, and followed by every bridge.

A sorted set holds them, `{stream}:revoked` (token → the second of its end), and beside it stands a number that is
another one after each change. So a bridge asks for one small value a second, and for the set only when there is news.

Rules:
1. What a bridge has once seen revoked stays so for it until the token's end, whatever becomes of Redis.
2. A Redis that has lost a revocation (its last second) is given it again by any bridge that knows of it, if that may
   write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.exceptions import NoPermissionError, RedisError

from broadcast.errors import UnreachableError
from broadcast.log.servers import Server, Servers
from broadcast.settings import Settings

__all__ = ["REVOKE_LUA", "Revocations", "revocation_keys"]

_log: Any = structlog.get_logger("broadcast.bridge")
LOOK_S: Final = 0.7
"""How often a bridge asks; with the way there and back, all have heard within two seconds."""
TIMEOUT_S: Final = 5.0

REVOKE_LUA: Final = """
local time = redis.call('TIME')
local function bounded(second) return string.format('%.0f', math.min(math.ceil(second), 1e12)) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] - 60)
for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', bounded(ARGV[i + 1]), ARGV[i]) end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then
  redis.call('SET', KEYS[2], time[1] .. '-' .. time[2] .. '-' .. redis.call('ZCARD', KEYS[1]))
  for i = 1, 2 do redis.call('EXPIREAT', KEYS[i], bounded(last[2] + 60)) end
end
return redis.call('ZCARD', KEYS[1])
"""
"""Adds tokens (ARGV: token, end, token, end, …), forgets those whose end has passed, and marks the change."""


def revocation_keys(stream: str) -> tuple[str, str]:
    """The set, and the number that changes with it."""
    return f"{{{stream}}}:revoked", f"{{{stream}}}:revoked:change"


class Revocations:
    """The revoked tokens, as this bridge knows them.

    Args:
        settings: where the log is.
        on_revoked: told of tokens that are revoked as of now.
        on_lost: told why Redis could not be asked.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_revoked: Callable[[Collection[str]], None],
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._servers = Servers(settings.redis_url, settings.stream, name="revocations", timeout_s=TIMEOUT_S)
        self._keys = revocation_keys(settings.stream)
        self._on_revoked = on_revoked
        self._on_lost = on_lost
        self._ends: dict[str, float] = {}
        self._change: object = ()
        self._is_told = False
        self.looked = asyncio.Event()
        """Set once Redis has been asked, so that nobody is let in whose token is revoked already."""

    def __contains__(self, token_id: str) -> bool:
        return token_id in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    async def follow(self) -> None:
        """Look, and wait, until cancelled; what goes wrong is tried again."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._servers.aclose()

    async def _try(self) -> None:
        server: Server | None = None
        try:
            server = await self._servers.located()
            await self._look(server)
            self.looked.set()
        except (UnreachableError, RedisError, OSError) as error:
            if isinstance(error, NoPermissionError):
                self._tell_once(error)
                self.looked.set()  # it will be the same the next time, and the log may be readable all the same
                return
            self._on_lost(f"{type(error).__name__}: {error}")
            if server is not None:
                await self._servers.leave(server)

    def _tell_once(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            _log.error("this bridge may not read which tokens are revoked: they stay valid here", error=str(error))

    async def _look(self, server: Server) -> None:
        self._forget(time.time())
        change = await server.client.get(self._keys[1])
        if change == self._change:
            return
        rows: list[tuple[bytes, float]] = await server.client.zrange(self._keys[0], 0, -1, withscores=True)
        found = {token_id.decode("utf-8", "replace"): end for token_id, end in rows}
        missing = [part for token_id, end in self._ends.items() if token_id not in found for part in (token_id, end)]
        fresh = {token_id: end for token_id, end in found.items() if token_id not in self._ends and end > time.time()}
        self._ends.update(fresh)
        if fresh:
            _log.info("tokens revoked", count=len(fresh))
            self._on_revoked(fresh)
        if missing:
            await self._give_back(server, missing)
        self._change = change  # only now: what could not be given back is missing at the next look, too

    async def _give_back(self, server: Server, missing: list[Any]) -> None:
        with suppress(NoPermissionError):  # it may not write: the others, or the next `token revoke`, may
            await server.client.eval(REVOKE_LUA, 2, *self._keys, *missing)

    def _forget(self, now_s: float) -> None:
        for token_id in [token_id for token_id, end in self._ends.items() if end <= now_s]:
            del self._ends[token_id]
