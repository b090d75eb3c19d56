"""A healthy viewer in a process of its own, to which events are emitted all the time: what does it feel of the others?

    python -m tests.steady URL REDIS_URL

For each line on its standard input it prints a report of what has happened since the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from tests.bridges import ROOT, emitter_to
from tests.viewers import raw_viewer

__all__ = ["Report", "Steady", "steady"]

PAUSE_S: Final = 0.005
PATIENCE_S: Final = 30.0


@dataclass(frozen=True)
class Report:
    """What the viewer got since the last report."""

    events: int
    holes: int
    """How often an event did not follow on the one before."""
    p99_s: float
    """From `emit` to the viewer."""


class Steady:
    """The process, from outside."""

    def __init__(self, url: str, redis_url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.steady", url, redis_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def report(self) -> Report:
        """What has happened since the last report; every event emitted until now has arrived."""
        return await asyncio.to_thread(self._report)

    def _report(self) -> Report:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "it ended"
        return Report(**json.loads(line))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def steady(url: str, redis_url: str) -> Iterator[Steady]:
    process = Steady(url, redis_url)
    try:
        process._report()
        yield process
    finally:
        process.end()


class _Watch:
    def __init__(self) -> None:
        self.emitted = 0
        self.next = 0
        self.holes = 0
        self.delays_s: list[float] = []
        self.changed = asyncio.Event()

    def note(self, number: int, sent_s: float) -> None:
        self.holes += number != self.next
        self.next = number + 1
        self.delays_s.append(time.monotonic() - sent_s)
        self.changed.set()

    async def report(self) -> Report:
        upto = self.emitted
        async with asyncio.timeout(PATIENCE_S):
            while self.next < upto:
                self.changed.clear()
                await self.changed.wait()
        delays, self.delays_s = sorted(self.delays_s), []
        holes, self.holes = self.holes, 0
        return Report(len(delays), holes, delays[len(delays) * 99 // 100] if delays else 0.0)


async def _main(url: str, redis_url: str) -> None:
    watch, emitter = _Watch(), emitter_to(redis_url)
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)

    async def emit_for_ever() -> None:
        while True:
            emitter.emit("steady", {"i": watch.emitted, "sent_s": time.monotonic()})
            watch.emitted += 1
            await asyncio.sleep(PAUSE_S)

    async with raw_viewer(url, "websocket", types="steady", catchup=0) as viewer:
        await viewer.until("position")
        emission = asyncio.create_task(emit_for_ever())

        async def answer_for_ever() -> None:
            while await questions.readline():
                print(json.dumps(asdict(await watch.report())), flush=True)

        answering = asyncio.create_task(answer_for_ever())
        while (told := await viewer.next()) is not None:
            viewer.had.clear()
            name, event = told
            if name == "event":
                watch.note(event["data"]["i"], event["data"]["sent_s"])
            elif name in ("gap", "bye"):
                watch.holes += 1
        emission.cancel()
        answering.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
