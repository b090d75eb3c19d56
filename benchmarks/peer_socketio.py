"""A peer: stock python-socketio under uvicorn. `python -m benchmarks.peer_socketio PORT`; obeys `emit RATE SECONDS`."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

import socketio  # type: ignore[import-untyped]
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


def event(number: int) -> dict[str, Any]:
    return {
        "type": "sense.project",
        "ts": datetime.now(UTC).isoformat(),
        "cycle": 42,
        "day": 1551,
        "data": {
            "mark": time.monotonic_ns(),
            "sense": "pain",
            "projection": "Pain: identity_crisis: what am I for?",
        },
        "id": f"1771095683456-{number}",
        "by": f"kai-4711-9f3a2c01:{number}",
        "n": number,
    }


async def emit(rate: float, seconds: float) -> None:
    began_s, number = time.monotonic(), 0
    while number < rate * seconds:
        await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
        while number < min(rate * seconds, (time.monotonic() - began_s) * rate):
            await sio.emit("event", event(number))
            number += 1
    print("emitted", flush=True)


async def obey() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        _, rate, seconds = line.split()
        await emit(float(rate), float(seconds))


async def main(port: int) -> None:
    config = uvicorn.Config(socketio.ASGIApp(sio), port=port, log_level="error", loop="uvloop", backlog=4096)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells in no other way
        await asyncio.sleep(0.01)
    print("listens", flush=True)
    await obey()
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
