"""compose.yaml and what belongs to it, read and run natively: no container engine is needed here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.containers import (
    ROOT,
    MissingVariableError,
    NativeBuild,
    environment_of,
    read_compose,
    read_dockerfile,
)
from tests.programs import wait_until
from tests.servers import RedisServer, free_port, redis_binary, valkey_binary

ORIGIN: Final = "https://kai.example"
DOT_ENV: Final = {"BROADCAST_ORIGINS": ORIGIN, "BROADCAST_ANONYMOUS": "read"}
SERVICES: Final = ("redis", "broadcast-server")


def service(name: str, dot_env: dict[str, str] = DOT_ENV) -> dict[str, Any]:
    found: dict[str, Any] = read_compose(dot_env)["services"][name]
    return found


# --- what the files say


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_needs(name: str) -> None:
    found = service(name)
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert str(found["user"]).split(":")[0] not in ("", "0", "root")
    assert found["tmpfs"] == ["/tmp"]
    assert found["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_this_machine_only(name: str) -> None:
    assert [port.rpartition(":")[0] for port in service(name)["ports"]] == [
        {"redis": "127.0.0.1:6379", "broadcast-server": "127.0.0.1:5001"}[name]
    ]


def test_the_bridge_can_be_published_elsewhere() -> None:
    ports = service("broadcast-server", {**DOT_ENV, "BROADCAST_PUBLISH": "127.0.0.1:5002"})["ports"]
    assert ports == ["127.0.0.1:5002:5001"]


def test_the_archive_is_published_nowhere_and_can_do_no_more_than_it_needs() -> None:
    for name in ("postgres", "broadcast-archiver"):
        found = service(name)
        assert "ports" not in found
        assert (True, ["ALL"], "unless-stopped") == (found["read_only"], found["cap_drop"], found["restart"])
        assert found["security_opt"] == ["no-new-privileges:true"]
        assert str(found["user"]).split(":")[0] not in ("", "0", "root")
    assert "cap_add" not in service("postgres")


@pytest.mark.parametrize("dot_env", [DOT_ENV, {**DOT_ENV, "BROADCAST_POSTGRES_PASSWORD": "another"}])
def test_bridge_and_archiver_name_the_same_archive_which_lies_in_a_volume(dot_env: dict[str, str]) -> None:
    postgres, archiver, bridge = (service(name, dot_env) for name in ("postgres", "broadcast-archiver", SERVICES[1]))
    account = postgres["environment"]
    url = f"postgresql://{account['POSTGRES_USER']}:{account['POSTGRES_PASSWORD']}@postgres/{account['POSTGRES_DB']}"
    assert url == archiver["environment"]["DATABASE_URL"] == bridge["environment"]["DATABASE_URL"]
    assert archiver["environment"]["REDIS_URL"] == bridge["environment"]["REDIS_URL"]
    assert ["postgres_data:/var/lib/postgresql"] == postgres["volumes"]
    assert {"redis_data", "postgres_data"} == set(read_compose(dot_env)["volumes"])
    assert archiver["command"] == "broadcast archive" and archiver["user"] == bridge["user"]
    # The bridge does not wait for the archive: it is the page that must be there.
    assert ["redis"] == list(bridge["depends_on"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_health_check_needs_no_shell_and_no_curl(name: str) -> None:
    check = service(name)["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["test"][1] in ("redis-cli", "broadcast")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_the_proxy_in_front_is_believed_so_that_limits_count_its_visitors() -> None:
    assert "172.16.0.0/12" == service("broadcast-server")["environment"]["BROADCAST_TRUSTED_PROXIES"]
    opened = service("broadcast-server", {**DOT_ENV, "BROADCAST_TRUSTED_PROXIES": "127.0.0.1"})
    assert "127.0.0.1" == opened["environment"]["BROADCAST_TRUSTED_PROXIES"]
    assert "BROADCAST_TRUSTED_PROXIES: 127.0.0.1" in (ROOT / "deploy" / "compose.yaml").read_text()


@pytest.mark.parametrize("name", ["deploy/nginx.conf", "examples/flask_site/nginx.conf", "deploy/Caddyfile"])
def test_what_a_client_says_of_itself_does_not_pass_the_proxy(name: str) -> None:
    text = (ROOT / name).read_text()
    assert 'proxy_set_header Forwarded "";' in text or text.count("header_up -Forwarded") == text.count(
        "reverse_proxy {"
    )


def test_redis_keeps_the_log_in_a_volume_and_never_evicts_it() -> None:
    redis = service("redis")
    assert shlex.split(redis["command"]) == [
        "redis-server",
        *("--appendonly", "yes"),
        *("--maxmemory-policy", "noeviction"),
    ]
    assert redis["volumes"] == ["redis_data:/data"]
    assert "redis_data" in read_compose(DOT_ENV)["volumes"]


def test_the_bridge_starts_after_redis_and_finds_it_by_its_services_name() -> None:
    bridge = service("broadcast-server")
    assert bridge["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert bridge["environment"]["REDIS_URL"] == "redis://redis:6379"
    assert bridge["init"] is True


def test_compose_and_image_agree_on_port_user_and_command() -> None:
    bridge = service("broadcast-server")
    image = {step.name: step.words for step in read_dockerfile() if step.stage == 1}
    port = bridge["environment"]["BROADCAST_PORT"]
    assert bridge["ports"][0].endswith(f":{port}")
    assert image["EXPOSE"] == (port,)
    assert image["USER"] == (bridge["user"],)
    assert image["CMD"] == tuple(shlex.split(bridge["command"]))


@pytest.mark.parametrize("dot_env", [{}, {"BROADCAST_ORIGINS": ""}])
def test_compose_refuses_to_start_without_origins(dot_env: dict[str, str]) -> None:
    with pytest.raises(MissingVariableError, match=r"BROADCAST_ORIGINS: .*\.env"):
        read_compose(dot_env)


def test_who_may_read_comes_from_the_env_file_alone() -> None:
    names = ("BROADCAST_ORIGINS", "BROADCAST_SECRET", "BROADCAST_ANONYMOUS")
    given = {name: name.lower() for name in names}
    environment = service("broadcast-server", given)["environment"]
    assert {name: environment[name] for name in names} == given
    unset = service("broadcast-server", {"BROADCAST_ORIGINS": ORIGIN})["environment"]
    assert (unset["BROADCAST_SECRET"], unset["BROADCAST_ANONYMOUS"]) == ("", "")


def test_the_example_env_file_names_every_variable_and_lets_nobody_in() -> None:
    text = (ROOT / ".env.example").read_text()
    listed = set(re.findall(r"^#?(BROADCAST_\w+)=", text, re.MULTILINE))
    files = (ROOT / "compose.yaml").read_text() + (ROOT / "deploy" / "Caddyfile").read_text()
    assert listed == set(re.findall(r"\{\$?(BROADCAST_\w+)", files))
    set_there = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"BROADCAST_\w+=.", line))
    assert set(set_there) == {"BROADCAST_ORIGINS", "BROADCAST_DOMAIN"}
    # Otherwise the bridge would answer `forbidden_host` to everything that Caddy forwards.
    assert set_there["BROADCAST_ORIGINS"] == f"https://{set_there['BROADCAST_DOMAIN']}"


# --- the image, made natively


def test_the_wheel_carries_the_page_the_script_and_the_example(image: NativeBuild) -> None:
    (wheel,) = image.path("/wheels").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    static = "broadcast/bridge/static"
    assert {f"{static}/{name}" for name in ("app.js", "client.js", "index.html", "LICENSES.txt")} <= names
    assert {"broadcast/emitter/append.lua", "broadcast/py.typed"} <= names
    assert any(name.startswith("broadcast/_example_mind/") for name in names)
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


# --- what the services do


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """The service's own command, on a port and in a folder of this test's."""
    words = shlex.split(service("redis")["command"])
    assert words.pop(0) == "redis-server"
    server = RedisServer(redis_binary() or valkey_binary(), tmp_path)
    server.process = subprocess.Popen(
        [server.binary, *words, "--bind", "127.0.0.1", "--port", str(server.port), "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop(signal.SIGKILL)


def in_container(image: NativeBuild, port: int, redis_url: str, dot_env: dict[str, str]) -> dict[str, str]:
    """The environment of the bridge's container; only the places differ."""
    last = [word for step in read_dockerfile() if (step.stage, step.name) == (1, "ENV") for word in step.words]
    environment = environment_of(last)
    inside, _, inherited = environment["PATH"].partition(":")
    assert inherited == "$PATH"
    environment["PATH"] = f"{image.path(inside)}:{os.defpath}"
    places = {"BROADCAST_PORT": str(port), "REDIS_URL": redis_url}
    return {**environment, **service("broadcast-server", dot_env)["environment"], **places}


