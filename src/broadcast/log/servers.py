"""Which server a reader speaks to: one for good, or of several the one that takes the stream, looked for anew."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from broadcast.addresses import Address, parse_address
from broadcast.discovery import Watch, locate
from broadcast.errors import UnreachableError

__all__ = ["Server", "Servers", "refuse_replica"]

CONNECT_TIMEOUT_S: Final = 5.0


class Server:
    """The connections to one server: one for questions, one for the tail."""

    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        self.client = _client(url, name, timeout_s)
        self.tail_client = _client(url, f"{name}-tail", timeout_s)
        self.is_replaced = False
        """Whether Sentinels name another server by now."""
        self._watch: Watch | None = None

    def watch(self, address: Address, url: str) -> None:
        """From now on notice within a second or so when Sentinels name another server."""
        loop = asyncio.get_running_loop()
        self._watch = Watch(address, url, partial(loop.call_soon_threadsafe, self._replaced))

    def _replaced(self) -> None:
        self.is_replaced = True

    def refuse_replaced(self) -> None:
        """Look whether it still is the right one.

        Raises:
            UnreachableError: the Sentinels name another server.
        """
        if self.is_replaced:
            raise UnreachableError("the Sentinels name another server by now")

    async def aclose(self) -> None:
        """Close both."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        await self.client.aclose()
        await self.tail_client.aclose()


class Servers:
    """What stands behind an address.

    Args:
        url: in any form that `broadcast.addresses` knows.
        key: the stream's key.
        name: what CLIENT LIST calls the reader, behind `broadcast-`.
        timeout_s: the longest that an answer may take.

    Raises:
        SettingError: the address is none.
    """

    def __init__(self, url: str, key: str, *, name: str, timeout_s: float) -> None:
        self._address = parse_address(url)
        self._key, self._name, self._timeout_s = key, name, timeout_s
        self._locating = asyncio.Lock()
        single = self._address.kind == "server"
        self._server = Server(self._address.url, name, timeout_s) if single else None

    @property
    def may_be_replicas(self) -> bool:
        """Whether a server may cease to be the master without a word; a cluster's says MOVED."""
        return self._address.kind == "sentinel"

    async def located(self) -> Server:
        """The server to speak to.

        Raises:
            UnreachableError: nobody knows it.
        """
        if self._server is not None and not self._server.is_replaced:
            return self._server
        async with self._locating:
            if self._server is not None and self._server.is_replaced:
                await self.leave(self._server)
            if self._server is None:
                try:
                    # Asked in a thread, by connections of its own: seldom, and for a second at the most each.
                    url = await asyncio.to_thread(locate, self._address, self._key)
                except (RedisError, OSError) as error:
                    raise UnreachableError(f"{type(error).__name__}: {error}") from error
                self._server = Server(url, self._name, self._timeout_s)
                if self.may_be_replicas:
                    self._server.watch(self._address, url)
            return self._server

    async def leave(self, server: Server) -> None:
        """After a failure: of several servers, another one may be the right one now. A single one is kept."""
        if self._address.kind == "server" or self._server is not server:
            return
        self._server = None
        with suppress(RedisError, OSError):
            await server.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._server is not None:
            await self._server.aclose()


def refuse_replica(role: Any) -> None:
    """Look at the answer to ROLE.

    Raises:
        UnreachableError: the server is no master.
    """
    if isinstance(role, ResponseError):  # an account that may not ask; the connection's end has to tell it
        return
    if isinstance(role, Exception):
        raise role
    if role[0] not in (b"master", "master"):
        raise UnreachableError("this server is no master any more")


def _client(url: str, name: str, timeout_s: float) -> Any:
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        client_name=f"broadcast-{name}",
        **options,
    )
    # Entries are decoded by us, from bytes, in one place.
    for command in ("XRANGE", "XREVRANGE", "XREAD"):
        client.response_callbacks.pop(command, None)
    return client
