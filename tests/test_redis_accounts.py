"""deploy/redis-users.conf on a real server: each role can do its work, and nothing that is another's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.bridges import ROOT, serving
from tests.servers import RedisServer, valkey_binary
from tests.viewers import raw_viewer

FILE: Final = ROOT / "deploy" / "redis-users.conf"
PATIENCE_S: Final = 20.0
REFUSED: Final = "has no permissions|No permissions"


class GuardedServer(RedisServer):
    """A server with the accounts of the file; each password is what stands there."""

    @property
    def url(self) -> str:
        return self.url_of("admin")

    def url_of(self, role: str) -> str:
        return f"redis://{role}:CHANGE-ME-{role}@127.0.0.1:{self.port}/0"

    def as_role(self, role: str) -> redis.Redis:
        return redis.Redis.from_url(self.url_of(role), protocol=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    server = GuardedServer(valkey_binary(), tmp_path_factory.mktemp("guarded"), options=("--include", str(FILE)))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mind(server: GuardedServer) -> Iterator[Broadcaster]:
    with server.client() as client:
        client.flushall()
    broadcaster = Broadcaster(settings=Settings(redis_url=server.url_of("mind")))
    yield broadcaster
    broadcaster.close(2)


def test_a_stranger_may_do_nothing(server: GuardedServer) -> None:
    with redis.Redis(port=server.port, protocol=2) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


@pytest.mark.parametrize("role", ["bridge", "warden"])
async def test_the_mind_emits_and_a_bridge_shows_it(
    server: GuardedServer, mind: Broadcaster, tmp_path: Path, role: str
) -> None:
    for i in range(3):
        mind.emit("count", {"i": i})
    assert mind.flush(), mind.stats()
    assert 0 == mind.stats().unpublished
    with serving(server.url_of(role), tmp_path) as bridge:
        async with raw_viewer(bridge.url, "websocket") as viewer:
            await viewer.until_event(2)
            mind.emit("count", {"i": 3})
            await viewer.until_event(3)
        assert 200 == bridge.get("/readyz")[0]
        log = bridge.log.read_text()
    assert ("may not write" in log) is (role == "bridge")


def test_the_warden_says_which_producers_come(server: GuardedServer, mind: Broadcaster, tmp_path: Path) -> None:
    mind.emit("count", {"i": 0})
    assert mind.flush()
    with server.client() as admin, serving(server.url_of("warden"), tmp_path, constants=None):
        # As if it had marked itself for longer than the bridge wants to see: what is tried here are its rights.
        deadline = time.monotonic() + PATIENCE_S
        while not any(b'"state":"up"' in fields[b"event"] for _, fields in _entries(admin)):
            assert time.monotonic() < deadline, _entries(admin)
            seconds, micros = admin.time()
            for producer, _ in admin.zrange("{v5:stream}:presence", 0, -1, withscores=True):
                admin.hset("{v5:stream}:producers", producer, f"new:{seconds * 1000 + micros // 1000 - 60_000}")
            time.sleep(0.1)


def _entries(client: redis.Redis) -> list[Any]:
    found: Any = client.xrange("v5:stream")
    return list(found)


@pytest.mark.parametrize(
    "command",
    [
        ("XRANGE", "v5:stream", "-", "+"),
        ("XREAD", "STREAMS", "v5:stream", "0"),
        ("DEL", "v5:stream"),
        ("XTRIM", "v5:stream", "MAXLEN", 0),
        ("XADD", "another", "*", "event", "{}"),
        ("SUBSCRIBE", "v5:events"),
        ("PUBLISH", "another", "x"),
        ("GET", "another"),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", 1, "v5:stream"),
    ],
)
def test_a_mind_only_appends(server: GuardedServer, command: tuple[Any, ...]) -> None:
    with server.client() as admin:
        admin.xadd("v5:stream", {"event": "{}"})
    with server.as_role("mind") as client, pytest.raises(redis.ResponseError, match=f"{REFUSED}|ACL failure"):
        client.execute_command(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "v5:stream", "*", "event", "{}"),
        ("XDEL", "v5:stream", "1-1"),
        ("HSET", "{v5:stream}:log", "epoch", "x"),
        ("DEL", "{v5:stream}:log"),
        ("PUBLISH", "v5:events", "x"),
        ("EVAL", "return 1", 0),
        ("XRANGE", "another", "-", "+"),
        ("FLUSHALL",),
    ],
)
def test_a_bridge_only_reads(server: GuardedServer, command: tuple[Any, ...]) -> None:
    with server.as_role("bridge") as client, pytest.raises(redis.ResponseError, match=REFUSED):
        client.execute_command(*command)


def test_no_password_is_left_as_it_was_in_the_file() -> None:
    """Whoever forgets one has one that everybody knows: so they must be easy to find."""
    users = [line.split()[1] for line in FILE.read_text().splitlines() if line.startswith("user ")]
    assert users == sorted(set(users), key=users.index)
    for user in users[1:]:
        assert f">CHANGE-ME-{user} " in FILE.read_text()
