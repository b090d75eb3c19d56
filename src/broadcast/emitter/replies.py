"""What a failing Redis means for the batch in hand: wait, or give up one event. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["is_elsewhere", "is_transient"]

# States of the server, the account or a key: the same batch is accepted once somebody has repaired them.
_STATES: Final = (
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
)
_STATE_TEXTS: Final = (
    "unknown command",
    "exhausted the last possible ID",
    "permission",
    "ACL failure",
    "user executing the script",  # how Redis 7 words a missing permission
)


def is_transient(error: str) -> bool:
    """Whether the batch should be kept and tried again.

    Args:
        error: an error reply of Redis, as the server or redis-py words it (the latter drops some prefixes).
    """
    words = error.removeprefix("ERR ").split(None, 1)
    if not words or words[0] in _STATES:
        return True
    known_without_prefix = ("OOM", "read only", "loading", "NOSCRIPT", "WRONGTYPE", "against a key holding")
    return any(text in error for text in (*_STATE_TEXTS, *known_without_prefix))


def is_elsewhere(error: str) -> bool:
    """Whether another server takes the writes now, so that this connection leads nowhere.

    Args:
        error: an error as a call inside the script words it; as a reply of its own it ends the connection anyway.
    """
    words = error.removeprefix("ERR ").split(None, 1)
    return bool(words) and words[0].lstrip("-") in ("ASK", "CLUSTERDOWN", "MASTERDOWN", "MOVED", "READONLY")
