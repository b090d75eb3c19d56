"""How emitting fares when the process forks or ends: every broadcaster is watched from its making on.

Rules:
1. A forked child makes everything anew and leaves the parent's buffer, thread and connection alone. The parent does
   nothing at a fork: whatever waits there has frozen somebody's program.
2. At exit, buffers are waited for, bounded, and silently. No signal handler is installed: SIGTERM's default action,
   SIGKILL and os._exit end the process with what was not yet sent.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from _thread import get_ident
from typing import Any, Final, Protocol

from broadcast.emitter.forkmark import FORK_MARK

__all__ = ["LateImports", "begin_anew_after_fork", "flush_before_child_exits", "watch"]

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

    def take_leave(self, timeout_s: float) -> None:
        """Say that nothing more is to be expected."""
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
            deadline_s = began_s + broadcaster.exit_timeout_s
            if broadcaster.flush(max(0.0, deadline_s - time.monotonic())):
                broadcaster.take_leave(max(0.0, deadline_s - time.monotonic()))
    except BaseException:  # noqa: BLE001 - Ctrl-C while leaving: leave at once, without a traceback
        return


def begin_anew_after_fork() -> None:
    """Let every broadcaster of this process begin anew. In a child, as soon as its fork is noticed."""
    try:
        _forget_half_imports()
        for broadcaster in list(_alive):
            broadcaster.begin_anew()
        FORK_MARK[0] = 1
    except Exception:  # noqa: BLE001 - it would be printed; the mark is still wiped, and the next event tries again
        return


class LateImports:
    """Around what a sender's thread imports: what is half imported at a fork, the child has to forget."""

    def __enter__(self) -> None:
        _importers.append(get_ident())

    def __exit__(self, *_: object) -> None:
        # Not there any more, if it was a fork's child that came here.
        if get_ident() in _importers:
            _importers.remove(get_ident())


def _forget_half_imports() -> None:
    """Let the child import anew what the parent's sender was importing: that thread is gone, and its locks are held."""
    importers = set(_importers)
    _importers.clear()
    if not importers:
        return
    locks: dict[str, Any] = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    half = {name for name, lock in list(locks.items()) if getattr(lock(), "owner", None) in importers}
    for name in half:
        del locks[name]
    for name in list(sys.modules):
        # With what lies in a half imported package: the package made anew would not know it.
        if any(name == each or name.startswith(f"{each}.") for each in half):
            del sys.modules[name]


_importers: list[int] = []
_alive: weakref.WeakSet[Watched] = weakref.WeakSet()
os.register_at_fork(after_in_child=begin_anew_after_fork)
# At import, so that it runs after the handlers of whoever imported this: what they emit is waited for.
atexit.register(_flush_all)
