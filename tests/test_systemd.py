"""deploy/systemd: systemd reads the units without a word, and what they start is a command that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from broadcast.settings import VARIABLES
from tests.bridges import ROOT

FOLDER: Final = ROOT / "deploy" / "systemd"
UNITS: Final = sorted(FOLDER.glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_against_a_unit(unit: Path, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze on PATH")
    text = unit.read_text().replace("/opt/broadcast/bin/broadcast", sys.executable)
    named = tmp_path / unit.name.replace("@", "@5001")
    named.write_text(text)

    done = subprocess.run([verify, "verify", str(named)], capture_output=True, text=True, check=False, timeout=60)

    about = [line for line in done.stderr.splitlines() if unit.name.split("@")[0].split(".")[0] in line]
    assert not about, about


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_a_command_with_such_options(unit: Path) -> None:
    started = re.search(r"^ExecStart=/opt/broadcast/bin/broadcast (.+)$", unit.read_text(), re.MULTILINE)
    assert started is not None
    command, *options = started[1].split()

    help_ = subprocess.run(
        [sys.executable, "-m", "broadcast", command, "--help"], capture_output=True, text=True, check=False, timeout=60
    )

    assert 0 == help_.returncode, help_.stderr
    assert all(option in help_.stdout for option in options if option.startswith("--"))


def environment(name: str) -> dict[str, str]:
    lines = (FOLDER / f"{name}.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_name_in_a_units_environment_file_is_a_setting(unit: Path) -> None:
    (path,) = re.findall(r"^EnvironmentFile=/etc/broadcast/(.+)$", unit.read_text(), re.MULTILINE)
    given = environment(path)
    assert len(given) > 1
    assert set(given) <= set(VARIABLES)
    assert not given.get("BROADCAST_SECRET"), "a secret that everybody knows is none"


def test_the_archiver_holds_no_secret_and_nginx_is_believed() -> None:
    assert {"REDIS_URL", "DATABASE_URL"} == set(environment("broadcast-archive.env"))
    assert "127.0.0.1" == environment("broadcast.env")["BROADCAST_TRUSTED_PROXIES"]


def test_nginx_finds_the_sessions_of_a_bridge_by_the_name_that_its_unit_gives_it() -> None:
    name = re.search(r"BROADCAST_NAME=(\S+)", (FOLDER / "broadcast@.service").read_text())
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    assert name is not None
    upstreams = dict(re.findall(r"~\^(\w+)-\s+(\w+);", nginx))
    ports = dict(re.findall(r"upstream (bridge_\w+) \{\s+server 127\.0\.0\.1:(\d+) max_fails", nginx))
    started = {name[1].replace("%i", port): port for port in ports.values()}
    assert len(started) == 3
    assert started == {bridge: ports[upstream] for bridge, upstream in upstreams.items()}
    restarted = re.findall(r"broadcast@(\w+)", (ROOT / "docs" / "deploy.md").read_text())
    assert restarted and set(restarted) <= set(ports.values())


def test_systemd_hands_over_a_key_that_only_root_may_read(tmp_path: Path) -> None:
    text = (FOLDER / "broadcast@.service.d" / "tls.conf").read_text()
    handed = set(re.findall(r"^LoadCredential=(\S+):", text, re.MULTILINE))
    named = dict(re.findall(r"(BROADCAST_TLS_\w+)=%d/(\S+)", text))
    assert set(named) == {"BROADCAST_TLS_CERT", "BROADCAST_TLS_KEY"} <= set(VARIABLES)
    assert set(named.values()) == handed
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze on PATH")
    unit = tmp_path / "broadcast@5001.service"
    unit.write_text((FOLDER / "broadcast@.service").read_text().replace("/opt/broadcast/bin/broadcast", sys.executable))
    with unit.open("a") as file:
        file.write(text)
    done = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60)
    assert not [line for line in done.stderr.splitlines() if "broadcast@" in line], done.stderr
