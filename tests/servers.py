"""Real Redis and Valkey servers for tests: started, killed, stopped and restarted by the test that owns them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

PATIENCE_S = 40.0
BLOCKS = range(20_000, 30_000, 1_000)
"""Below the ports that the kernel gives to whoever asks for any, and above those that browsers refuse."""


def free_port() -> int:
    """A port that nobody takes before its server listens there: not the kernel, nor another run of these tests."""
    return next(port for port in _ports() if _is_free(port))


@functools.cache
def _ports() -> Iterator[int]:
    """The ports of this run, again and again; a lock that lasts as long as the run keeps others out of them."""
    for first in BLOCKS:
        lock = os.open(f"{tempfile.gettempdir()}/broadcast-tests-{os.getuid()}-{first}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return itertools.cycle(range(first, first + BLOCKS.step))
    raise RuntimeError(f"{len(BLOCKS)} runs of these tests at once have taken all ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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
        deadline = time.monotonic() + PATIENCE_S
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
        process.wait(PATIENCE_S)

    def wait_until_written(self) -> None:
        """Wait until its file holds all that it has answered: behind a slow fsync it writes up to two seconds late."""
        deadline = time.monotonic() + PATIENCE_S
        with self.client() as client:
            while client.info("persistence")["aof_buffer_length"]:
                assert time.monotonic() < deadline, "the append-only file was not written"
                time.sleep(0.02)

    def copy_to(self, folder: Path) -> None:
        """Keep its data as they are, and go on."""
        self.stop()
        shutil.copytree(self.folder, folder)
        self.start()

    def fall_back_to(self, folder: Path) -> None:
        """Die, and come back with data that were kept before."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder)
        shutil.copytree(folder, self.folder)
        self.start()

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
