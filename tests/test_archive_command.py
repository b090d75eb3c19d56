"""`broadcast archive` as its users run it: what it needs, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcast.consumers import archiver
from broadcast.errors import UnreachableError
from broadcast.settings import Settings
from tests.archivers import Work, add, ask, numbers, settings_of, stored
from tests.archives import database
from tests.postgresql import PostgresqlServer
from tests.programs import PATIENCE_S, Command, environment, started, wait_until
from tests.servers import RedisServer


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with database(postgresql_server) as url:
        yield url


def test_what_is_missing_is_named_with_what_to_do(command: Command, valkey_server: RedisServer) -> None:
    code, _, err = command("archive", redis_url=valkey_server.url)
    assert (1, True) == (code, "DATABASE_URL is not set" in err)
    code, _, err = command("archive", "--keep", "long", redis_url=valkey_server.url, DATABASE_URL="host=127.0.0.1")
    assert (1, True) == (code, "expected a duration such as 30m, 1h or 7d, got 'long'" in err)
    for program in ("archive", "up"):
        code, _, err = command(program, "--keep", "59m", redis_url=valkey_server.url, DATABASE_URL="host=127.0.0.1")
        assert (1, True) == (code, "keep: expected at least 1h, got '59m'" in err)


def test_without_psycopg_it_says_which_extra_to_install() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None; sys.argv = ['broadcast', 'archive']\n"
        "from broadcast.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(None, DATABASE_URL="postgresql://127.0.0.1/x"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert 1 == done.returncode
    assert "install the extra `archive`" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_good_order_and_the_next_one_goes_on(
    valkey_server: RedisServer, url: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with valkey_server.client() as client:
        add(client, 0, 50)
        with started("archive", folder=tmp_path, redis_url=valkey_server.url, DATABASE_URL=url) as process:
            wait_until(lambda: bool(ask(url, "SELECT to_regclass('checkpoint')")[0][0]) and len(stored(url)) == 50)
            process.send_signal(number)
            assert code == process.wait(PATIENCE_S)
        said = (tmp_path / "err").read_text()
        assert '"events": 50' in said and "Traceback" not in said and "never retrieved" not in said
        add(client, 50, 10)
        with started(
            "archive", "--once", "--database-url", url, folder=tmp_path, redis_url=valkey_server.url
        ) as process:
            assert 0 == process.wait(PATIENCE_S)
    assert '"events": 10' in (tmp_path / "err").read_text()
    assert list(range(60)) == numbers(stored(url))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_that_runs_once_and_is_cut_off_does_not_say_that_all_is_there(
    valkey_server: RedisServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    nowhere = "postgresql://127.0.0.1:1/nowhere"
    arguments = ("archive", "--once", "--database-url", nowhere)
    with started(*arguments, folder=tmp_path, redis_url=valkey_server.url) as process:
        wait_until(lambda: "waiting" in (tmp_path / "err").read_text())
        process.send_signal(number)
        assert code == process.wait(PATIENCE_S)


async def test_one_that_runs_once_waits_no_longer_than_a_moment_for_what_is_away(
    valkey_server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "ONCE_WAIT_S", 0.3)
    monkeypatch.setattr(archiver, "HOLD_S", 0.1)
    for settings, who in (
        (settings_of(valkey_server, "postgresql://127.0.0.1:1/nowhere"), "PostgreSQL"),
        (Settings(redis_url="redis://127.0.0.1:1/0", database_url=url), "Redis"),
    ):
        work = Work(settings, is_once=True)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(UnreachableError, match=f"^{who}.*; given up after 0.3 s"):
                await work.archiver.run()
        assert not work.archiver.is_over
