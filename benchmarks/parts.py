"""What an idle viewer takes of a bridge's memory, part by part: allocations by the file that made them.

The bridge runs in this process under tracemalloc, which makes everything slow and nothing larger; the viewers are the C
program's. What the kernel holds for a socket is not in it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import tracemalloc
from pathlib import PurePath

import structlog
import uvicorn
import uvloop

from benchmarks.figures import Figure, Table
from benchmarks.machine import describe
from benchmarks.viewers import Viewers
from broadcast.bridge.app import Bridge
from broadcast.bridge.door import make_door
from broadcast.settings import Settings

COUNT = 1_000
SHOWN = 12


def run(redis_url: str) -> Table | None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = Settings(redis_url=redis_url, connections_max=0, connections_per_address_max=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sizes = runner.run(_sizes(settings))
    rows = [
        Figure(name=name, measured=f"{size / COUNT:,.0f} B")
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
    ]
    total = sum(sizes.values()) / COUNT
    rows.append(Figure(name="all of it", measured=f"{total:,.0f} B", target="≤ 6,000 B", reached=total <= 6_000))
    return Table(
        title=f"parts: an idle viewer's memory, of {COUNT:,}", versions=describe("uvicorn", "uvloop"), figures=rows
    )


async def _sizes(settings: Settings) -> dict[str, int]:
    bridge = Bridge(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            bridge.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            http=make_door(bridge.admission),
            ws=bridge.socket,  # type: ignore[arg-type]
        )
        server = uvicorn.Server(config)
        await bridge.start()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await bridge.fanout.loaded.wait()
        with Viewers(port, "socketio", 50) as first:
            await asyncio.to_thread(first.wait_until_live)
        await asyncio.sleep(0.5)
        gc.collect()
        tracemalloc.start()
        with Viewers(port, "socketio", COUNT) as watching:
            await asyncio.to_thread(watching.wait_until_live)
            await asyncio.sleep(0.5)
            gc.collect()
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
        await bridge.stop()
        server.should_exit = server.force_exit = True
        await serving
    sizes: dict[str, int] = {}
    for statistic in snapshot.statistics("filename"):
        path = PurePath(statistic.traceback[0].filename)
        name = "/".join(path.parts[-2:])
        sizes[name] = sizes.get(name, 0) + statistic.size
    return sizes
