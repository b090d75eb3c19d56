"""Real Redis and Valkey servers for tests: started, killed, stopped and restarted by the test that owns them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_binary() -> str:
    from broadcast.embedded import find_server

    return str(find_server())


def redis_binary() -> str | None:
    return shutil.which("redis-server")


class RedisServer:
    """One server process on its own port and folder; append-only, so that a restart keeps the data."""

    def __init__(self, binary: str, folder: Path, *, options: tuple[str, ...] = ()) -> None:
        self.binary = binary
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *arguments, *durable, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, protocol=2)

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.send_signal(number)
        process.wait(10)

    def restart(self, number: int = signal.SIGTERM, *, away_s: float = 0.0) -> None:
        self.stop(number)
        time.sleep(away_s)
        self.start()


@contextlib.contextmanager
def running(binary: str, folder: Path, *, options: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(binary, folder, options=options).start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
