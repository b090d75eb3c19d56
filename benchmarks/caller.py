"""A process that calls one peer again and again, and times each call. The other parts start it and read its answer.

A process for each, so that what one leaves running (threads, queues, garbage) does not meet the next. Two paces:

- `bursts`: back to back, 2,000 calls, then a pause in which the sender can do its work. A burst lasts longer than the
  5 ms after which a waiting thread may demand the interpreter lock, so the sender does cut in.
- `paced`: one call each millisecond, like a busy mind. Caches are cold after a sleep, for all that is measured alike.
  How late each sleep ended is measured, too: what a sender does to its host outside of `emit()` shows there.

Before the first measured call each peer is called so often that a buffer of 10,000 events is full: memory that was
never used before costs several times what a call costs, and would make the floor and the idle case look slow. The
garbage collector is left as it is. Times are kept in an array made before the first call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.environment import environment

ROOT = Path(__file__).parents[1]
BURST_CALLS = 2_000
PAUSE_S = 0.1
PERIOD_NS = 1_000_000
WARM_UP_CALLS = 12_000
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Times:
    """What one run at one pace took, seconds."""

    p50_s: float
    p99_s: float
    p999_s: float
    max_s: float
    late_p999_s: float
    """How late the caller came back from its sleeps; 0 in bursts."""
    calls: int


def ask(
    peer: str,
    redis_url: str,
    *,
    bursts: int = 0,
    paced: int = 0,
    server_pid: int = 0,
    **variables: str,
) -> dict[str, Times]:
    """Start a process for one peer.

    Args:
        peer: a name of `peers.PEERS`.
        redis_url: where Redis is, or is missing.
        bursts: calls back to back; 0 for none.
        paced: calls one by one, a millisecond apart; 0 for none.
        server_pid: the server, where the peer stops it.
        variables: of the environment, besides.

    Returns:
        The times by pace, `bursts` and `paced`.
    """
    order = json.dumps({"bursts": bursts, "paced": paced, "server_pid": server_pid})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.caller", peer, redis_url, order],
        cwd=ROOT,
        env=environment(redis_url, BROADCAST_EXIT_TIMEOUT_S="0", **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stderr}")
    return {pace: Times(**times) for pace, times in json.loads(done.stdout).items()}


def call_in_bursts(call: Callable[[], object], keep: Callable[[], bool], calls: int) -> Times:
    clock = time.perf_counter_ns
    spent = array("q", bytes(8 * calls))
    for first in range(0, calls, BURST_CALLS):
        keep()
        for i in range(first, min(calls, first + BURST_CALLS)):
            began = clock()
            call()
            spent[i] = clock() - began
        time.sleep(PAUSE_S)
    return summary(spent, array("q", [0]))


def call_at_a_pace(call: Callable[[], object], keep: Callable[[], bool], calls: int) -> Times:
    clock = time.perf_counter_ns
    spent = array("q", bytes(8 * calls))
    late = array("q", bytes(8 * calls))
    due = clock() + PERIOD_NS
    for i in range(calls):
        if keep():
            due = clock() + PERIOD_NS
        time.sleep(max(0, due - clock()) / 1e9)
        began = clock()
        call()
        ended = clock()
        spent[i] = ended - began
        late[i] = began - due
        due = max(due, ended - PERIOD_NS) + PERIOD_NS  # lost time is not hurried after
    return summary(spent, late)


def summary(spent: array[int], late: array[int]) -> Times:
    sorted_s = [each / 1e9 for each in sorted(spent)]
    return Times(
        p50_s=sorted_s[len(sorted_s) // 2],
        p99_s=sorted_s[int(len(sorted_s) * 0.99)],
        p999_s=sorted_s[int(len(sorted_s) * 0.999)],
        max_s=sorted_s[-1],
        late_p999_s=sorted(late)[int(len(late) * 0.999)] / 1e9,
        calls=len(sorted_s),
    )


def main(name: str, redis_url: str, order_text: str) -> None:
    from benchmarks.peers import PEERS

    order = json.loads(order_text)
    peer = PEERS[name](redis_url, order["server_pid"])
    call = peer.prepare()
    for _ in range(min(WARM_UP_CALLS, order["bursts"])):
        call()
    time.sleep(PAUSE_S)
    paces = {"bursts": call_in_bursts, "paced": call_at_a_pace}
    found = {pace: asdict(run(call, peer.keep, order[pace])) for pace, run in paces.items() if order[pace]}
    peer.check()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
