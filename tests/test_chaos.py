"""All of it at once: a mind, its Redis, a bridge with a viewer, a recorder and a reader, any of which may fall.

What each of them has in the end is what was emitted, once and in order. Seeded: the same falls in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridges import BridgeProcess, serving
from tests.programs import started, wait_until
from tests.sentinels import PATIENCE_S, assert_whole, emit_steadily, emitting_to, listening
from tests.servers import RedisServer, running, valkey_binary


class Viewer:
    """An EventSource, as far as it matters: it comes back with the last id it had, whatever ended the connection."""

    def __init__(self, bridge: BridgeProcess) -> None:
        self.events: list[Any] = []
        self._bridge = bridge
        self._last_id: str | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        while not self._done.wait(0.05):
            with contextlib.suppress(OSError, urllib.error.HTTPError, ValueError):
                self._read()

    def _read(self) -> None:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        query = "" if self._last_id else "?since=0"
        request = urllib.request.Request(f"{self._bridge.url}/events{query}", headers=headers)
        with urllib.request.urlopen(request, timeout=2) as response:
            name = place = None
            while not self._done.is_set() and (line := response.readline().decode()):
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "id":
                    place = value
                elif field == "event":
                    name = value
                elif field == "data":
                    if name in (None, "gap"):
                        self.events.append(json.loads(value))
                elif not field:  # an event ends; what was cut before this is none
                    self._last_id, name, place = place or self._last_id, None, None

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def __enter__(self) -> Viewer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Recording:
    """`broadcast record`, to be killed and begun again."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self._server, self._folder = server, folder
        self._stack = contextlib.ExitStack()
        self.start()

    def start(self) -> None:
        recorder = started("record", str(self.path), folder=self._folder, redis_url=self._server.url)
        self._process = self._stack.enter_context(recorder)

    def fall(self, how: int) -> None:
        self._process.send_signal(how)
        self._process.wait(20)
        self._stack.close()
        self.start()

    @property
    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []

    def close(self) -> None:
        self._stack.close()


def numbers_of(events: list[Any]) -> list[int]:
    return [event["data"]["i"] for event in events if event.get("type") == "x"]


def stop_for_a_while(server: RedisServer, seconds: float) -> None:
    server.send_signal(signal.SIGSTOP)
    threading.Event().wait(seconds)
    server.send_signal(signal.SIGCONT)


def cut_everybody_off(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@contextlib.contextmanager
def recording(server: RedisServer, folder: Path) -> Iterator[Recording]:
    recording = Recording(server, folder)
    try:
        yield recording
    finally:
        recording.close()


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_falls_everybody_has_every_event_once_and_in_order(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with (
        running(valkey_binary(), tmp_path / "valkey") as server,
        serving(server.url, tmp_path) as bridge,
        recording(server, tmp_path) as recorder,
        emitting_to(server.url) as emitter,
        Viewer(bridge) as viewer,
    ):
        falls: list[Callable[[], object]] = [
            lambda: server.restart(signal.SIGKILL, away_s=chance.uniform(0, 1)),
            lambda: server.restart(signal.SIGTERM),
            lambda: stop_for_a_while(server, chance.uniform(0.5, 3)),
            lambda: cut_everybody_off(server),
            lambda: bridge.restart(signal.SIGKILL),
            lambda: bridge.restart(signal.SIGTERM),
            lambda: recorder.fall(signal.SIGKILL),
            lambda: recorder.fall(signal.SIGTERM),
        ]
        async with listening(server.url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=1)
            for fall in chance.sample(falls, len(falls)):
                falling = asyncio.create_task(asyncio.to_thread(fall))
                while not falling.done():
                    emitted = await emit_steadily(emitter, emitted, seconds=0.1)
                await falling
                emitted = await emit_steadily(emitter, emitted, seconds=chance.uniform(0, 1.5))
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S), emitter.stats()
            await reading.until_has(emitted - 1)
        for seen in (recorder, viewer):
            has_all = lambda seen=seen: emitted - 1 in numbers_of(seen.events)  # noqa: E731
            await asyncio.to_thread(wait_until, has_all, timeout_s=PATIENCE_S)
        assert_whole(server, emitted)
    everything = list(range(emitted))
    assert everything == reading.numbers
    assert everything == numbers_of(recorder.events)
    assert everything == numbers_of(viewer.events)
