"""The slowest of a thousand calls of `emit()`, in every state in which Redis can be, beside the idle case.

The idle case is the same `emit()`, at the same pace, in a process where nothing else is going on: its sender never
started, so there is no second thread, no connection and no Redis. What is left is the call itself and the machine.
That is the hardest case to be compared with: every microsecond that the sender takes from its host counts against
the others. The floor, which is not even ours, stands beside it and shows what the machine does by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import holes
from benchmarks.caller import Times, ask
from benchmarks.figures import Figure, Table, median, shown_s, three_digits
from benchmarks.machine import describe
from broadcast.embedded import PrivateValkey

ROUNDS = 5
BURST_CALLS = 40_000
PACED_CALLS = 4_000
IDLE_MAX = 3.0
PACES = {"bursts": "back to back", "paced": "one each ms"}


@dataclass(frozen=True, slots=True)
class State:
    """One state, and who measures it where."""

    name: str
    peer: str
    where: str


STATES = (
    State("floor: orjson.dumps + deque.append", "Floor", "up"),
    State("idle: no sender, no Redis", "EmitIdle", "up"),
    State("Redis up", "Emit", "up"),
    State("refused", "EmitAway", "refused"),
    State("black hole: SYN dropped", "EmitAway", "dropped"),
    State("black hole: accepted, never answered", "EmitAway", "silent"),
    State("SIGSTOPped while connected", "EmitStopped", "own"),
    State("100,000 buffered events drain", "EmitDraining", "own"),
)
ROOMY = {"BROADCAST_BUFFER_EVENTS_MAX": "1000000", "BROADCAST_BUFFER_BYTES_MAX": str(2**30)}


def run(redis_url: str) -> Table:
    rounds: dict[str, dict[str, list[Times]]] = {pace: {each.name: [] for each in STATES} for pace in PACES}
    with _addresses(redis_url) as (urls, pid), _going_on(pid):
        for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
            for state in STATES:
                variables = ROOMY if state.peer == "EmitDraining" else {}
                found = ask(
                    state.peer,
                    urls[state.where],
                    bursts=BURST_CALLS,
                    paced=PACED_CALLS,
                    server_pid=pid,
                    **variables,
                )
                os.kill(pid, signal.SIGCONT)
                for pace, times in found.items():
                    rounds[pace][state.name].append(times)
    figures = [_figure(state, rounds[pace], pace) for pace in PACES for state in STATES]
    title = "latency: p99.9 of emit() on the caller's thread, median of rounds"
    return Table(title=title, versions=describe("orjson", "redis"), figures=figures)


@contextlib.contextmanager
def _addresses(redis_url: str) -> Iterator[tuple[dict[str, str], int]]:
    with (
        holes.refusing() as refused,
        holes.dropping() as dropped,
        holes.silent() as silent,
        tempfile.TemporaryDirectory() as folder,
    ):
        own = PrivateValkey(Path(folder))  # to be stopped, which the shared one is not
        own.start()
        try:
            urls = {"up": redis_url, "refused": refused, "dropped": dropped, "silent": silent, "own": own.url}
            assert own.pid is not None
            yield urls, own.pid
        finally:
            own.stop()


@contextlib.contextmanager
def _going_on(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)  # a stopped server would not see SIGTERM


def _figure(state: State, rounds: dict[str, list[Times]], pace: str) -> Figure:
    times = rounds[state.name]
    p999_s = [each.p999_s for each in times]
    idle_s = median([each.p999_s for each in rounds[STATES[1].name]])
    ratio = median(p999_s) / idle_s
    measured = f"{shown_s(median(p999_s))} = {three_digits(ratio)} × idle; {_beside(times, pace)}"
    name = f"{state.name}; {PACES[pace]}"
    is_compared = state not in STATES[:2]
    return Figure(
        name=name,
        measured=measured,
        target=f"≤ {IDLE_MAX:.0f} × idle" if is_compared else "",
        reached=ratio <= IDLE_MAX if is_compared else None,
        rounds=p999_s,
        unit="s",
    )


def _beside(times: list[Times], pace: str) -> str:
    """What is worth knowing besides."""
    beside = f"p50 {shown_s(median([each.p50_s for each in times]))}, max {shown_s(max(each.max_s for each in times))}"
    late_s = median([each.late_p999_s for each in times])
    return f"{beside}, sleeps late by {shown_s(late_s)}" if pace == "paced" else beside
