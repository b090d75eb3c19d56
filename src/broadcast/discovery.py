"""Which server of several takes the stream just now: asked anew before every connection, never remembered.

A plain connection to that one server follows. When it stops being the right one it says so (READONLY, MOVED) or falls
silent; whoever uses it then drops it and asks here again. Only a master that Sentinels have replaced while it lives
says nothing: for some 8 s it goes on taking what will be thrown away. So it is watched.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from broadcast.addresses import Address

__all__ = ["Watch", "locate"]

ASK_TIMEOUT_S: Final = 1.0
WATCH_S: Final = 1.0
"""How long a replaced master may go unnoticed; the ledger keeps what it took for 5 s."""


def locate(address: Address, key: str) -> str:
    """The address of the server that takes writes to a key.

    Args:
        address: where to ask; one server is its own answer.
        key: the stream's key.

    Returns:
        An address as redis-py understands it.

    Raises:
        Exception: whatever redis-py raises when nobody answers; a ConnectionError names what was asked.
    """
    if address.kind == "server":
        return address.url
    return _master(address) if address.kind == "sentinel" else _node(address, key)


def _options() -> dict[str, Any]:
    # Imported by whoever connects: the emitter's calling thread never comes here.
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_timeout": ASK_TIMEOUT_S,
        "socket_connect_timeout": ASK_TIMEOUT_S,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }


def _master(address: Address) -> str:
    sentinels = _Sentinels(address)
    try:
        return sentinels.master()
    finally:
        sentinels.close()


class Watch:
    """Asks once a second, in a thread of its own, whether a server is still the one that Sentinels name.

    In a thread, because nobody may have to wait for a Sentinel that is slow, or for its name to be resolved. Where none
    can be started (at exit), the server is not watched.

    Args:
        address: of Sentinels; nothing else is watched.
        url: the server, as `locate` gave it.
        on_replaced: called in that thread, once, when another one is named.
    """

    def __init__(self, address: Address, url: str, on_replaced: Callable[[], object]) -> None:
        self._address, self._url, self._on_replaced = address, url, on_replaced
        # Acquired while it watches; a raw lock like the sender's.
        self._ended = allocate_lock()
        self._ended.acquire()
        if address.kind == "sentinel":
            try:
                start_new_thread(self._run, ())
            except RuntimeError:
                return

    def end(self) -> None:
        """Watch no more; does not wait. To be called once."""
        self._ended.release()

    def _run(self) -> None:
        try:
            sentinels = _Sentinels(self._address)
            try:
                while not self._ended.acquire(timeout=WATCH_S):
                    if self._is_replaced(sentinels):
                        self._on_replaced()
                        return
            finally:
                sentinels.close()
        except Exception:  # noqa: BLE001 - it would be printed; without a watch the server's own word has to do
            return

    def _is_replaced(self, sentinels: _Sentinels) -> bool:
        try:
            return sentinels.master() != self._url
        except Exception:  # noqa: BLE001 - nobody to ask just now: no reason to leave
            return False


class _Sentinels:
    """Asked in turn until one names the master; that one is asked first the next time, on the same connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._each = deque(_Sentinel(address, host, port) for host, port in address.hosts)

    def master(self) -> str:
        from redis import RedisError
        from redis.sentinel import MasterNotFoundError

        failures: list[str] = []
        for sentinel in list(self._each):
            try:
                named = sentinel.master()
            except (RedisError, OSError) as error:
                failures.append(f"{sentinel.place} says {type(error).__name__}: {error}")
            else:
                if named:
                    return self._address.server_url(_text(named[0]), int(named[1]))
                failures.append(f"{sentinel.place} does not know it")
            self._each.rotate(-1)
        raise MasterNotFoundError(f"No master found for {self._address.service!r}: {'; '.join(failures)}")

    def close(self) -> None:
        for sentinel in self._each:
            sentinel.close()


class _Sentinel:
    """One of them, and a connection to it, which is kept."""

    def __init__(self, address: Address, host: str, port: int) -> None:
        import redis

        self.place = f"{host}:{port}"
        self._service = address.service
        pool: Any = redis.ConnectionPool
        self._connection: Any = pool.from_url(address.sentinel_url(host, port), **_options()).make_connection()
        self._opened: tuple[int, int] | None = None

    def master(self) -> list[Any] | None:
        if self._opened is None or self._descriptor() != self._opened:
            self.close()
            self._connection.connect()
            self._opened = self._descriptor()
        self._connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service, check_health=False)
        named: list[Any] | None = self._connection.read_response()
        return named

    def close(self) -> None:
        if self._opened and self._connection._sock is not None and self._descriptor() != self._opened:
            self._connection._sock.detach()  # what has this number now is not ours to shut down
        self._opened = None
        self._connection.disconnect()

    def _descriptor(self) -> tuple[int, int] | None:
        """Which file our descriptor is: a host that turns into a daemon closes it, and its number becomes another's."""
        try:
            status = os.fstat(self._connection._sock.fileno())
        except (OSError, AttributeError):
            return None
        return status.st_dev, status.st_ino


def _node(address: Address, key: str) -> str:
    """Ask the nodes in turn, as far as they answer, who holds the key's slot."""
    import redis

    failure: Exception = redis.ConnectionError("no node of the cluster was asked")
    for host, port in address.hosts:
        client: Any = redis.Redis.from_url(address.server_url(host, port), **_options())  # pyright: ignore
        try:
            slot = int(client.execute_command("CLUSTER KEYSLOT", key))
            for first, last, holder, *_ in _slots(client):
                if first <= slot <= last:
                    # A node that does not know its own name yet says nothing: it means itself.
                    return address.server_url(holder[0] or host, holder[1])
            failure = redis.ConnectionError(f"slot {slot} of {key} is held by no node")
        except (redis.RedisError, OSError) as error:
            failure = error
        finally:
            client.close()
    raise failure


def _slots(client: Any) -> list[tuple[int, int, tuple[str, int]]]:
    client.response_callbacks.pop("CLUSTER SLOTS", None)
    rows: list[Any] = client.execute_command("CLUSTER SLOTS")
    return [(int(row[0]), int(row[1]), (_text(row[2][0]), int(row[2][1]))) for row in rows]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
