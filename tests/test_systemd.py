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


def test_every_name_in_the_environment_file_is_a_setting() -> None:
    lines = (FOLDER / "broadcast.env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert len(names) > 3
    assert set(names) <= set(VARIABLES)
