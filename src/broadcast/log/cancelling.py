"""Ending tasks for certain.

Before Python 3.12, `asyncio.wait_for`, which redis-py uses, may swallow a cancellation that comes just as it returns:
the task goes on as if nothing had been said. So a loop looks for it, and whoever ends a task repeats it until it ends.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

__all__ = ["end_tasks", "heed_cancellation"]

AGAIN_S: Final = 0.2


def heed_cancellation() -> None:
    """Look whether this task was told to end.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, again and again, until they have ended, however they do."""
    while left := {task for task in tasks if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody else complains of it
