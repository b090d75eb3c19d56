"""Fixtures shared by all tests: real servers, nothing mocked that can be run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from playwright.sync_api import Browser

from broadcast import Broadcaster
from broadcast.cli import commands
from broadcast.settings import Settings
from tests.containers import NativeBuild, StepFailedError
from tests.pages import launched
from tests.postgresql import MISSING, PostgresqlServer, postgresql_programs, running_postgresql
from tests.programs import Command, environment
from tests.servers import RedisServer, redis_binary, running, valkey_binary

# The gate tries the same examples each time, and lets a busy machine take its time: what lands must not depend on luck.
# `make chaos` looks for new ones of the bridge's.
hypothesis.settings.register_profile("gate", derandomize=True, deadline=None)
hypothesis.settings.load_profile("gate")


@pytest.fixture(scope="session", params=["valkey", "redis"])
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Valkey always, and a redis-server too where one is on PATH; shared, so never stop it."""
    binary = valkey_binary() if request.param == "valkey" else redis_binary()
    if binary is None:
        pytest.skip("no redis-server on PATH; Valkey runs the same tests")
    with running(binary, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Valkey for tests that do not stop it."""
    with running(valkey_binary(), tmp_path_factory.mktemp("shared-valkey")) as server:
        yield server


@pytest.fixture
def valkey_server(shared_server: RedisServer) -> RedisServer:
    """The shared Valkey, emptied."""
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey of this test's own, to be killed and restarted."""
    with running(valkey_binary(), tmp_path / "own-valkey") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium, for a module: while it runs, no other event loop can in this thread."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL for tests that do not stop it."""
    if postgresql_programs() is None:
        pytest.skip(MISSING)
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> NativeBuild:
    """The image's /opt/broadcast, made by the Dockerfile's own steps in a folder that stands for its root.

    Its wheel is the one that is built from a bare checkout, page and all: the only test that fetches with npm.
    """
    build = NativeBuild(tmp_path_factory.mktemp("image"))
    try:
        build.run({name: value for name, value in os.environ.items() if not name.startswith("BROADCAST_")})
    except StepFailedError as error:
        if "UnreachableNpmError" in str(error) and not os.environ.get("CI"):
            pytest.skip("npm cannot be reached here, and an image without page is refused")
        raise
    return build


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The `broadcast` command in this process: for whatever needs no terminal, no signal and no process of its own."""

    def run(*arguments: str, redis_url: str | None = None, text: str = "", **more: str) -> tuple[int, str, str]:
        for name in os.environ.keys() - environment(redis_url, **more).keys():
            monkeypatch.delenv(name)
        for name, value in environment(redis_url, **more).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["broadcast", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        # structlog keeps the stream it was set up with, which is this test's, for all that come after it.
        for name in ("broadcast.cli.logs.configure_logs", "broadcast.cli.archive.configure_logs"):
            monkeypatch.setattr(name, lambda: None)
        capsys.readouterr()
        code = commands.run()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def redis_client(valkey_server: RedisServer) -> Iterator[redis.Redis]:
    with valkey_server.client() as client:
        yield client


@pytest.fixture
def broadcaster(valkey_server: RedisServer) -> Iterator[Broadcaster]:
    emitter = Broadcaster(settings=Settings(redis_url=valkey_server.url))
    yield emitter
    emitter.close(2)
