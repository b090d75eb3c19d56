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
from tests.programs import COMMAND, Command, environment, run, started, wait_until
from tests.servers import RedisServer, free_port

SECRET = "s" * 32


def first_data(client: redis.Redis) -> Any:
    entries: Any = client.xrange("v5:stream")
    return json.loads(entries[0][1][b"event"])["data"]


def test_emit_puts_an_event_into_the_log(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    assert (0, "", "") == run("emit", "sense.project", '{"sense": "pain"}', redis_url=valkey_server.url)

    assert {"sense": "pain"} == first_data(redis_client)


def test_emit_reads_standard_input(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    assert 0 == run("emit", "note", "-", text='["a", 1]\n', redis_url=valkey_server.url)[0]

    assert {"value": ["a", 1]} == first_data(redis_client)


def test_tail_in_a_pipe_prints_delivered_events_as_json_lines(
    broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    broadcaster.emit("sense.project", {"sense": "pain"})
    broadcaster.emit("cycle.start")
    assert broadcaster.flush()
    wanted = ("--types", "sense.*", "--filter", "-rain")
    with started("tail", "--since", "0", *wanted, folder=tmp_path, redis_url=valkey_server.url) as tail:
        wait_until(lambda: b"\n" in (tmp_path / "out").read_bytes())
        broadcaster.emit("sense.all", {"projections": ["rain"]})
        broadcaster.emit("sense.all", {"projections": []})
        wait_until(lambda: (tmp_path / "out").read_bytes().count(b"\n") == 2)
        tail.send_signal(signal.SIGINT)

        assert 130 == tail.wait(40)
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
        [*COMMAND, "tail", "--since", "0"],
        env=environment(valkey_server.url, TERM="xterm-256color"),
        stdout=theirs,
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    while b"evil" not in shown:
        shown += os.read(ours, 4096)
    tail.terminate()
    tail.wait(40)
    os.close(ours)

    assert b"pain: \\x1b[2J" in shown
    assert shown.startswith(b"\x1b[2m"), "its own colours are there: the time is dim"
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
        timeout=40,
        check=False,
    )

    assert 1 == done.stdout.count(b"\n")
    assert b"" == done.stderr


def test_a_setting_that_nobody_can_use_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve"], env=environment(None, BROADCAST_PORT="http"), capture_output=True, text=True, check=False
    )

    assert 1 == done.returncode
    assert "BROADCAST_PORT" in done.stderr and "'http'" in done.stderr and "Traceback" not in done.stderr


def test_doctor_says_who_emits_and_who_reads(
    broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path, command: Command
) -> None:
    broadcaster.emit("x")
    assert broadcaster.flush()
    with started("tail", folder=tmp_path, redis_url=valkey_server.url):
        wait_until(lambda: "tail from" in command("doctor", redis_url=valkey_server.url)[1])
        code, out, _ = command("doctor", redis_url=valkey_server.url)

    assert 0 == code
    assert broadcaster.stats().producer in out
    assert "1 events, 1 ever" in out and "Valkey" in out


def test_doctor_says_what_to_do_about_a_redis_that_is_not_there(command: Command) -> None:
    code, out, _ = command("doctor", redis_url=f"redis://user:secret@127.0.0.1:{free_port()}")

    assert 1 == code
    assert "WRONG" in out and "broadcast up" in out
    assert "secret" not in out


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("allkeys-lru", "evict the whole stream"),
        ("volatile-ttl", "evict producers' seqs"),
        ("volatile-lru", "evict producers' seqs"),
        ("allkeys-lfu", "evict the whole stream"),
    ],
)
def test_doctor_warns_of_a_policy_that_evicts_what_the_log_needs(
    own_server: RedisServer, policy: str, said: str, command: Command
) -> None:
    with own_server.client() as client:
        client.set("{v5:stream}:producer:somebody", 1)
        client.xadd("v5:stream", {"event": "{}", "by": "somebody:1"})
        client.config_set("maxmemory-policy", policy)
        code, out, _ = command("doctor", redis_url=own_server.url)
        assert (0, True) == (code, f"note   redis     maxmemory-policy {policy} may {said}" in out), out
        client.config_set("maxmemory", "100mb")
        code, out, _ = command("doctor", redis_url=own_server.url)
        assert (1, True) == (code, f"WRONG  redis     maxmemory-policy {policy} may {said}" in out), out
        client.config_set("maxmemory-policy", "noeviction")
        code, out, _ = command("doctor", redis_url=own_server.url)
        assert (0, False) == (code, "maxmemory-policy" in out), out


def test_doctor_finds_the_file_that_shadows_the_package(tmp_path: Path) -> None:
    (tmp_path / "broadcast.py").write_text("")

    assert ["ok", "wrong"] == [finding.verdict for finding in package_findings(tmp_path, "")]
    assert ["ok", "wrong"] == [finding.verdict for finding in package_findings(tmp_path / "x", f"/nowhere:{tmp_path}")]
    assert ["ok"] == [finding.verdict for finding in package_findings(tmp_path / "x", "")]


