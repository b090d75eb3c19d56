"""Tokens that are revoked: every bridge ends their viewers, and keeps them out, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from base64 import urlsafe_b64encode as b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broadcast.bridge.access import issue_token
from broadcast.bridge.revocation import REVOKE_LUA, revocation_keys
from tests.bridges import BridgeProcess, emitter_to, serving
from tests.programs import Command, wait_until
from tests.servers import RedisServer
from tests.viewers import raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
WITHIN_S: Final = 2.0


@contextlib.contextmanager
def two_on(server: RedisServer, folder: Path) -> Iterator[list[BridgeProcess]]:
    folders = [folder / name for name in "ab"]
    for each in folders:
        each.mkdir()
    with (
        serving(server.url, folders[0], BROADCAST_SECRET=SECRET) as a,
        serving(server.url, folders[1], BROADCAST_SECRET=SECRET) as b,
    ):
        yield [a, b]


@pytest.fixture(scope="module")
def bridges(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BridgeProcess]]:
    with two_on(shared_server, tmp_path_factory.mktemp("revocation")) as pair:
        yield pair


def token_for(subject: str, types: str | None = None, ttl_s: float = 60) -> str:
    return issue_token(SECRET, subject=subject, types=types, ttl_s=ttl_s)


def refusal(bridge: BridgeProcess, token: str) -> str:
    """The code with which a token is refused; empty if it is not."""
    status, body = bridge.get("/clients", {"Authorization": f"Bearer {token}", "Via": "1.1 proxy"})
    code = str(json.loads(body)["code"])
    return "" if (status, code) == (403, "forbidden") else code  # a valid one, of no administrator


async def test_a_revoked_token_ends_its_viewers_on_every_bridge_and_no_others(
    bridges: list[BridgeProcess], valkey_server: RedisServer, command: Command
) -> None:
    token, other = token_for("gone"), token_for("stays")
    ways = [(bridge, transport) for bridge in bridges for transport in ("websocket", "polling")]
    viewers = [raw_viewer(bridge.url, transport, token=token) for bridge, transport in ways]
    async with (
        viewers[0],
        viewers[1],
        viewers[2],
        viewers[3],
        raw_viewer(bridges[1].url, "websocket", token=other) as stays,
    ):
        for viewer in [*viewers, stays]:
            await viewer.until("position")
        code, out, err = command(
            "token", "revoke", "-", text=token, redis_url=valkey_server.url, BROADCAST_SECRET=SECRET
        )
        began_s = time.monotonic()
        assert (0, "", True) == (code, out, "revoked" in err)
        byes = [await viewer.until("bye") for viewer in viewers]
        assert time.monotonic() - began_s < WITHIN_S
        assert [("revoked", False)] * 4 == [(bye["code"], bye["reconnect"]) for bye in byes]
        assert ["revoked", "revoked"] == [refusal(bridge, token) for bridge in bridges]
        assert ["", ""] == [refusal(bridge, other) for bridge in bridges]
        had = [len(viewer.events) for viewer in viewers]  # of a log that the bridges have read before this test
        emitter = emitter_to(valkey_server.url)
        emitter.emit("still.here", {"i": 1})
        await stays.until_event(1)
        emitter.close(2)
        assert had == [len(viewer.events) for viewer in viewers]

    code, out, _ = command("token", "inspect", token, redis_url=valkey_server.url, BROADCAST_SECRET=SECRET)
    assert (1, True, True) == (code, "gone" in out, "no: it was revoked" in out)


def test_what_was_revoked_stays_so_through_restarts_of_redis_and_of_the_bridge(
    own_server: RedisServer, tmp_path: Path, command: Command
) -> None:
    with two_on(own_server, tmp_path) as bridges:
        gone = [token_for(f"gone {i}") for i in range(3)]

        def revoke(token: str) -> None:
            assert 0 == command("token", "revoke", token, redis_url=own_server.url, BROADCAST_SECRET=SECRET)[0]
            wait_until(lambda: ["revoked"] * 2 == [refusal(bridge, token) for bridge in bridges])

        revoke(gone[0])
        own_server.restart()
        bridges[0].wait_for("/readyz")
        bridges[1].wait_for("/readyz")
        assert ["revoked"] * 2 == [refusal(bridge, gone[0]) for bridge in bridges]
        revoke(gone[1])
        with own_server.client() as client:
            client.delete(*revocation_keys("v5:stream"))  # as a Redis that has lost its last second
            wait_until(lambda: 2 == client.zcard(revocation_keys("v5:stream")[0]))  # the bridges give it back
        bridges[0].restart()
        assert ["revoked"] * 2 == [refusal(bridge, token) for bridge in bridges for token in gone[:1]]
        assert "" == refusal(bridges[0], gone[2])


async def test_a_bridge_that_begins_shows_nothing_to_who_was_revoked_before(
    own_server: RedisServer, tmp_path: Path, command: Command
) -> None:
    emitter = emitter_to(own_server.url)
    emitter.emit("secret", {"i": 1})
    emitter.close(2)
    token = token_for("gone")
    command("token", "revoke", token, redis_url=own_server.url, BROADCAST_SECRET=SECRET)
    with serving(own_server.url, tmp_path, BROADCAST_SECRET=SECRET) as bridge:
        assert "revoked" == refusal(bridge, token)
        async with raw_viewer(bridge.url, "websocket", token=token) as viewer:
            await viewer.until_end()
        assert ["connect", "bye", "disconnect"] == [name for name, _ in viewer.had]


def test_what_has_ended_is_forgotten_and_the_end_of_a_token_is_never_brought_forward(
    valkey_server: RedisServer,
) -> None:
    key = revocation_keys("v5:stream")
    now = int(time.time())
    with valkey_server.client() as client:
        client.eval(REVOKE_LUA, 2, *key, "old", str(now - 120), "new", str(now + 600))
        client.eval(REVOKE_LUA, 2, *key, "new", str(now + 60), "more", str(now + 30))
        assert {b"new": now + 600, b"more": now + 30} == dict(client.zrange(key[0], 0, -1, withscores=True))
        assert 600 < client.ttl(key[0]) <= 661


async def test_a_fresh_token_on_the_open_connection_takes_the_place_of_the_first(
    bridges: list[BridgeProcess], valkey_server: RedisServer
) -> None:
    emitter = emitter_to(valkey_server.url)
    first, wider, other = token_for("kai", "a.*", ttl_s=2), token_for("kai", "a.*,b.*"), token_for("kai", "b.*")
    async with raw_viewer(bridges[0].url, "websocket", token=first, types="*") as viewer:
        await viewer.until("position")
        for i, (token, expected, events) in enumerate([(wider, ["a.*", "b.*"], 1), (other, ["b.*"], 3)]):
            for kind in ("b", "a"):
                emitter.emit(f"{kind}.x", {"i": i})
            emitter.flush()
            await viewer.until("event", events)  # it has passed both, seen or not
            await viewer.request("token", {"token": token}, ack_id=i)
            _, answer = await viewer.until("ack", i + 1)
            assert ("kai", expected) == (answer["sub"], answer["types"])
            assert isinstance(answer["exp"], int)
        await viewer.request("token", {"token": token_for("x", ttl_s=60)[:-3] + "AAA"}, ack_id=7)
        assert "unauthorized" == (await viewer.until("ack", 3))[1]["error"]["code"]
        await viewer.request("token", {"token": 5}, ack_id=8)
        assert "bad_request" == (await viewer.until("ack", 4))[1]["error"]["code"]
        await asyncio.sleep(2.5)  # the first one has ended by now
        emitter.emit("b.x", {"i": 9})
        await viewer.until_event(9)
    emitter.close(2)
    assert [("a.x", 0), ("b.x", 1), ("a.x", 1), ("b.x", 9)] == [(e["type"], e["data"]["i"]) for e in viewer.events]
    log = bridges[0].log.read_text()
    assert not any(part in log for token in (first, wider, other) for part in token.split(".")[1:])
    assert SECRET not in log


def test_revoking_what_has_ended_or_a_bare_jti(valkey_server: RedisServer, command: Command) -> None:
    stale = token_for("x", ttl_s=-60)
    code, _, err = command("token", "revoke", stale, redis_url=valkey_server.url, BROADCAST_SECRET=SECRET)
    assert (0, True) == (code, "ended already" in err)
    assert 0 == command("token", "revoke", "some-id", "--until", "1h", redis_url=valkey_server.url)[0]
    with valkey_server.client() as client:
        end = client.zscore(revocation_keys("v5:stream")[0], "some-id")
        assert isinstance(end, float)
        assert 3590 < end - time.time() < 3610
    assert 0 == command("token", "revoke", "other-id", redis_url=valkey_server.url)[0]
    with valkey_server.client() as client:  # nobody knows when its token ends: not before that
        assert (client.zscore(revocation_keys("v5:stream")[0], "other-id") or 0) > time.time() + 9 * 365 * 86_400
    code, _, err = command("token", "revoke", "x", redis_url="redis://127.0.0.1:1")
    assert (1, 1) == (code, err.count("\n"))


@pytest.mark.parametrize("exp", [10**17, 10**400, "1e400", -1, 0, True, "null", '"soon"'])
def test_the_end_of_a_token_that_we_did_not_sign_is_not_believed(
    bridges: list[BridgeProcess], valkey_server: RedisServer, command: Command, exp: object
) -> None:
    """Whatever somebody hands the operator: it is revoked, and those revoked after it are."""
    claims = f'{{"sub": "a", "aud": "broadcast", "jti": "J", "exp": {str(exp).lower()}}}'
    parts = [b64encode(text.encode()).decode().rstrip("=") for text in ('{"alg": "HS256"}', claims)]
    forged = ".".join([*parts, "AAAA"])
    environment = {"redis_url": valkey_server.url, "BROADCAST_SECRET": SECRET}
    assert (0, True) == (command("token", "revoke", forged, **environment)[0], "Traceback" not in forged)
    with valkey_server.client() as client:
        end = client.zscore(revocation_keys("v5:stream")[0], "J") or 0
    assert 9 * 365 * 86_400 < end - time.time() < 11 * 365 * 86_400
    assert 1 == command("token", "inspect", forged, **environment)[0]
    token = token_for("real")
    assert 0 == command("token", "revoke", token, **environment)[0]
    wait_until(lambda: ["revoked"] * 2 == [refusal(bridge, token) for bridge in bridges])


def test_an_end_beyond_all_time_stops_no_revocation(valkey_server: RedisServer) -> None:
    """As one of an older version may still stand in Redis."""
    key = revocation_keys("v5:stream")
    with valkey_server.client() as client:
        client.zadd(key[0], {"poison": 1e17})
        client.eval(REVOKE_LUA, 2, *key, "new", str(int(time.time()) + 60))
        first = client.get(key[1])
        client.eval(REVOKE_LUA, 2, *key, "far", "1e300")
        assert None is not first != client.get(key[1])
        assert {b"new", b"poison", b"far"} == set(client.zrange(key[0], 0, -1))


def test_what_redis_would_not_take_back_is_given_to_it_when_it_does(
    own_server: RedisServer, tmp_path: Path, command: Command
) -> None:
    """As after a failover: the new master lacks it, and takes no writes for a while."""
    with two_on(own_server, tmp_path) as bridges:
        token = token_for("gone")
        assert 0 == command("token", "revoke", token, redis_url=own_server.url, BROADCAST_SECRET=SECRET)[0]
        wait_until(lambda: ["revoked"] * 2 == [refusal(bridge, token) for bridge in bridges])
        key = revocation_keys("v5:stream")
        with own_server.client() as client:
            with client.pipeline() as together:
                together.delete(*key)
                together.execute_command("CONFIG", "SET", "min-replicas-to-write", "1")
                together.execute()
            time.sleep(2)  # both have looked, and could not
            assert 0 == client.zcard(key[0])
            client.config_set("min-replicas-to-write", 0)
            wait_until(lambda: 1 == client.zcard(key[0]))
        assert ["revoked"] * 2 == [refusal(bridge, token) for bridge in bridges]


def test_inspect_says_what_a_token_claims_and_never_the_secret(valkey_server: RedisServer, command: Command) -> None:
    token = issue_token(SECRET, subject="kai", types="sense.*", ttl_s=60, emit=True, replay={"back": "1h"})
    url = valkey_server.url
    code, out, err = command("token", "inspect", "-", text=f"{token}\n", redis_url=url, BROADCAST_SECRET=SECRET)
    assert (0, "") == (code, err)
    assert all(word in out for word in ("kai", "sense.*", "replay", "emit", "valid    yes"))
    for more, why in (
        ({"BROADCAST_SECRET": SECRET[::-1]}, "its signature is none of ours"),
        ({}, "BROADCAST_SECRET is not set"),
        ({"BROADCAST_SECRET": SECRET[::-1], "BROADCAST_SECRET_PREVIOUS": SECRET}, None),
    ):
        code, out, _ = command("token", "inspect", token, redis_url=url, **more)
        assert (int(why is not None), True) == (code, why is None or why in out)
        assert SECRET not in out and SECRET[::-1] not in out and token not in out
    assert 1 == command("token", "inspect", "nonsense", redis_url=url, BROADCAST_SECRET=SECRET)[0]


def test_a_token_is_not_said_to_be_valid_where_nobody_can_be_asked_whether_it_was_revoked(command: Command) -> None:
    for url in ("redis://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/kai"):
        code, out, err = command("token", "inspect", token_for("kai"), redis_url=url, BROADCAST_SECRET=SECRET)
        assert (2, "", True, False) == (code, err, "valid    not known: " in out, "yes" in out)


@pytest.mark.parametrize("jti", ["-looks-like-an-option", "--until", "a.b.c"])
def test_an_identity_is_revoked_whatever_it_looks_like(jti: str, valkey_server: RedisServer, command: Command) -> None:
    code, _, err = command("token", "revoke", "--jti", jti, redis_url=valkey_server.url)
    assert (0, True) == (code, jti in err)
    with valkey_server.client() as client:
        # Others may stand there: a bridge of another test gives back what it knows.
        assert jti.encode() in client.zrange(revocation_keys("v5:stream")[0], 0, -1)
    assert 1 == command("token", "revoke", "x", "--jti", jti, redis_url=valkey_server.url)[0]


def test_issue_prints_what_the_bridge_then_grants(command: Command) -> None:
    words = ["token", "issue", "--sub", "anna", "--replay", "1h,500", "--emit", "--emit-types", "tool.*", "--admin"]
    words += ["--types", "sense.*"]
    code, out, err = command(*words, BROADCAST_SECRET=SECRET)
    assert (0, "", 1) == (code, err, out.count("\n"))
    code, told, _ = command("token", "inspect", out.strip(), redis_url="redis://127.0.0.1:1", BROADCAST_SECRET=SECRET)
    assert all(word in told for word in ("anna", "'back': '1h', 'count': 500", "tool.*", "True"))
    for wrong in ("1h,2h", "soon", "1,2", ",", "-1"):
        code, out, err = command("token", "issue", "--sub", "x", f"--replay={wrong}", BROADCAST_SECRET=SECRET)
        assert (1, "", True) == (code, out, "replay" in err), wrong


def test_a_bridge_that_may_not_read_what_is_revoked_says_so_and_serves(own_server: RedisServer, tmp_path: Path) -> None:
    with own_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pass", "~v5:stream", "~{v5:stream}:log", "&*", "+@all", "-@admin"
        )
    url = own_server.url.replace("redis://", "redis://reader:pass@")
    with serving(url, tmp_path, BROADCAST_SECRET=SECRET) as bridge:
        assert "" == refusal(bridge, token_for("x"))
        assert "may not read which tokens are revoked" in bridge.log.read_text()
