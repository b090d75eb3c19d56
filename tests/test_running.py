"""What runs on this machine, as other commands find it: each `broadcast up` on its own, whoever came and went."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from broadcast.cli.running import running_here
from broadcast.cli.which_archive import archive_settings
from broadcast.errors import SettingError


@contextmanager
def noting(redis_url: str, database_url: str) -> Generator[subprocess.Popen[str]]:
    """A process that has noted what it runs."""
    program = f"""
import sys
from broadcast.cli.running import noted_running
with noted_running({redis_url!r}, {database_url!r}):
    print("noted", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "noted" == process.stdout.readline().strip()
    try:
        yield process
    finally:
        process.communicate()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_first_is_found_when_the_second_has_gone() -> None:
    with noting("redis://127.0.0.1:1", "postgresql:///a"):
        with noting("redis://127.0.0.1:2", "postgresql:///b"):
            assert ["postgresql:///a", "postgresql:///b"] == [each.database_url for each in running_here()]
        settings = archive_settings(None, None)
        assert ("redis://127.0.0.1:1", "postgresql:///a") == (settings.redis_url, settings.database_url)
    assert [] == running_here()


@pytest.mark.parametrize("is_needed", [True, False], ids=["export", "erase"])
def test_of_several_one_has_to_be_named(is_needed: bool) -> None:
    with ExitStack() as stack:
        processes = [
            stack.enter_context(noting(f"redis://:secret@127.0.0.1:{n}", f"postgresql:///{n}")) for n in (1, 2)
        ]
        with pytest.raises(SettingError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2.*Set REDIS_URL") as refused:
            archive_settings(None, None, is_needed=is_needed)
        assert "secret" not in str(refused.value)
        assert all(f"process {process.pid} " in str(refused.value) for process in processes)
        named = archive_settings("redis://:secret@127.0.0.1:2", None, is_needed=is_needed)
        assert "postgresql:///2" == named.database_url
        assert "postgresql:///9" == archive_settings(None, "postgresql:///9", is_needed=is_needed).database_url


def test_what_was_killed_is_of_no_account_whoever_has_its_number_now(state: Path) -> None:
    with noting("redis://127.0.0.1:1", "postgresql:///a") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    files = list((state / "v5-broadcast" / "running").iterdir())
    assert 1 == len(files)
    files[0].rename(files[0].with_name("1.json"))  # a process that lives
    assert [] == running_here()
    assert [] == list((state / "v5-broadcast" / "running").iterdir())
