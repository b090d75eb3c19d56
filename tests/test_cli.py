"""The command line: data on standard output, notes on standard error, codes that scripts can use."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis

from broadcast import Broadcaster
from broadcast.cli.doctor import package_findings
from broadcast.cli.duration import seconds_of
from broadcast.errors import SettingError
from tests.programs import COMMAND, environment, run, started, wait_until
from tests.servers import RedisServer, free_port


def first_data(client: redis.Redis) -> Any:
    entries: Any = client.xrange("v5:stream")
    return json.loads(entries[0][1][b"event"])["data"]


def test_emit_puts_an_event_into_the_log(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    assert (0, "", "") == run("emit", "sense.project", '{"sense": "pain"}', redis_url=valkey_server.url)

    assert {"sense": "pain"} == first_data(redis_client)


def test_emit_reads_standard_input(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    assert 0 == run("emit", "note", "-", text='["a", 1]\n', redis_url=valkey_server.url)[0]

    assert {"value": ["a", 1]} == first_data(redis_client)


def test_emit_refuses_what_is_no_json_and_says_how_to_write_it(valkey_server: RedisServer) -> None:
    code, out, err = run("emit", "note", "hello", redis_url=valkey_server.url)

    assert (2, "") == (code, out)
    assert "JSON" in err and "Traceback" not in err


def test_emit_without_redis_says_why_and_fails() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    code, _, err = run("emit", "note", "{}", "--timeout", "0.5", redis_url=url)

    assert 1 == code
    assert "not in the log" in err and "refused" in err and "Traceback" not in err


def test_tail_in_a_pipe_prints_delivered_events_as_json_lines(
    broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    broadcaster.emit("sense.project", {"sense": "pain"})
    broadcaster.emit("cycle.start")
    assert broadcaster.flush()
    with started("tail", "--since", "0", "--types", "sense.*", folder=tmp_path, redis_url=valkey_server.url) as tail:
        wait_until(lambda: b"\n" in (tmp_path / "out").read_bytes())
        broadcaster.emit("sense.all", {"projections": []})
        wait_until(lambda: (tmp_path / "out").read_bytes().count(b"\n") == 2)
        tail.send_signal(signal.SIGINT)

        assert 130 == tail.wait(10)
    lines = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert ["sense.project", "sense.all"] == [event["type"] for event in lines]
    assert {"id", "by", "n"} < set(lines[0])
    assert b"" == (tmp_path / "err").read_bytes()


def test_tail_on_a_terminal_prints_digests_and_shows_what_could_steer_it(
    broadcaster: Broadcaster, valkey_server: RedisServer
) -> None:
    broadcaster.emit("sense.project", {"sense": "pain", "projection": "\x1b[2J\x1b]0;owned\x07 \u202eevil"})
    assert broadcaster.flush()
    ours, theirs = pty.openpty()
    tail = subprocess.Popen(
        [*COMMAND, "tail", "--since", "0"], env=environment(valkey_server.url), stdout=theirs, stdin=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    while b"evil" not in shown:
        shown += os.read(ours, 4096)
    tail.terminate()
    tail.wait(10)
    os.close(ours)

    assert b"pain: \\x1b[2J" in shown
    assert b"\x1b[2J" not in shown and b"\x1b]0;" not in shown and "\u202e".encode() not in shown


def test_tail_into_a_pipe_that_closes_ends_quietly(broadcaster: Broadcaster, valkey_server: RedisServer) -> None:
    for _ in range(2000):
        broadcaster.emit("x", {"text": "y" * 100})
    assert broadcaster.flush()
    quoted = " ".join(COMMAND)
    done = subprocess.run(
        ["bash", "-c", f"{quoted} tail --since 0 | head -n 1"],
        env=environment(valkey_server.url),
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert 1 == done.stdout.count(b"\n")
    assert b"" == done.stderr


@pytest.mark.parametrize("arguments", [("--types", "sense.*x y"), ("--since", "yesterday")])
def test_tail_refuses_a_wrong_filter_or_position_with_one_line(
    arguments: tuple[str, ...], valkey_server: RedisServer
) -> None:
    code, out, err = run("tail", *arguments, redis_url=valkey_server.url)

    assert (1, "", 1) == (code, out, err.count("\n"))
    assert "accepted are" in err


def test_a_setting_that_nobody_can_use_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve"], env=environment(None, BROADCAST_PORT="http"), capture_output=True, text=True, check=False
    )

    assert 1 == done.returncode
    assert "BROADCAST_PORT" in done.stderr and "'http'" in done.stderr and "Traceback" not in done.stderr


def test_doctor_says_who_emits_and_who_reads(
    broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    broadcaster.emit("x")
    assert broadcaster.flush()
    with started("tail", folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: "tail from" in run("doctor", redis_url=valkey_server.url)[1])
        code, out, _ = run("doctor", redis_url=valkey_server.url)

    assert 0 == code
    assert broadcaster.stats().producer in out
    assert "1 events, 1 ever" in out and "Valkey" in out


def test_doctor_says_what_to_do_about_a_redis_that_is_not_there() -> None:
    code, out, _ = run("doctor", redis_url=f"redis://user:secret@127.0.0.1:{free_port()}")

    assert 1 == code
    assert "WRONG" in out and "broadcast up" in out
    assert "secret" not in out


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("allkeys-lru", "evict the whole stream"),
        ("volatile-ttl", "evict producers' seqs"),
        ("volatile-lru", "evict producers' seqs"),
    ],
)
def test_doctor_warns_of_a_policy_that_evicts_what_the_log_needs(
    own_server: RedisServer, policy: str, said: str
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", policy)
        code, out, _ = run("doctor", redis_url=own_server.url)
        assert (0, True) == (code, f"note   redis     maxmemory-policy {policy} may {said}" in out), out
        client.config_set("maxmemory", "100mb")
        code, out, _ = run("doctor", redis_url=own_server.url)
        assert (1, True) == (code, f"WRONG  redis     maxmemory-policy {policy} may {said}" in out), out
        client.config_set("maxmemory-policy", "noeviction")
        code, out, _ = run("doctor", redis_url=own_server.url)
        assert (0, False) == (code, "maxmemory-policy" in out), out


def test_doctor_finds_the_file_that_shadows_the_package(tmp_path: Path) -> None:
    (tmp_path / "broadcast.py").write_text("")

    assert ["ok", "wrong"] == [finding.verdict for finding in package_findings(tmp_path, "")]
    assert ["ok", "wrong"] == [finding.verdict for finding in package_findings(tmp_path / "x", f"/nowhere:{tmp_path}")]
    assert ["ok"] == [finding.verdict for finding in package_findings(tmp_path / "x", "")]


def test_doctor_notes_a_producer_that_is_not_ours(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    redis_client.xadd("v5:stream", {"event": "{}"})

    assert "not this package" in run("doctor", redis_url=valkey_server.url)[1]


def test_ready_tells_a_container_whether_the_bridge_is_ready(valkey_server: RedisServer, tmp_path: Path) -> None:
    port = str(free_port())
    ask = [*COMMAND, "doctor", "--ready"]
    env = environment(valkey_server.url, BROADCAST_PORT=port)

    assert 1 == subprocess.run(ask, env=env, capture_output=True, check=False).returncode
    with started("serve", folder=tmp_path, redis_url=valkey_server.url, BROADCAST_PORT=port):
        wait_until(lambda: subprocess.run(ask, env=env, capture_output=True, check=False).returncode == 0)


def test_token_issue_prints_the_token_alone() -> None:
    secret = "s" * 32
    done = subprocess.run(
        [*COMMAND, "token", "issue", "--sub", "anna", "--types", "sense.*", "--ttl", "5m"],
        env=environment(None, BROADCAST_SECRET=secret),
        capture_output=True,
        text=True,
        check=False,
    )

    claims = jwt.decode(done.stdout.strip(), secret, algorithms=["HS256"], audience="broadcast")
    assert ("anna", ["sense.*"], 300) == (claims["sub"], claims["types"], claims["exp"] - claims["iat"])


def test_a_short_secret_is_refused() -> None:
    done = subprocess.run(
        [*COMMAND, "token", "issue", "--sub", "anna"],
        env=environment(None, BROADCAST_SECRET="short"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "32 bytes" in done.stderr and "short" not in done.stderr.replace("short", "", 0).split("BROADCAST_SECRET")[0]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800)])
def test_durations(text: str, seconds: int) -> None:
    assert seconds == seconds_of(text)


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1 week"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="expected a duration"):
        seconds_of(text)


def test_types_lists_the_vocabulary() -> None:
    code, out, _ = run("types")

    assert 0 == code
    assert "sense.project" in out and "{sense, projection}" in out


def test_version_and_help_come_alone() -> None:
    code, out, err = run("--version")
    assert (0, "") == (code, err)
    assert out.strip() == version("v5-broadcast")

    code, out, err = run()
    assert (2, "") == (code, err)
    assert "tail" in out


def test_a_command_that_is_mistyped_is_guessed() -> None:
    code, out, err = run("tial")

    assert (2, "") == (code, out)
    assert "Did you mean 'tail'?" in err
