"""Which server of several takes the stream just now: asked anew before every connection, never remembered.

A plain connection to that one server follows. When it stops being the right one it says so (READONLY, MOVED) or falls
silent; whoever uses it then drops it and asks here again.
"""

from __future__ import annotations

from typing import Any, Final

from broadcast.addresses import Address

__all__ = ["locate"]

ASK_TIMEOUT_S: Final = 1.0


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
    from redis.sentinel import Sentinel

    sentinels: Any = Sentinel(list(address.hosts), sentinel_kwargs=_options())  # pyright: ignore[reportUnknownVariableType]
    try:
        host, port = sentinels.discover_master(address.service)
    finally:
        for sentinel in sentinels.sentinels:
            sentinel.close()
    return address.server_url(str(host), int(port))


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
