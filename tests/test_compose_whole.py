"""deploy/compose.yaml fits nginx.conf, the settings and the commands; no container engine is needed here."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from broadcast.cli.commands import app
from broadcast.settings import VARIABLES
from tests.bridges import ROOT

FOLDER: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = ("archive", "bridge-5001", "bridge-5002", "bridge-5003")
BRIDGES: Final = OURS[1:]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_needs(name: str) -> None:
    found = SERVICES[name]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert str(found["user"]).split(":")[0] not in ("", "0", "root")
    assert "/tmp" in found["tmpfs"]


def test_only_nginx_is_reached_from_elsewhere() -> None:
    published = {name: found["ports"] for name, found in SERVICES.items() if "ports" in found}
    assert published == {"redis": ["127.0.0.1:6379:6379"], "network": ["80:80", "443:443"]}
    listening = re.findall(r"^\s*(?:#\s+)?listen (?:\[::\]:)?(\d+)", (FOLDER / "nginx.conf").read_text(), re.MULTILINE)
    assert {"80", "443"} == set(listening)


def test_nginx_may_end_and_the_bridges_keep_their_network() -> None:
    """A container whose network is another one's loses it when that one ends."""
    holder = SERVICES["network"]
    assert (["sleep", "infinity"], SERVICES["nginx"]["image"]) == (holder["entrypoint"], holder["image"])
    for name in ("nginx", *BRIDGES):
        assert "service:network" == SERVICES[name]["network_mode"]
        assert "network" in SERVICES[name]["depends_on"]


def test_nginx_finds_its_certificate_where_it_is_named() -> None:
    named = re.findall(r"ssl_certificate(?:_key)?\s+(\S+);", (FOLDER / "nginx.conf").read_text())
    mounted = [volume.split(":")[1] for volume in SERVICES["nginx"]["volumes"]]
    assert len(named) == 2 and all(any(path.startswith(f"{folder}/") for folder in mounted) for path in named)


def test_nginx_finds_each_bridge_by_its_port_and_its_sessions_by_its_name() -> None:
    nginx = (FOLDER / "nginx.conf").read_text()
    in_nginx = dict(re.findall(r"upstream bridge_(\w+) \{\s+server 127\.0\.0\.1:(\d+) max_fails", nginx))

    in_compose = {found["BROADCAST_NAME"]: found["BROADCAST_PORT"] for found in map(environment_of, BRIDGES)}

    assert list(in_compose) == [f"b{port}" for port in in_compose.values()]
    assert len(in_compose) == 3
    assert in_compose == in_nginx


def environment_of(name: str) -> dict[str, str]:
    found: dict[str, str] = SERVICES[name]["environment"]
    return found


@pytest.mark.parametrize("name", OURS)
def test_what_it_starts_is_a_command_with_settings_that_there_are(name: str) -> None:
    commands = {command.name or str(getattr(command.callback, "__name__", "")) for command in app.registered_commands}
    program, command = SERVICES[name]["command"].split()
    assert program == "broadcast"
    assert command in commands
    assert set(environment_of(name)) <= set(VARIABLES)
    assert environment_of(name)["DATABASE_URL"].startswith("postgresql://broadcast:${POSTGRES_PASSWORD")


def test_what_has_to_be_kept_lies_in_a_volume() -> None:
    assert SERVICES["redis"]["volumes"] == ["redis_data:/data"]
    assert SERVICES["postgres"]["volumes"] == ["postgres_data:/var/lib/postgresql"]
    assert set(COMPOSE["volumes"]) == {"redis_data", "postgres_data"}


def test_both_files_have_the_same_postgresql() -> None:
    small = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["postgres"]
    assert small["image"] == SERVICES["postgres"]["image"]
    assert small["volumes"] == SERVICES["postgres"]["volumes"]


def test_no_example_takes_away_a_limit() -> None:
    files = [*FOLDER.rglob("*"), ROOT / "compose.yaml", ROOT / ".env.example", *(ROOT / "docs").glob("*.md")]
    for path in filter(lambda path: path.is_file(), files):
        assert not re.search(r"PER_ADDRESS\W{1,3}0", path.read_text()), path
