"""deploy/redis-users.conf on a real server: each role can do its work, and nothing that is another's."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from broadcast.settings import Settings
from tests.archivers import Work
from tests.archives import database
from tests.bridges import ROOT, serving
from tests.postgresql import PostgresqlServer
from tests.programs import Command, run
from tests.servers import RedisServer, valkey_binary
from tests.viewers import raw_viewer

FILE: Final = ROOT / "deploy" / "redis-users.conf"
PATIENCE_S: Final = 20.0
SECRET: Final = "of this test, and long enough for it"
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
        ("SET", "v5:stream", "x"),
        ("SET", "{v5:stream}:log", "x"),
        ("SET", "{v5:stream}:presence", "x"),
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


@pytest.mark.parametrize("role", ["warden", "archive"])
@pytest.mark.parametrize(
    "command",
    [
        ("SET", "v5:stream", "x"),
        ("SET", "{v5:stream}:log", "x"),
        ("SET", "{v5:stream}:revoked", "x"),
        ("SET", "{v5:stream}:archive", "x"),
        ("XADD", "another", "*", "event", "{}"),
        ("DEL", "v5:stream"),
        ("XTRIM", "v5:stream", "MAXLEN", 0),
        ("XDEL", "v5:stream", "1-1"),
        ("HSET", "another", "epoch", "x"),
        ("PUBLISH", "another", "x"),
        ("EVAL", "return redis.call('SET', KEYS[1], 'x')", 1, "v5:stream"),
        ("FLUSHALL",),
    ],
)
def test_whoever_appends_overwrites_nothing(server: GuardedServer, role: str, command: tuple[Any, ...]) -> None:
    with server.as_role(role) as client, pytest.raises(redis.ResponseError, match=f"{REFUSED}|ACL failure"):
        client.execute_command(*command)


@pytest.mark.parametrize("key", ["{v5:stream}:revoked", "{v5:stream}:ingest:x"])
def test_the_archiver_revokes_nothing_and_answers_for_nobody(server: GuardedServer, key: str) -> None:
    with server.as_role("archive") as client:
        for command in (("ZADD", key, "1", "x"), ("SET", key, "x"), ("HSET", key, "x", "y")):
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.execute_command(*command)


async def test_the_archiver_stores_makes_room_and_tells_how_far_it_is(
    server: GuardedServer, mind: Broadcaster, postgresql_server: PostgresqlServer
) -> None:
    mind.emit("count", {"i": 0})
    assert mind.flush()
    with database(postgresql_server) as url, server.client() as admin:
        work = Work(Settings(redis_url=server.url_of("archive"), database_url=url))
        task = asyncio.create_task(work.archiver.run())
        await work.until_stored(1)
        await work.until(lambda: admin.hget("{v5:stream}:log", "archive_maxlen"))
        await work.until(lambda: admin.hget("{v5:stream}:archive", "holder"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not work.said("permission"), work.notes


@pytest.mark.parametrize("role", ["bridge", "warden"])
def test_a_bridge_follows_what_is_revoked_and_only_the_warden_takes_events_in(
    server: GuardedServer, mind: Broadcaster, tmp_path: Path, role: str
) -> None:
    mind.emit("count", {"i": 0})
    assert mind.flush()
    token = issue_token(SECRET, subject="tool", types=None, ttl_s=600, emit=True)
    limits = {"BROADCAST_SECRET": SECRET, "BROADCAST_LIMITS": "often=0/s"}
    with serving(server.url_of(role), tmp_path, **limits) as bridge:  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{bridge.url}/events", b'[{"type": "count"}, {"type": "often"}]', headers)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
        assert (202 if role == "warden" else 503) == status
        deadline = time.monotonic() + PATIENCE_S
        with server.client() as admin:
            while role == "warden" and not any(b"broadcast.limited" in each[b"event"] for _, each in _entries(admin)):
                assert time.monotonic() < deadline, _entries(admin)
                time.sleep(0.1)
        assert 200 == bridge.get("/history", headers)[0]
        assert 0 == run("token", "revoke", token, redis_url=server.url)[0]
        deadline = time.monotonic() + PATIENCE_S
        while bridge.get("/history", headers)[0] != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_no_password_is_left_as_it_was_in_the_file() -> None:
    """Whoever forgets one has one that everybody knows: so they must be easy to find."""
    users = [line.split()[1] for line in FILE.read_text().splitlines() if line.startswith("user ")]
    assert users == sorted(set(users), key=users.index)
    for user in users[1:]:
        assert f">CHANGE-ME-{user} " in FILE.read_text()


def test_a_bridge_may_look_whether_a_token_is_revoked_and_a_warden_revokes(
    server: GuardedServer, command: Command
) -> None:
    def asked(*words: str, role: str) -> tuple[int, str, str]:
        return command("token", *words, redis_url=server.url_of(role), BROADCAST_SECRET=SECRET)

    token = issue_token(SECRET, subject="x", types=None, ttl_s=600)
    for role in ("bridge", "warden", "admin"):
        assert (0, True) == (asked("inspect", token, role=role)[0], "yes" in asked("inspect", token, role=role)[1])
    assert 2 == asked("inspect", token, role="mind")[0]
    code, _, err = asked("revoke", token, role="bridge")
    assert (1, True) == (code, "warden" in err)
    assert 0 == asked("revoke", token, role="warden")[0]
    assert 1 == asked("inspect", token, role="bridge")[0]
