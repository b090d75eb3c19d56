"""What `broadcast up` does where a part of the whole ends by itself.

Rules:
1. A private server is started again, a few times in a row.
2. Without bridge, mind or Valkey the whole ends; without the archive the rest goes on. Either is said, with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from broadcast.cli.children import Child

__all__ = ["Server", "Watch"]

LOOK_S: Final = 0.3
RESTARTS_MAX: Final = 5
RESTART_PAUSE_S: Final = 1.0
"""The children of a PostgreSQL that was killed hold its memory for a moment, and a new one does not start meanwhile."""
LIVED_S: Final = 60.0
"""What has run for so long was not in vain: its restarts are counted anew."""


class Server(Protocol):
    """A private server."""

    @property
    def pid(self) -> int | None:
        """Its process, None if it does not run."""
        ...

    @property
    def log_path(self) -> Path:
        """What it says."""
        ...

    def restart(self) -> None:
        """Begin to start it again."""
        ...


@dataclass(slots=True)
class _Kept:
    name: str
    server: Server
    is_needed: bool
    restarts: int = 0
    began_s: float = 0.0


class Watch:
    """Looks after the parts of one `broadcast up`.

    Args:
        say: told in a sentence what ended while the rest goes on.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Child] = []
        self._kept: list[_Kept] = []

    def add(self, child: Child) -> None:
        """Look after a child, too."""
        self._children.append(child)

    def keep(self, name: str, server: Server, *, is_needed: bool) -> None:
        """Start a server again where it ends.

        Args:
            name: what it is called.
            server: one that answers now.
            is_needed: whether the whole ends where that does not help.
        """
        self._kept.append(_Kept(name, server, is_needed, began_s=time.monotonic()))

    async def run(self) -> str:
        """Look until a part has ended without which the others are nothing; what is to be said of it."""
        while True:
            for child in [child for child in self._children if child.process.poll() is not None]:
                if child.is_needed:
                    return f"{child.last_words()}; everything is stopped"
                self._children.remove(child)
                self._say(f"{child.last_words()}; the rest goes on without it")
            for kept in [kept for kept in self._kept if kept.server.pid is None]:
                if said := self._revive(kept, time.monotonic()):
                    return said
            await asyncio.sleep(LOOK_S)

    def _revive(self, kept: _Kept, now_s: float) -> str:
        """Start a server again; what is to be said where everything has to end."""
        ran_s = now_s - kept.began_s
        if ran_s >= LIVED_S:
            kept.restarts = 0
        elif kept.restarts and ran_s < RESTART_PAUSE_S:
            return ""
        where = f"its log: {kept.server.log_path}"
        if kept.restarts >= RESTARTS_MAX:
            self._kept.remove(kept)
            said = f"{kept.name} has ended by itself {RESTARTS_MAX + 1} times, {where}"
            if kept.is_needed:
                return f"{said}; everything is stopped"
            self._say(f"{said}; the rest goes on without it")
            return ""
        kept.restarts += 1
        kept.began_s = now_s
        self._say(f"{kept.name} has ended by itself and is started again, {where}")
        with contextlib.suppress(OSError):  # its program is gone, say: it counts as an end like any other
            kept.server.restart()
        return ""
