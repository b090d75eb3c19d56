"""A bridge as users run it: `broadcast serve` in a process of its own, on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import aiohttp
import pytest
import redis
import socketio  # type: ignore[import-untyped]

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from broadcast.settings import Settings
from tests.servers import free_port

ROOT: Final = Path(__file__).parent.parent
PATIENCE_S: Final = 30.0

# python-socketio's client does not read the answers of its own POST requests, nor close what a cut leaves over.
IGNORE_CLIENT: Final = pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")


class Reachable(Protocol):
    """A bridge, or a proxy in front of some."""

    @property
    def url(self) -> str: ...


class BridgeProcess:
    """One bridge; its port stays the same over restarts."""

    def __init__(
        self, redis_url: str, log: Path, *, constants: Mapping[str, float] | None = None, **environment: str
    ) -> None:
        self.port = free_port()
        self.redis_url = redis_url
        self.constants = constants
        """Of the bridge's modules, as `tests/altered_bridge.py` takes them; None runs the command as it is."""
        self.environment = environment
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, until: str = "/readyz") -> BridgeProcess:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BROADCAST_")}
        mine = {"REDIS_URL": self.redis_url, "BROADCAST_PORT": str(self.port), **self.environment}
        program = ["broadcast", "serve"]
        if self.constants is not None:
            program = ["tests.altered_bridge", json.dumps(self.constants)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program],
                cwd=ROOT,
                env={**clean, **mine},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_for(until)
        return self

    def wait_for(self, path: str, *, status: int = 200) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (answered := self.get(path))[0] != status:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{path}: {answered}; {self.log.read_text()}"
            time.sleep(0.02)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and body; 0 while nothing listens."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_until_caught_up(self) -> None:
        """Wait until it has what is in the log now."""
        with redis.Redis.from_url(self.redis_url, protocol=2) as client:
            newest = cast("list[Any]", client.xrevrange("v5:stream", count=1))
        deadline = time.monotonic() + PATIENCE_S
        while newest and self._head() != newest[0][0].decode():
            assert time.monotonic() < deadline, f"the bridge is at {self._head()}, the log at {newest[0][0]}"
            time.sleep(0.005)

    def _head(self) -> str | None:
        secret = self.environment.get("BROADCAST_SECRET")
        token = issue_token(secret, subject="test", types=None, ttl_s=60) if secret else ""
        request = urllib.request.Request(
            f"{self.url}/events?catchup=0", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            while not (line := response.readline()).startswith(b"data: "):
                assert line
        return cast("str | None", json.loads(line[6:])["id"])

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End it, and say how long that took."""
        process, self.process = self.process, None
        began = time.monotonic()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            process.wait(PATIENCE_S)
        return time.monotonic() - began

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it and start another in its place."""
        self.stop(number)
        self.start()

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_kib(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def get_as_operator(self, path: str) -> tuple[int, str]:
        """What whoever runs it is told: with a token for administrators, if there are tokens."""
        secret = self.environment.get("BROADCAST_SECRET")
        token = issue_token(secret, subject="operator", types="-*", ttl_s=60, is_admin=True) if secret else ""
        return self.get(path, {"Authorization": f"Bearer {token}"} if token else {})

    def clients(self) -> dict[str, Any]:
        """What `GET /clients` tells."""
        status, body = self.get_as_operator("/clients")
        assert 200 == status, body
        return cast("dict[str, Any]", json.loads(body))


@contextlib.contextmanager
def serving(
    redis_url: str, folder: Path, *, constants: Mapping[str, float] | None = None, **environment: str
) -> Iterator[BridgeProcess]:
    bridge = BridgeProcess(redis_url, folder / "bridge.log", constants=constants, **environment).start()
    try:
        yield bridge
    finally:
        bridge.stop(signal.SIGKILL)
        gc.collect()  # what the clients left unclosed is reported here, under IGNORE_CLIENT, and not in another test
    # Whatever a test did to it: nothing may have failed in a way that nobody foresaw.
    log = bridge.log.read_text()
    assert "Traceback" not in log, log
    assert "never retrieved" not in log, log


def emitter_to(redis_url: str) -> Broadcaster:
    return Broadcaster(settings=Settings(redis_url=redis_url))


class Client:
    """python-socketio's own client, which writes down all that it gets, in order."""

    def __init__(self, url: str, transports: list[str] | None = None, **auth: Any) -> None:
        self.url = url
        self.transports = transports or ["websocket"]
        self.auth = auth
        self.got: list[tuple[str, Any]] = []
        self.changed = asyncio.Event()
        self.socket = socketio.AsyncClient(reconnection=False)
        self.session: aiohttp.ClientSession | None = None
        self.socket.on("*", self._note)
        self.socket.on("disconnect", self._gone)

    async def _note(self, name: str, *arguments: Any) -> None:
        self.got.append((name, arguments[0] if arguments else None))
        self.changed.set()

    async def _gone(self, reason: str) -> None:
        self.got.append(("disconnected", reason))
        self.changed.set()

    async def __aenter__(self) -> Client:
        # One of its own, since a poll that was cut must fail, not be sent again unseen; and to close it for certain.
        self.session = self.socket.eio.http = aiohttp.ClientSession()
        self.session._retry_connection = False
        try:
            await self._connect()
        except BaseException:
            await self.session.close()
            raise
        return self

    async def _connect(self) -> None:
        await self.socket.connect(self.url, auth=self.auth or None, transports=self.transports, wait=False)

    async def __aexit__(self, *_: object) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.socket.disconnect()
        finally:
            if self.session is not None:
                await self.session.close()

    def all(self, name: str) -> list[Any]:
        return [data for kind, data in self.got if kind == name]

    @property
    def is_read(self) -> bool:
        """Whether it still reads: where half an answer has ended its loop, it goes on saying that it is connected."""
        reading = self.socket.eio.read_loop_task
        return self.socket.eio.state == "connected" and reading is not None and not reading.done()

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.all("event")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.got]

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"it did not come; got {str(self.got[-30:])[:3000]}") from None

    async def until_got(self, name: str, count: int = 1) -> Any:
        """Wait for so many of a kind; the last of them."""
        await self.until(lambda: len(self.all(name)) >= count)
        return self.all(name)[count - 1]

    async def until_gone(self) -> None:
        """Wait until the server has ended the connection; so early a one this client reports in no other way."""
        async with asyncio.timeout(PATIENCE_S):
            while self.socket.eio.state != "disconnected":
                await asyncio.sleep(0.01)

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Send a request and wait for its ack."""
        return await self.socket.call(name, arguments if len(arguments) != 1 else arguments[0], timeout=10)


class EventStream:
    """`GET /events`, read line by line."""

    def __init__(self, url: str, *, path: str = "/events", headers: Mapping[str, str] | None = None) -> None:
        self.address = url + path
        self.headers = dict(headers or {})

    async def __aenter__(self) -> EventStream:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        self.response = await self._session.get(self.address, headers=self.headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.response.close()
        await self._session.close()

    async def next(self) -> dict[str, Any] | None:
        """The next frame as `{event, id, data}`; None at the end."""
        frame: dict[str, Any] = {"event": "message", "id": None}
        while line := await self.response.content.readline():
            text = line.decode().rstrip("\n")
            if not text and "data" in frame:
                return frame
            field, _, value = text.partition(": ")
            if field in ("event", "id", "data"):
                frame[field] = json.loads(value) if field == "data" else value
        return None

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """So many events, whatever else comes between."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.next()
            assert frame is not None, f"the stream ended after {len(found)} of {count}"
            if frame["event"] == "message":
                found.append(frame["data"])
        return found
