"""One private connection to Redis for the sender: no pool, no retries of its own, every wait bounded."""

from __future__ import annotations

import contextlib
import os
from _thread import get_ident
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from broadcast.addresses import parse_address
from broadcast.emitter.resp import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from broadcast.discovery import Watch
    from broadcast.emitter.ledger import Batch

__all__ = ["AppendReply", "LogConnection", "prepare"]

SOCKET_TIMEOUT_S: Final = 2.0
PRODUCER_TTL_MS: Final = 7 * 24 * 3600 * 1000


class AppendReply(NamedTuple):
    """What `append.lua` answers."""

    stored: int
    """The last seq of this producer that the log holds; -1 where it could not be read."""
    epoch: str
    """The log's epoch; empty where the script could not read it."""
    unpublished: int
    """Events of the batch whose PUBLISH failed; they are in the log all the same."""
    error: str
    """Why the batch was not appended whole; empty if it was."""


class LogConnection:
    """A connection that can append. Opens in the constructor; only the sender's thread uses it.

    Args:
        url: where Redis listens, in any form that `broadcast.addresses` knows. Of several servers, the one that takes
            the stream is looked for anew for every connection.
        stream: the stream's key.
        channel: the pub/sub channel.
        producer: this producer's name.
        stream_events_max: MAXLEN where the log's hash names none.

    Raises:
        SettingError: the address is none.
        Exception: whatever redis-py raises for a refusal or a time-out.
    """

    def __init__(self, url: str, *, stream: str, channel: str, producer: str, stream_events_max: int) -> None:
        self._script = prepare()
        import redis

        from broadcast.discovery import locate

        self.is_replaced = False
        """Whether Sentinels name another server by now; told only while it is watched."""
        self._response_error = redis.ResponseError
        self._address = parse_address(url)
        self._server_url = locate(self._address, stream)
        self._watch: Watch | None = None
        self._connection: Any = _connection(self._server_url)
        self._keys = (
            stream,
            f"{{{stream}}}:log",
            f"{{{stream}}}:producer:{producer}",
            f"{{{stream}}}:presence",
        )
        self._head = (producer, channel, stream_events_max)
        self._script_sha = b""
        self._opened: tuple[int, int] | None = None
        try:
            self._connection.connect()
            self._opened = self._descriptor()
            # An account that may only append is refused this: the name is a courtesy to CLIENT LIST.
            with contextlib.suppress(self._response_error):
                self._call("CLIENT", "SETNAME", "broadcast-emitter")
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        self._script_sha = self._call("SCRIPT", "LOAD", self._script)

    def _call(self, *arguments: Any) -> Any:
        self._connection.send_command(*arguments, check_health=False)
        return self._connection.read_response(disable_decoding=True)

    def append(self, batch: Batch, *, epoch_if_none: str) -> AppendReply:
        """Append a batch, or ask with an empty one how far Redis is.

        Raises:
            Exception: whatever redis-py raises; what Redis has done by then, the next reply tells.
        """
        if self._descriptor() != self._opened:
            raise ConnectionError("the host closed the connection's descriptor")
        producer, channel, maxlen = self._head
        arguments = (producer, batch.first, channel, maxlen, epoch_if_none, PRODUCER_TTL_MS, batch.after)
        try:
            reply = self._run_script(arguments, batch.payloads)
        except self._response_error as error:
            if "NOSCRIPT" not in str(error) and "No matching script" not in str(error):
                raise
            self._load()
            reply = self._run_script(arguments, batch.payloads)
        stored, epoch, unpublished, failure = reply
        return AppendReply(int(stored), epoch.decode(), int(unpublished), failure.decode("utf-8", "replace"))

    def _run_script(self, arguments: tuple[str | int, ...], payloads: tuple[bytes, ...]) -> Any:
        command = packed(("EVALSHA", self._script_sha, len(self._keys), *self._keys, *arguments), payloads)
        self._connection.send_packed_command([command], check_health=False)
        return self._connection.read_response(disable_decoding=True)

    def watch(self, wake: Callable[[], None]) -> None:
        """From now on notice within a second or so, in another thread, when Sentinels name another server.

        Args:
            wake: called in that thread, after `is_replaced` is set.
        """
        from broadcast.discovery import Watch

        def replaced() -> None:
            self.is_replaced = True
            wake()

        if self._address.kind == "sentinel":
            self._watch = Watch(self._address, self._server_url, replaced)

    def _descriptor(self) -> tuple[int, int] | None:
        """Which file our descriptor is: a host that turns into a daemon closes it, and its number becomes another's."""
        try:
            status = os.fstat(self._connection._sock.fileno())
        except (OSError, AttributeError):
            return None
        return status.st_dev, status.st_ino

    def take_leave(self) -> None:
        """Mark this producer as gone, if it is marked at all: the bridges need not wait until it is missed.

        Raises:
            Exception: whatever redis-py raises; it is missed all the same.
        """
        self._call("ZADD", self._keys[3], "XX", 0, self._head[0])

    def close(self) -> None:
        """Close the socket; never raises."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        try:
            if self._opened and self._descriptor() != self._opened:
                self._connection._sock.detach()  # what has this number now is not ours to shut down
            self._connection.disconnect()
        except Exception:  # noqa: BLE001 - a broken connection may fail in any way while it is being closed
            return


@cache
def prepare() -> str:
    """Import redis-py with all it imports later by itself, and read the script.

    In the sender's thread, inside `LateImports`: redis-py pulls in asyncio and ssl, 60 ms that emit() must not pay.
    """
    _import_thread_pools()
    import encodings.idna  # noqa: F401 - resolving a name does  # pyright: ignore[reportUnusedImport]
    from importlib.resources import files

    import redis.sentinel  # noqa: F401  # pyright: ignore[reportUnusedImport]

    import broadcast.discovery  # noqa: F401  # pyright: ignore[reportUnusedImport]

    _connection("redis://localhost")  # not opened; its making imports the rest
    return (files(__package__ or "broadcast.emitter") / "append.lua").read_text("utf-8")


def _do_nothing(*_: object) -> None:
    pass


def _import_thread_pools() -> None:
    """Import what redis-py imports with the rest, even while the interpreter is leaving.

    The module registers itself for the exit of threads, which is refused then; a program that ends soon after its
    first event would lose it. Nobody makes a pool any more by that time, so nothing need be registered.
    """
    with _pairs_registered_whole():
        try:
            import concurrent.futures.thread  # pyright: ignore[reportUnusedImport]
        except RuntimeError:
            import threading

            register = getattr(threading, "_register_atexit", None)
            setattr(threading, "_register_atexit", _do_nothing)  # noqa: B010 - it has no public name
            try:
                import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]
            finally:
                setattr(threading, "_register_atexit", register)  # noqa: B010


@contextlib.contextmanager
def _pairs_registered_whole() -> Generator[None]:
    """Let modules that are imported meanwhile (logging, thread pools) register hooks for forks that fit every fork.

    They take a lock before a fork and release it behind. A thread that is just forking has the first behind it and
    the second before it: it would release what nobody took, and Python would say so on the host's stderr.
    """
    register = os.register_at_fork

    def register_whole(
        *,
        before: Callable[[], object] = _do_nothing,
        after_in_child: Callable[[], object] = _do_nothing,
        after_in_parent: Callable[[], object] = _do_nothing,
    ) -> None:
        begun: set[int] = set()

        def begin() -> None:
            before()
            begun.add(get_ident())

        def end() -> None:
            if get_ident() in begun:
                begun.discard(get_ident())
                after_in_parent()

        register(before=begin, after_in_child=after_in_child, after_in_parent=end)

    setattr(os, "register_at_fork", register_whole)  # noqa: B010 - to the type checker it is a constant
    try:
        yield
    finally:
        setattr(os, "register_at_fork", register)  # noqa: B010


def _connection(url: str) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "protocol": 2,  # RESP3 adds a handshake and push messages, for nothing this connection reads
        "socket_timeout": SOCKET_TIMEOUT_S,
        # redis-py would send a batch again by itself, 10 times, with sleeps nobody can interrupt.
        "retry": Retry(NoBackoff(), 0),
    }
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": SOCKET_TIMEOUT_S, "socket_keepalive": True}
    pool: Any = redis.ConnectionPool
    return pool.from_url(url, **options).make_connection()
