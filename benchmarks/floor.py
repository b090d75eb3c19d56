"""The floor: what a C program needs that only calls send()."""

from __future__ import annotations

import json
import subprocess

from benchmarks.servers import free_port
from benchmarks.viewers import Viewers, built

EVENT_BYTES = 260
"""An event of the other servers, with its frame."""


def floor_cpu_us(clients: int, rate: float, *, seconds: float, per_write: int) -> float:
    """CPU per delivery of a loop of send(), microseconds."""
    port = free_port()
    command = [str(built("floor")), *map(str, (port, clients, rate, seconds, per_write, EVENT_BYTES))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        with Viewers(port, "raw", clients) as watching:
            watching.wait_until_live()
            process.stdin.write("go\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
    return float(told["cpu_s"] / (told["writes"] * per_write) * 1e6)
