"""The slowest of a thousand calls of `emit()`, in every state in which Redis can be, beside the idle case.

The idle case is the same `emit()`, at the same pace, in a process where nothing else is going on: its sender never
started, so there is no second thread, no connection and no Redis. What is left is the call itself and the machine.
That is the hardest case to be compared with: every microsecond that the sender takes from its host counts against
the others. The floor, which is not even ours, stands beside it and shows what the machine does by itself.

A busy machine makes the idle case slow and every ratio small: if the idle rounds differ by more than the factor that
is allowed, nothing is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.caller import Times, ask
from benchmarks.figures import Figure, Table, median, shown_s, three_digits
from benchmarks.machine import describe
from benchmarks.places import everywhere

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
    with everywhere(redis_url) as places:
        for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
            for state in STATES:
                variables = ROOMY if state.peer == "EmitDraining" else {}
                found = ask(
                    state.peer,
                    places.urls[state.where],
                    bursts=BURST_CALLS,
                    paced=PACED_CALLS,
                    server_pid=places.own_pid,
                    **variables,
                )
                places.let_go_on()
                for pace, times in found.items():
                    rounds[pace][state.name].append(times)
    figures = [_figure(state, rounds[pace], pace) for pace in PACES for state in STATES]
    title = "latency: p99.9 of emit() on the caller's thread, median of rounds"
    return Table(title=title, versions=describe("orjson", "redis"), figures=figures)


def _figure(state: State, rounds: dict[str, list[Times]], pace: str) -> Figure:
    times = rounds[state.name]
    p999_s = [each.p999_s for each in times]
    idle = [each.p999_s for each in rounds[STATES[1].name]]
    ratio = median(p999_s) / median(idle)
    measured = f"{shown_s(median(p999_s))} = {three_digits(ratio)} × idle; {_beside(times, pace)}"
    name = f"{state.name}; {PACES[pace]}"
    is_compared = state not in STATES[:2]
    is_quiet = max(idle) <= IDLE_MAX * min(idle)
    return Figure(
        name=name,
        measured=measured,
        target=f"≤ {IDLE_MAX:.0f} × idle" if is_compared else "",
        reached=ratio <= IDLE_MAX if is_compared and is_quiet else None,
        rounds=p999_s,
        unit="s",
    )


def _beside(times: list[Times], pace: str) -> str:
    """What is worth knowing besides."""
    beside = f"p50 {shown_s(median([each.p50_s for each in times]))}, max {shown_s(max(each.max_s for each in times))}"
    late_s = median([each.late_p999_s for each in times])
    return f"{beside}, sleeps late by {shown_s(late_s)}" if pace == "paced" else beside