def is_healthy(environment: dict[str, str]) -> bool:
    check = service("broadcast-server")["healthcheck"]
    done = subprocess.run(check["test"][1:], env=environment, capture_output=True, check=False, timeout=40)
    return done.returncode == 0


def test_redis_runs_its_command_and_passes_its_health_check(redis: RedisServer) -> None:
    with redis.client() as client:
        told: Any = client.config_get("appendonly", "maxmemory-policy")
        assert told == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
    if shutil.which("redis-cli") is None:
        pytest.skip("the health check's redis-cli is not on this machine; the rest holds")
    check = service("redis")["healthcheck"]["test"][1:]
    done = subprocess.run([check[0], "-p", str(redis.port), *check[1:]], capture_output=True, check=False, timeout=40)
    assert (done.returncode, done.stdout) == (0, b"PONG\n")


def test_the_bridge_runs_its_command_and_its_health_tells_the_truth(
    image: NativeBuild, redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    environment = in_container(image, port, redis.url, DOT_ENV)
    before = sorted(image.path("/opt").rglob("*"))
    assert not is_healthy(environment)
    with (tmp_path / "bridge.log").open("wb") as log:
        command = shlex.split(service("broadcast-server")["command"])
        bridge = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd="/")
    try:
        wait_until(lambda: is_healthy(environment), what="the bridge to become healthy")
        assert b"static/app.js" in get(port, "/")[1]
        assert get(port, "/static/app.js")[0] == 200
        assert get(port, "/readyz", Origin=ORIGIN, Host="kai.example")[0] == 200
        assert get(port, "/readyz", Origin="https://evil.example")[0] == 403
        redis.stop(signal.SIGKILL)
        wait_until(lambda: not is_healthy(environment), what="the bridge to miss Redis")
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(10) == 0, "Docker kills after 10 s"
    finally:
        bridge.kill()
        bridge.wait()
    assert sorted(image.path("/opt").rglob("*")) == before, "the file system is read-only in the container"


