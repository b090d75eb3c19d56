"""What one `emit()` costs its caller, beside the floor, logging's queue, a span, and the specification's own listing.

Measured is `broadcast.emit`, the one line that a mind writes. The cost of the measuring itself, that of an empty
call, is taken off every figure; without that, ratios would look smaller than they are. The span is the cheapest that
can be written, started and ended, never made the current one. The floor's deque is emptied between the bursts, as a
sender would do; left alone it grows into memory that was never used before, which costs several times as much, and
that is shown, too, so that nobody takes the one for the other. Where the rounds of the floor differ by more than a
half, the machine was too busy for a verdict.

What stands in the way of five times the floor: the floor is one call into C on memory that is warm, and has no line of
Python but itself. Of `emit()`, as py-spy sees it, a sixth is that same encoding; looking at the data and copying it, so
that no other thread can change what the encoder reads, is a fifth; the time of the event an eighth; the dict that is
returned a twelfth; the buffer's account of events and bytes a fifteenth; the rest is calling, at 20 to 70 ns for each
line. Folding all of it into one function was tried, and saved a twentieth. What is left to leave out are the checks.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.caller import ask
from benchmarks.figures import Figure, Table, median, shown_s, three_digits
from benchmarks.machine import describe
from benchmarks.peers import DATA, SPEC
from benchmarks.places import refusing

__all__ = ["DATA", "run"]

ROUNDS = 5
BURST_CALLS = 20_000
PACED_CALLS = 1_000
LISTING_SHARE = 10
FLOOR_MAX = 5.0
PEER_MIN = 8.0
FLOOR_SPREAD_MAX = 1.5
NAMES = {
    "Emit": "emit(), Redis up",
    "EmitAway": "emit(), Redis refused",
    "Floor": "orjson.dumps + deque.append: the floor",
    "FloorGrowing": "the same, nobody empties the deque",
    "Logging": "logging, QueueHandler",
    "Span": "OpenTelemetry span, BatchSpanProcessor",
    "Listing": "the specification's listing",
}
PACES = {"bursts": "back to back", "paced": "one each ms"}


def run(redis_url: str) -> Table:
    rounds = _measure(redis_url)
    figures = [figure for pace in PACES for figure in _figures(rounds[pace], pace)]
    title = "emit: what one call costs its caller, median of a round, median of rounds"
    return Table(title=title, versions=describe("orjson", "redis", "opentelemetry-sdk"), figures=figures)


def _measure(redis_url: str) -> dict[str, dict[str, list[float]]]:
    """The p50 by pace and peer, of each round, seconds."""
    peers = ["Nothing", *(name for name in NAMES if name != "Listing" or SPEC.is_file())]
    rounds: dict[str, dict[str, list[float]]] = {pace: {peer: [] for peer in peers} for pace in PACES}
    with refusing() as refused_url:
        for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
            for peer in peers:
                share = LISTING_SHARE if peer == "Listing" else 1
                url = refused_url if peer == "EmitAway" else redis_url
                found = ask(peer, url, bursts=BURST_CALLS // share, paced=PACED_CALLS // share)
                for pace, times in found.items():
                    rounds[pace][peer].append(times.p50_s)
    for by_peer in rounds.values():
        empty_s = median(by_peer.pop("Nothing"))
        for peer, values in by_peer.items():
            by_peer[peer] = [max(1e-9, each - empty_s) for each in values]
    return rounds


def _figures(rounds: dict[str, list[float]], pace: str) -> list[Figure]:
    p50_s = {peer: median(values) for peer, values in rounds.items()}
    is_quiet = max(rounds["Floor"]) <= FLOOR_SPREAD_MAX * min(rounds["Floor"])
    found = [_figure(peer, p50_s, rounds[peer], pace) for peer in rounds]
    return found if is_quiet else [replace(each, reached=None) for each in found]


def _figure(peer: str, p50_s: dict[str, float], values: list[float], pace: str) -> Figure:
    ours_s, floor_s = p50_s["Emit"], p50_s["Floor"]
    ratio = p50_s[peer] / floor_s
    measured = f"{shown_s(p50_s[peer])} = {three_digits(ratio)} × floor"
    target, reached = "", None
    if peer == "Emit":
        target, reached = f"≤ {FLOOR_MAX:.0f} × floor", ratio <= FLOOR_MAX
    elif peer in ("Logging", "Span"):
        measured += f", {three_digits(p50_s[peer] / ours_s)} × emit()"
        target, reached = f"≥ {PEER_MIN:.0f} × emit()", p50_s[peer] / ours_s >= PEER_MIN
    elif peer == "Listing":
        measured += f", {three_digits(p50_s[peer] / ours_s)} × emit()"
    name = f"{NAMES[peer]}; {PACES[pace]}"
    return Figure(name=name, measured=measured, target=target, reached=reached, rounds=values, unit="s")
