"""What a process grows by in 10 million emits while Redis is down, and whether every dropped event is counted.

Small events fill the buffer by count, large ones (of many sizes, so that memory could fragment) by bytes. Growth is
taken from the moment at which the sender has imported redis-py and nothing was emitted but one event; its peak counts,
not its end. Flat means: behind the first tenth of the events, the peak grows by no more than a tenth of the bound.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import broadcast
from benchmarks.caller import ROOT
from benchmarks.environment import environment
from benchmarks.figures import Figure, Table, shown_s
from benchmarks.machine import describe
from benchmarks.peers import DATA, wait_for_imports
from benchmarks.places import refusing
from broadcast.settings import Settings

SMALL_EVENTS = 10_000_000
LARGE_EVENTS = 500_000
STEPS = 10
SLACK = 1.1
MIB = 1024 * 1024
LARGE_TEXT = "·" * 12_000


def run(redis_url: str) -> Table:
    del redis_url  # away is where none is
    figures: list[Figure] = []
    for kind, events in (("typical", SMALL_EVENTS), ("large", LARGE_EVENTS)):
        figures += _figures(kind, events)
    title = "memory: emits while Redis is down"
    return Table(title=title, versions=describe("orjson", "redis"), figures=figures)


def _figures(kind: str, events: int) -> list[Figure]:
    found = _emit_in_a_process(kind, events)
    bound = Settings().buffer_bytes_max
    peaks: list[int] = found["peaks"]
    grown, later = peaks[-1] - found["before"], peaks[-1] - peaks[0]
    dropped, expected = found["dropped"], events + 1 - found["buffered"]
    what = f"{events:,} {kind} events"
    small = Figure(
        name=f"{what}: memory grows by",
        measured=f"{grown / MIB:.1f} MiB, to {peaks[-1] / MIB:.0f} MiB",
        target=f"≤ bound + 10 % = {bound * SLACK / MIB:.1f} MiB",
        reached=grown <= bound * SLACK,
        rounds=[each / MIB for each in peaks],
        unit="MiB",
    )
    flat = Figure(
        name=f"{what}: of it behind the first tenth",
        measured=f"{later / MIB:.1f} MiB",
        target=f"flat: ≤ {bound * (SLACK - 1) / MIB:.1f} MiB",
        reached=later <= bound * (SLACK - 1),
    )
    exact = Figure(
        name=f"{what}: counted as dropped",
        measured=f"{dropped:,}, {found['buffered']:,} are left; {shown_s(found['call_s'])} each",
        target=f"exactly {expected:,}",
        reached=dropped == expected and found["emitted"] == events + 1,
    )
    return [small, flat, exact]


def _emit_in_a_process(kind: str, events: int) -> dict[str, Any]:
    with refusing() as refused_url:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", kind, str(events)],
            cwd=ROOT,
            env=environment(refused_url, BROADCAST_EXIT_TIMEOUT_S="0"),
            stdout=subprocess.PIPE,  # stderr is ours: progress
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _events(kind: str) -> Iterator[dict[str, str]]:
    if kind == "typical":
        return cycle([DATA])
    # 32 sizes from 0.1 to 18 KiB, in an order that is no order.
    return cycle([{**DATA, "text": LARGE_TEXT[: (i * 7919 % 32) * 290]} for i in range(32)])


def _peak() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def main(kind: str, events: int) -> None:
    import time

    broadcast.emit("warm.up")
    wait_for_imports()
    before = _peak()
    began_s = time.perf_counter()
    peaks: list[int] = []
    emit = broadcast.emit
    data = _events(kind)
    for step in range(STEPS):
        for each in islice(data, events // STEPS):
            emit("sense.project", each)
        peaks.append(_peak())
        if sys.stderr.isatty() or step == STEPS - 1:
            print(f"  … {(step + 1) * events // STEPS:,} {kind} events", file=sys.stderr, flush=True)
    call_s = (time.perf_counter() - began_s) / events
    stats = broadcast.stats()
    assert (stats.connects, stats.appended) == (0, 0)
    found = {
        "before": before,
        "peaks": peaks,
        "emitted": stats.emitted,
        "buffered": stats.buffered,
        "dropped": stats.dropped["buffer_full"],
        "call_s": call_s,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
