"""How emitting fares when the process forks or ends: every broadcaster is watched from its making on.

Rules:
1. A forked child makes everything anew and leaves the parent's buffer, thread and connection alone.
2. At exit, buffers are waited for, bounded, and silently. No signal handler is installed: SIGTERM's default action,
   SIGKILL and os._exit end the process with what was not yet sent.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from typing import Final, Protocol

__all__ = ["flush_before_child_exits", "watch"]

FORK_WAIT_MAX_S: Final = 1.0
"""The longest that a fork waits for an import; it can only wait in the first moments after the first event."""
EXIT_PRIORITY: Final = -100
"""In a child of multiprocessing: after everything that may still emit."""


class Watched(Protocol):
    """What is done with a broadcaster when its process forks or ends."""

    @property
    def exit_timeout_s(self) -> float:
        """The longest that it waits at exit."""
        ...

    def begin_anew(self) -> None:
        """Replace everything that belongs to the parent."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait for what was emitted."""
        ...


def watch(broadcaster: Watched) -> None:
    """Let it know of forks, and wait for it at exit. It may be collected all the same."""
    _alive.add(broadcaster)


def flush_before_child_exits() -> None:
    """To be called in each process at its first event: a forked child of multiprocessing runs no atexit.

    What multiprocessing runs instead is forgotten at a fork, so it has to be registered in the child itself.
    """
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _flush_all, exitpriority=EXIT_PRIORITY)


def _flush_all() -> None:
    """Wait for the buffers, all of them together no longer than the most patient."""
    try:
        began_s = time.monotonic()
        for broadcaster in list(_alive):
            # The sender is not stopped: what atexit handlers before this module's own emit may still find its way.
            broadcaster.flush(max(0.0, broadcaster.exit_timeout_s - (time.monotonic() - began_s)))
    except BaseException:  # noqa: BLE001 - Ctrl-C while leaving: leave at once, without a traceback
        return


def _before_fork() -> None:
    """Let the sender's thread finish its imports: what is half imported at the fork, the child can never import."""
    connection = sys.modules.get("broadcast.emitter.connection")
    until_s = time.monotonic() + FORK_WAIT_MAX_S
    while connection is not None and connection.importing and time.monotonic() < until_s:
        time.sleep(0.001)


def _after_fork_in_child() -> None:
    try:
        for broadcaster in list(_alive):
            broadcaster.begin_anew()
    except Exception:  # noqa: BLE001 - it would be printed; the pid check in emit() tries again
        return


_alive: weakref.WeakSet[Watched] = weakref.WeakSet()
os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
# At import, so that it runs after the handlers of whoever imported this: what they emit is waited for.
atexit.register(_flush_all)
