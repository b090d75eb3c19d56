"""An archiver that is killed before each word it says to PostgreSQL, or while it says it: one child after another.

    python -m tests.mortal_archiver REDIS_URL DATABASE_URL before|during

Each child is forked with everything imported, archives what is there, and dies by SIGKILL at its k-th exchange with
PostgreSQL (connecting, BEGIN, a piece of COPY, COMMIT, each is one). Before each, more is appended: some of it again,
as after a rewind. When a child has come to its end alive, every exchange has been the last one once. Prints how many.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from typing import Any

import psycopg
import redis

from broadcast.consumers import intake
from broadcast.consumers.archiver import Archiver
from broadcast.consumers.keeper import Keeper
from broadcast.settings import Settings
from tests.archivers import add

EVENTS = 20
AGAIN = 5


def die(after_s: float = 0.0) -> None:
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(at: int, how: str) -> None:
    """From now on the process dies at this exchange."""
    alive = psycopg.AsyncConnection.wait
    said = 0

    async def wait(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal said
        said += 1
        if said == at and how == "before":
            die()
        if said == at:
            threading.Thread(target=die, args=(0.0005 * (at % 4),), daemon=True).start()
        return await alive(self, *arguments, **options)

    async def rest(self: Keeper) -> None:
        """What it does besides changes nothing of that, and has a connection of its own."""
        await asyncio.Event().wait()

    intake.BATCH_AGE_S = 0.0  # type: ignore[misc]
    Keeper.run = rest  # type: ignore[method-assign]
    psycopg.AsyncConnection.wait = wait  # type: ignore[method-assign]


def main(redis_url: str, database_url: str, how: str) -> None:
    client = redis.Redis.from_url(redis_url)
    at, appended, signalled = 0, 0, signal.SIGKILL
    while signalled == signal.SIGKILL:
        again = min(AGAIN, appended)
        add(client, appended - again, EVENTS + again)
        appended += EVENTS
        at += 1
        pid = os.fork()
        if pid == 0:
            mortal(at, how)
            asyncio.run(Archiver(Settings(redis_url=redis_url, database_url=database_url), is_once=True).run())
            os._exit(0)
        signalled = signal.Signals(os.WTERMSIG(os.waitpid(pid, 0)[1]) or signal.SIGCHLD)
    print(at, appended)


if __name__ == "__main__":
    main(*sys.argv[1:])
