"""`broadcast serve` with some of its constants changed: what takes half a minute then takes a second.

    python -m tests.altered_bridge '{"cursor.PATIENCE_S": 1}'

No setting of the product changes these: nobody but a test has a reason to. On SIGUSR1 it prints how many objects and
tasks there are.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from functools import partial
from importlib import import_module
from typing import Any

from broadcast.bridge.engine import engine
from broadcast.bridge.engine.session import Limits
from broadcast.cli import main

LIMITS = "engine.session.Limits."


def alter(constants: dict[str, Any]) -> None:
    limits = {name.removeprefix(LIMITS): value for name, value in constants.items() if name.startswith(LIMITS)}
    setattr(engine, "Limits", partial(Limits, **limits))  # noqa: B010 - a name that the module does not export
    for path, value in constants.items():
        if not path.startswith(LIMITS):
            module, _, name = path.rpartition(".")
            holder = import_module(f"broadcast.bridge.{module}")
            assert isinstance(getattr(holder, name), int | float), path
            setattr(holder, name, float(value))


def print_counts(*_: object) -> None:
    gc.collect()
    ours = Counter(
        type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith("broadcast.")
    )
    counts = {"tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects()), "ours": ours}
    print(f"counts {json.dumps(counts)}", flush=True)


if __name__ == "__main__":
    alter(json.loads(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, print_counts)
    sys.argv.insert(1, "serve")
    main()
