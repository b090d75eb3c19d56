"""Producers that come and go: read from the marks their senders keep, said in the log itself.

A mind that is killed says no `daemon.stop`. Its sender marks itself with every append, and every 10 s while nothing
happens; the bridges look at the marks, and one of them says `broadcast.producer {state: up | down}`.

Rules:
1. Who lives for less than a mark's interval is not spoken of: a script of one event, a worker, a test.
2. A bridge that was cut off from Redis, or has only just begun, judges nobody's absence until a mark's whole age has
   passed: those it cannot hear may have been cut off with it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import structlog
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from broadcast.errors import UnreachableError
from broadcast.event import timestamp
from broadcast.log.servers import Server, Servers
from broadcast.settings import Settings

__all__ = ["Contact", "Presence", "Rhythm"]

_log: Any = structlog.get_logger("broadcast.bridge")


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a producer counts as come and gone, seconds; tests are in more of a hurry."""

    look_s: float = 5.0
    """How often a bridge looks."""
    up_after_s: float = 9.0
    """A producer is up once its mark was renewed for so long: it has lived for one interval of 10 s."""
    down_after_s: float = 22.0
    """And down when its mark is older: it has missed two."""


class Contact:
    """Since when a bridge has heard from Redis without a break: pure, fed with clocks."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._since_s: float | None = None
        self._heard_s = 0.0
        self._server_ms = 0

    def heard(self, server_ms: int, now_s: float) -> None:
        """An answer has come.

        Args:
            server_ms: the server's clock when it answered.
            now_s: our monotonic clock.
        """
        if self._since_s is None or server_ms > self._expected_ms(now_s):
            self._since_s = now_s
        self._heard_s, self._server_ms = now_s, server_ms

    def lost(self) -> None:
        """No answer came."""
        self._since_s = None

    def judge_until_ms(self, now_s: float) -> int:
        """Up to which moment of the server's clock it may be said who is silent; 0 if not at all."""
        if self._since_s is None or now_s - self._since_s < self._rhythm.down_after_s:
            return 0
        return self._expected_ms(now_s)

    def _expected_ms(self, now_s: float) -> int:
        # Whatever was stopped meanwhile, we or the server, or had its clock set: then it is later than this.
        elapsed_s = min(now_s - self._heard_s, self._rhythm.look_s * 2)
        return self._server_ms + int((elapsed_s + self._rhythm.look_s) * 1000)


class Presence:
    """Looks at the marks, for ever.

    Args:
        settings: where the log is.
        rhythm: when a producer counts as come and gone.
    """

    def __init__(self, settings: Settings, rhythm: Rhythm | None = None) -> None:
        self.rhythm = rhythm or Rhythm()
        stream = settings.stream
        self._servers = Servers(settings.redis_url, stream, name="presence", timeout_s=5.0)
        hash_tag = f"{{{stream}}}"
        self._keys = (stream, f"{hash_tag}:log", f"{hash_tag}:presence", f"{hash_tag}:producers")
        self._channel, self._maxlen = settings.channel, settings.stream_events_max
        self._script = (files("broadcast.bridge") / "presence.lua").read_text("utf-8")
        self._contact = Contact(self.rhythm)
        self._is_told = False

    async def follow(self) -> None:
        """Look, say, and wait, until cancelled; what goes wrong is tried again."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(self.rhythm.look_s)
        finally:
            await self._servers.aclose()

    async def _try(self) -> None:
        server: Server | None = None
        try:
            server = await self._servers.located()
            await self._look(server)
        except (UnreachableError, RedisError, OSError) as error:
            if _is_refusal(error):
                self._tell_once(error)
                return
            self._contact.lost()
            if server is not None:
                await self._servers.leave(server)

    def _tell_once(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True  # it will be the same the next time
            _log.info("this bridge may not write: it cannot say which producers come and go", error=str(error))

    async def _look(self, server: Server) -> None:
        rhythm = self.rhythm
        arguments = (
            self._channel,
            self._maxlen,
            timestamp(time.time_ns()),
            int(rhythm.up_after_s * 1000),
            int(rhythm.down_after_s * 1000),
            self._contact.judge_until_ms(time.monotonic()),
        )
        server_ms, *said = await server.client.eval(self._script, len(self._keys), *self._keys, *arguments)
        self._contact.heard(server_ms, time.monotonic())
        for state, producer in zip(said[::2], said[1::2], strict=True):
            _log.info("producer", state=state.decode(), producer=producer.decode("utf-8", "replace"))


def _is_refusal(error: Exception) -> bool:
    """Whether the account may not do this, by itself or in a script; a replica's READONLY is another matter."""
    return isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and "ACL" in str(error))