def test_the_bridge_refuses_to_start_when_nothing_says_who_may_read(image: NativeBuild) -> None:
    environment = in_container(image, free_port(), "redis://127.0.0.1:1", {"BROADCAST_ORIGINS": ORIGIN})
    command = shlex.split(service("broadcast-server")["command"])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=40, cwd="/")
    assert done.returncode == 1
    assert "BROADCAST_SECRET" in done.stderr
    assert "BROADCAST_ANONYMOUS" in done.stderr


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# --- TLS in front


def test_caddy_forwards_to_where_the_bridge_is_published() -> None:
    text = (ROOT / "deploy" / "Caddyfile").read_text()
    assert f"reverse_proxy {{$BROADCAST_PUBLISH:{'127.0.0.1:5001'}}}" in text
    assert service("broadcast-server")["ports"] == ["127.0.0.1:5001:5001"]


@pytest.mark.parametrize("port_5001", [False, True])
def test_caddy_understands_its_file(port_5001: bool, tmp_path: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("no caddy on this machine")
    text = (ROOT / "deploy" / "Caddyfile").read_text()
    if port_5001:
        text = re.sub(r"^# ?(?=\{\$BROADCAST_DOMAIN\}:5001|\t|\})", "", text, flags=re.MULTILINE)
        assert re.search(r"^\{\$BROADCAST_DOMAIN\}:5001 \{$", text, re.MULTILINE)
    (tmp_path / "Caddyfile").write_text(text)
    command = [caddy, "adapt", "--validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    environment = {**os.environ, "BROADCAST_DOMAIN": "kai.example", "BROADCAST_PUBLISH": "127.0.0.1:5002"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
