"""Signals end a command between two steps of it, never in the middle of one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

__all__ = ["CUT_OFF", "ending_signals", "run_until_signalled"]

CANCEL_AGAIN_S: Final = 0.1
CUT_OFF: Final = 143
"""The exit code after SIGTERM, as shells have it, of a command that has not done what it was to do."""


def ending_signals() -> tuple[signal.Signals, ...]:
    """What ends a command: Ctrl-C, SIGTERM, and the terminal that closes, unless `nohup` has said not to mind that."""
    ends = (signal.SIGTERM, signal.SIGINT)
    return ends if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*ends, signal.SIGHUP)


def run_until_signalled(main: Coroutine[Any, Any, None]) -> int:
    """Run a coroutine to its end, or until a signal that ends a command cancels it.

    An exception that a signal handler raises inside asyncio or redis-py may be swallowed there; a cancelled task is
    not.

    Args:
        main: what to run; it may clean up in `finally`.

    Returns:
        The exit code: 130 after SIGINT, else 0.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in ending_signals()}
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)

        def cancel() -> None:
            # Again until it is done: before Python 3.12, `asyncio.wait_for` may swallow a cancellation.
            if not task.done():
                task.cancel()
                loop.call_later(CANCEL_AGAIN_S, cancel)

        def stop(number: int) -> None:
            received.append(number)
            cancel()

        for number in before:
            loop.add_signal_handler(number, stop, number)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            if not received:
                raise
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                # Whoever called may have to end something in good order: another signal must not kill it here.
                signal.signal(number, handler)
    return 130 if signal.SIGINT in received else 0
