"""A child of `broadcast up` that ends in good order when `up` is gone, however that was ended.

    python -m broadcast.cli.lifeline -m broadcast serve …
    python -m broadcast.cli.lifeline examples/mind …

runs what `python` itself would run, and takes standard input for its lifeline: the other end of that pipe is `up`'s
alone, and the kernel closes it with `up`, also after kill -9.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

__all__ = ["CHILD_STOP_S", "main"]

CHILD_STOP_S: Final = 10.0
"""So long a child may take to end in good order."""


def main() -> None:
    """Run a module or a folder, as the command line says."""
    threading.Thread(target=_follow, name="lifeline", daemon=True).start()
    _, *arguments = sys.argv
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _follow() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(CHILD_STOP_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