def test_doctor_says_since_when_a_producer_is_silent_and_looking_changes_nothing(
    valkey_server: RedisServer, redis_client: redis.Redis, command: Command
) -> None:
    week_ms = 7 * 24 * 3600 * 1000
    redis_client.xadd("v5:stream", {"event": "{}", "by": "x:1"})
    for name, silent_s in (("fresh", 2), ("gone", 150), ("older", 90_000)):
        redis_client.set(f"{{v5:stream}}:producer:{name}", 7, px=week_ms - silent_s * 1000)
    # Whoever may write may name itself as it likes, and write what is no seq.
    redis_client.set("{v5:stream}:producer:\x1b[2Jevil", "nonsense", px=week_ms)
    for _ in range(2):
        code, out, _ = command("doctor", redis_url=valkey_server.url)

        assert 0 == code
        emits = [line.partition("emits     ")[2] for line in out.splitlines() if " emits " in line]
        assert [
            "\\x1b[2Jevil, nonsense events, last heard now",
            "fresh, 7 events, last heard now",
            "gone, 7 events, last heard 2 min ago",
            "older, 7 events, last heard 1 d ago",
        ] == emits


def test_doctor_names_a_key_that_somebody_else_uses(
    valkey_server: RedisServer, redis_client: redis.Redis, command: Command
) -> None:
    redis_client.set("v5:stream", "mine")
    code, out, _ = command("doctor", redis_url=valkey_server.url)

    assert 1 == code
    assert "WRONG  log       another program keeps something else under v5:stream; set BROADCAST_STREAM" in out


def test_doctor_notes_a_producer_that_is_not_ours(
    valkey_server: RedisServer, redis_client: redis.Redis, command: Command
) -> None:
    redis_client.xadd("v5:stream", {"event": "{}"})

    assert "not this package" in command("doctor", redis_url=valkey_server.url)[1]


@pytest.mark.parametrize("secret", ["", "s" * 32], ids=["this machine's alone", "with tokens"])
def test_ready_tells_a_container_whether_the_bridge_is_ready(
    secret: str, own_server: RedisServer, tmp_path: Path, command: Command
) -> None:
    port = str(free_port())

    def ask() -> tuple[int, str, str]:
        return command("doctor", "--ready", BROADCAST_PORT=port, BROADCAST_SECRET=secret)

    code, out, err = ask()
    assert (1, "") == (code, out)
    assert f"no bridge answers on http://127.0.0.1:{port}" in err
    with started("serve", folder=tmp_path, redis_url=own_server.url, BROADCAST_PORT=port, BROADCAST_SECRET=secret):
        wait_until(lambda: ask()[0] == 0)
        assert (0, '{"ready":true,"reasons":[]}\n', "") == ask()
        own_server.stop()
        wait_until(lambda: ask()[0] == 1)
        assert '{"ready":false,"reasons":["redis: ' in ask()[1]


@pytest.mark.parametrize("option", ["--types", "--emit-types"])
def test_a_token_of_a_variable_that_was_not_set_is_not_made(option: str, command: Command) -> None:
    code, out, err = command("token", "issue", "--sub", "anna", option, "", BROADCAST_SECRET="s" * 32)
    assert (1, "") == (code, out)
    assert "expected at least one type pattern, got none" in err


def test_token_issue_prints_the_token_alone(command: Command) -> None:
    secret = "s" * 32
    words = ("token", "issue", "--sub", "anna", "--types", "sense.*", "--ttl", "5m")
    code, out, err = command(*words, BROADCAST_SECRET=secret)

    assert (0, "") == (code, err)
    claims = jwt.decode(out.strip(), secret, algorithms=["HS256"], audience="broadcast")
    assert ("anna", ["sense.*"], 300) == (claims["sub"], claims["types"], claims["exp"] - claims["iat"])


@pytest.mark.parametrize("options", [("--admin",), ("--emit",), ("--emit-types", "a.*"), ("--admin", "--types", "*")])
def test_a_token_to_watch_or_emit_with_reads_events_only_if_that_is_said(
    options: tuple[str, ...], command: Command
) -> None:
    secret = "s" * 32
    code, out, err = command("token", "issue", "--sub", "lamp", *options, BROADCAST_SECRET=secret)

    claims = jwt.decode(out.strip(), secret, algorithms=["HS256"], audience="broadcast")
    reads_all = "--types" in options
    assert (0, ["*"] if reads_all else ["-*"]) == (code, claims["types"])
    assert err == ("" if reads_all else "broadcast: it reads no events; --types '*' lets it\n")


def test_a_short_secret_is_refused_and_not_shown(command: Command) -> None:
    code, out, err = command("token", "issue", "--sub", "anna", BROADCAST_SECRET="hunter2")

    assert (1, "") == (code, out)
    assert "32 bytes" in err and "hunter2" not in err


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800)])
def test_durations(text: str, seconds: int) -> None:
    assert seconds == seconds_of(text)


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1 week"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="expected a duration"):
        seconds_of(text)


def test_types_lists_the_vocabulary(command: Command) -> None:
    code, out, _ = command("types")

    assert 0 == code
    assert "sense.project" in out and "{sense, projection}" in out


def test_version_and_help_come_alone(command: Command) -> None:
    code, out, err = command("--version")
    assert (0, "") == (code, err)
    assert out.strip() == version("v5-broadcast")

    code, out, err = command()
    assert (2, "") == (code, err)
    assert "tail" in out


def test_a_command_that_is_mistyped_is_guessed(command: Command) -> None:
    code, out, err = command("tial")

    assert (2, "") == (code, out)
    assert "Did you mean 'tail'?" in err
