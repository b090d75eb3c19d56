"""The end of a child process: in good order, and with force if that takes too long."""

from __future__ import annotations

import signal
import subprocess

__all__ = ["stop_process"]


def stop_process(process: subprocess.Popen[bytes], *, timeout_s: float, number: int = signal.SIGTERM) -> None:
    """End a child in good order, and with force if that takes too long; one that has ended is left alone.

    Args:
        process: the child.
        timeout_s: how long it may take after the signal, seconds.
        number: the signal that it takes for the good order.
    """
    if process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
