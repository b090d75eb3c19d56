"""`GET /clients`: who is connected, and what has arrived there."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from broadcast.bridge.access import is_loopback
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.proxies import SILENT, is_proxied
from broadcast.bridge.viewer import Viewer
from broadcast.log.position import Position

__all__ = ["Trace", "is_local"]

GONE_MAX: Final = 256


class Trace:
    """What can be said of the viewers; no event content.

    Args:
        fanout: the log as this bridge has it, and its viewers.
    """

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._gone: deque[dict[str, Any]] = deque(maxlen=GONE_MAX)

    def note_gone(self, viewer: Viewer, *, now_s: float) -> dict[str, Any]:
        """Keep how a viewer's connection ended; the newest ones are kept."""
        end = {"how": viewer.ended.name if viewer.ended else "left", "reason": viewer.left}
        described = {**self._described(viewer, now_s), **end}
        del described["state"]
        self._gone.append(described)
        return described

    def answer(self, *, now_s: float) -> dict[str, Any]:
        """All of it.

        Args:
            now_s: the event loop's clock.
        """
        head, beat = self._fanout.head, self._fanout.beat
        return {
            "head": _place(head),
            "beat_ms": round(beat.interval_s * 1000, 1),
            "rounds": self._fanout.rounds,
            "clients": [self._described(viewer, now_s) for viewer in tuple(self._fanout.viewers)],
            "gone": list(self._gone),
        }

    def _described(self, viewer: Viewer, now_s: float) -> dict[str, Any]:
        return {
            **viewer.connection.describe(),
            "subject": viewer.grant.subject,
            "types": list(viewer.wanted.patterns),
            "state": "live" if viewer.live_in is not None else "catching up",
            "position": _place(viewer.place),
            "lag": self._lag(viewer),
            "waiting_bytes": viewer.connection.waiting_bytes,
            "sent": viewer.sent,
            "confirmed": None if viewer.confirmed is None else _place(viewer.confirmed),
            "gaps": viewer.gaps,
            "connected_s": round(now_s - viewer.came_s, 1),
        }

    def _lag(self, viewer: Viewer) -> int:
        n, head_n = viewer.place.n, self._fanout.head.n
        return self._fanout.ring.end - viewer.at if n is None or head_n is None else head_n - n


def _place(position: Position) -> dict[str, Any]:
    return {"id": str(position.id), "n": position.n}


def is_local(address: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine itself, and not through a proxy on it.

    Args:
        address: the other side's.
        headers: the request's.
    """
    if is_proxied(headers):
        return False
    try:
        is_near = ipaddress.ip_address(address.removesuffix(SILENT)).is_loopback
    except ValueError:
        is_near = not address  # a Unix socket has none
    host = headers.get("host", "")
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return is_near and is_loopback(name)
