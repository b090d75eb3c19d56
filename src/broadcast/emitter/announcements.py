"""What a producer says about itself in the log: its name, events it had to drop, events that its limits withheld."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from broadcast.emitter.buffer import Loss

if TYPE_CHECKING:
    from broadcast.emitter.limits import Withheld

__all__ = ["announcement", "producer_name"]


def producer_name() -> str:
    """A name that no other process has had or will have: `host-pid-random`."""
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in os.uname().nodename)[:64]
    return f"{host}-{os.getpid()}-{os.urandom(4).hex()}"


def announcement(what: Loss | Withheld, producer: str) -> tuple[str, dict[str, Any]]:
    """The type and the data of the event that tells of it.

    Args:
        what: what happened to some events.
        producer: whose they were.
    """
    if isinstance(what, Loss):
        span = {"first_ts": _ts_of(what.first), "last_ts": _ts_of(what.last)}
        return "broadcast.lost", {"count": what.events, "reason": what.reason, **span, "producer": producer}
    span = {"first_ts": what.first_ts, "last_ts": what.last_ts}
    return "broadcast.limited", {"withheld": what.counts, **span, "producer": producer}


def _ts_of(payload: bytes | None) -> str | None:
    if payload is None:
        return None
    # A quotation mark inside a JSON text stands behind a backslash, so this can only be the field itself.
    at = payload.find(b',"ts":"') + 7
    return payload[at : at + 24].decode("ascii", "replace")
