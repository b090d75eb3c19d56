"""What `broadcast up` does about a private server that ends again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broadcast.cli import watch
from broadcast.cli.watch import Watch
from broadcast.log.cancelling import end_tasks


class Hopeless:
    """A server that never lives for long; in the end its program is gone, too."""

    pid = None
    log_path = Path("/its/log")
    restarts = 0

    def restart(self) -> None:
        self.restarts += 1
        if self.restarts > 3:
            raise FileNotFoundError("postgres")


@pytest.mark.parametrize("is_needed", [True, False])
async def test_a_server_is_started_again_only_so_often(is_needed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.001)
    monkeypatch.setattr(watch, "RESTART_PAUSE_S", 0.0)
    said: list[str] = []
    server, looking = Hopeless(), Watch(said.append)
    looking.keep("Valkey", server, is_needed=is_needed)
    task = asyncio.create_task(looking.run())
    await asyncio.wait({task}, timeout=10 if is_needed else 0.5)
    assert is_needed == task.done()
    last = task.result() if is_needed else said[-1]
    await end_tasks(task)
    assert watch.RESTARTS_MAX == server.restarts
    assert last.startswith("Valkey has ended by itself 6 times, its log: /its/log; ")
    assert (watch.RESTARTS_MAX + (not is_needed)) == len(said)
