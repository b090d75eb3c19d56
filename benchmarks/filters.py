"""What it costs that viewers want, and may see, different things: 500 grants with 500 filters, against one of each.

Every event passes all of them, so that the deliveries are the same, and only the number of audiences differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks import fanout, servers
from benchmarks.fanout import Load, clients, measure
from benchmarks.figures import Figure, Table
from benchmarks.machine import describe
from benchmarks.servers import Server
from broadcast.bridge.access import issue_token

SECRET = "benchmark benchmark benchmark benchmark"
DISTINCT = 500
SECONDS_MAX = 20.0


def run(redis_url: str) -> Table | None:
    @contextlib.contextmanager
    def ours() -> Iterator[Server]:
        with servers.bridge(redis_url, BROADCAST_SECRET=SECRET) as served:
            yield served

    load, seconds = Load(clients(1_000), 100), min(fanout.SECONDS, SECONDS_MAX)
    one, filters, both = (
        measure(ours, load, seconds=seconds, auth=auths)
        for auths in (handshakes(1, 1), handshakes(1, DISTINCT), handshakes(DISTINCT, DISTINCT))
    )
    rows = [Figure(name=f"{load.name}: one grant, one filter", measured=one.text())]
    for name, each in ((f"one grant, {DISTINCT} filters", filters), (f"{DISTINCT} grants and filters", both)):
        ratio = each.cpu_us / one.cpu_us
        rows.append(Figure(name=f"{load.name}: {name}", measured=each.text()))
        rows.append(
            Figure(
                name=f"{load.name}: {name}, CPU per delivery against one of each",
                measured=f"{ratio:.2f}×",
                target="≤ 2×",
                reached=ratio <= 2,
            )
        )
    return Table(
        title="filters: viewers that want, and may see, different things",
        versions=f"{describe('v5-broadcast', 'uvicorn', 'uvloop')}; {seconds:g} s a run",
        figures=rows,
        data={"runs": [asdict(each) for each in (one, filters, both)]},
    )


def handshakes(grants: int, filters: int) -> list[dict[str, Any]]:
    """So many different handshakes: each with a token that keeps another type away, and a filter that does, too."""
    tokens = [
        issue_token(SECRET, subject=f"viewer-{i}", types=f"*,-secret.{i}", ttl_s=3600) for i in range(max(1, grants))
    ]
    return [
        {"catchup": 0, "token": tokens[i % grants], "types": ["*", f"-never.{i % filters}"]}
        for i in range(max(grants, filters))
    ]
