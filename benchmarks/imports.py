"""What `import broadcast` adds to the start of a program, beside `import orjson`, which it needs.

Whole processes are timed, from start to end, in interleaved pairs; what counts is the median of the pairs' differences.
On a busy machine all of it takes longer, and so does the difference. A fifth of it is `typing`, a sixth the settings, a
tenth `threading` (which has to be there before the sender's thread, see `broadcast/__init__.py`); the rest are twenty
small modules.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.environment import environment
from benchmarks.figures import Figure, Table, median, shown_s
from benchmarks.machine import describe

PAIRS = 30
EXTRA_MAX_S = 0.015
UNWANTED = ("redis", "asyncio")


def run(redis_url: str) -> Table:
    del redis_url  # nothing is emitted
    for module in ("orjson", "broadcast"):
        _start_s(f"import {module}")  # writes the byte code
    pairs = [(_start_s("import broadcast"), _start_s("import orjson")) for _ in range(PAIRS)]
    extra = [ours - theirs for ours, theirs in pairs]
    extra_s = median(extra)
    cost = Figure(
        name="import broadcast, beyond import orjson",
        measured=f"{shown_s(extra_s)} ({shown_s(median([each[0] for each in pairs]))} the whole process)",
        target=f"≤ {shown_s(EXTRA_MAX_S)}",
        reached=extra_s <= EXTRA_MAX_S,
        rounds=extra,
        unit="s",
    )
    loaded = _loaded()
    lean = Figure(
        name=f"loaded of {', '.join(UNWANTED)}",
        measured=", ".join(loaded) or "none",
        target="none",
        reached=not loaded,
    )
    title = f"imports: process with `import broadcast` and with `import orjson`, {PAIRS} pairs"
    return Table(title=title, versions=describe("orjson"), figures=[cost, lean])


def _start_s(code: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment(""), check=True)
    return time.perf_counter() - began_s


def _loaded() -> list[str]:
    code = f"import sys, broadcast; print(*(each for each in {UNWANTED!r} if each in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(""), capture_output=True, text=True, check=True)
    return done.stdout.split()
