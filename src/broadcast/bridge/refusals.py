"""What this bridge refuses: each refusal is counted under its code, and the log tells where some of them came from."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import structlog

from broadcast.errors import Code

__all__ = ["LINES_MAX", "Refusals"]

PERIOD_S: Final = 10.0
LINES_MAX: Final = 20
"""So many lines the log has in each period, so that a flood of refusals fills no disk; how many more there were, it has
in one line."""
TRIES: Final = frozenset({"unauthorized", "expired", "revoked", "forbidden"})
"""Whoever meets one of these may be trying tokens: the log tells from where."""

_log: Any = structlog.get_logger("broadcast.bridge")


class Refusals:
    """All of them, of handshakes and of requests, over whatever transport."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        """How many there were, by code."""
        self._lines = 0

    def count(self, code: Code) -> None:
        """Somebody was refused something."""
        self.counted[code.name] += 1

    def count_request(self, code: Code, *, address: str, transport: str) -> None:
        """As `count`, of a request that has a grant or wanted one: the log tells of it where its token was at fault."""
        self.count(code)
        if code.name in TRIES:
            self._tell(_log.warning, "refused", code=code.name, address=address, transport=transport)

    def turn_away(self, code: Code, *, address: str, transport: str) -> None:
        """As `count`, of a handshake: nothing else will ever be told of who sent it."""
        self.count(code)
        self._tell(_log.warning, "refused", code=code.name, address=address, transport=transport)

    def tell_gone(self, how: str, reason: str, *, address: str, transport: str) -> None:
        """A connection is gone that never was a viewer's; refused or not, nothing else tells of it."""
        self._tell(_log.info, "connection gone", how=how, reason=reason, address=address, transport=transport)

    def tell_left_out(self) -> None:
        """A period has ended: tell how many lines were left out in it."""
        left_out, self._lines = self._lines - LINES_MAX, 0
        if left_out > 0:
            _log.warning("more were refused, or gone", left_out=left_out)

    def _tell(self, log: Callable[..., None], event: str, **about: str) -> None:
        # What was asked for is not told: a token may stand in any field.
        if not self._lines:
            asyncio.get_running_loop().call_later(PERIOD_S, self.tell_left_out)
        self._lines += 1
        if self._lines <= LINES_MAX:
            log(event, **about)
