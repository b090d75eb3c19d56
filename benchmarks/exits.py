"""How long leaving a process takes while events wait in the buffer, from the program's last line until it is gone.

Each program leaves with an exit code of its own, which must arrive, and must not say a word on stderr. The slowest
round counts, not the median: this is a bound.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.caller import ROOT
from benchmarks.environment import environment
from benchmarks.figures import Figure, Table, median, shown_s
from benchmarks.machine import describe
from benchmarks.places import everywhere
from broadcast.settings import Settings

ROUNDS = 5
EXIT_TIMEOUT_S = Settings().exit_timeout_s
SLACK_S = 0.5
EVENTS = 1_000
# The clock is the system's, the same in both processes.
PROGRAM = """
import os, signal, sys, time
import broadcast
code, events, pid = map(int, sys.argv[1:])
broadcast.emit("first")
if pid:
    assert broadcast.flush(10)
    os.kill(pid, signal.SIGSTOP)
else:
    time.sleep(0.3)  # the sender is under way
for i in range(events):
    broadcast.emit("sense.project", {"i": i})
print(time.monotonic(), flush=True)
sys.exit(code)
"""
NAMES = {
    "up": "Redis up",
    "refused": "refused",
    "dropped": "black hole: SYN dropped",
    "silent": "black hole: accepted, never answered",
    "own": "SIGSTOPped while connected",
}


def run(redis_url: str) -> Table:
    took: dict[str, list[float]] = {where: [] for where in NAMES}
    wrongs: dict[str, list[str]] = {where: [] for where in NAMES}
    with everywhere(redis_url) as places:
        for number in range(ROUNDS):
            for where, url in places.urls.items():
                took_s, wrong = _leave(url, code=number % 3, pid=places.own_pid if where == "own" else 0)
                places.let_go_on()
                took[where].append(took_s)
                wrongs[where] += wrong
    figures = [_figure(where, took[where], wrongs[where]) for where in NAMES]
    title = (
        f"exits: leaving with {EVENTS:,} events in the buffer, flush timeout {shown_s(EXIT_TIMEOUT_S)}, slowest round"
    )
    return Table(title=title, versions=describe("redis"), figures=figures)


def _leave(url: str, *, code: int, pid: int) -> tuple[float, list[str]]:
    """How long a program took to be gone, and what was wrong with how it went."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(code), str(EVENTS), str(pid)],
        cwd=ROOT,
        env=environment(url, BROADCAST_EXIT_TIMEOUT_S=str(EXIT_TIMEOUT_S)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=EXIT_TIMEOUT_S + 60)
    took_s = time.monotonic() - float(out or "nan")
    wrong = [f"code {process.returncode} in place of {code}"] if process.returncode != code else []
    return took_s, wrong + ([f"stderr {err[-200:]!r}"] if err else [])


def _figure(where: str, took: list[float], wrong: list[str]) -> Figure:
    slowest_s, max_s = max(took), EXIT_TIMEOUT_S + SLACK_S
    went = "; ".join(wrong) or "codes kept, stderr empty"
    return Figure(
        name=NAMES[where],
        measured=f"{shown_s(slowest_s)} (median {shown_s(median(took))}); {went}",
        target=f"≤ {shown_s(max_s)}, codes kept, stderr empty",
        reached=slowest_s <= max_s and not wrong,
        rounds=took,
        unit="s",
    )
