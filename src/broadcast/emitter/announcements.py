"""What a producer says about itself in the log: events it had to drop, events that its limits withheld. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadcast.emitter.buffer import Loss

if TYPE_CHECKING:
    from broadcast.emitter.limits import Withheld

__all__ = ["announcement"]


def announcement(what: Loss | Withheld, producer: str) -> tuple[str, dict[str, Any]]:
    """The type and the data of the event that tells of it.

    Args:
        what: what happened to some events.
        producer: whose they were.
    """
    if isinstance(what, Loss):
        span = {"first_ts": _ts_of(what.first), "last_ts": _ts_of(what.last)}
        return "broadcast.lost", {"count": what.count, "reason": what.reason, **span, "producer": producer}
    span = {"first_ts": what.first_ts, "last_ts": what.last_ts}
    return "broadcast.limited", {"withheld": what.counts, **span, "producer": producer}


def _ts_of(payload: bytes | None) -> str | None:
    if payload is None:
        return None
    # A quotation mark inside a JSON text stands behind a backslash, so this can only be the field itself.
    at = payload.find(b',"ts":"') + 7
    return payload[at : at + 24].decode("ascii", "replace")
