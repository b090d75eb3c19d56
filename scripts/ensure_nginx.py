"""Find nginx for the tests of several bridges behind it, or install it where apt may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SBIN = "/usr/sbin/nginx"
POLICY = Path("/usr/sbin/policy-rc.d")


def find() -> str | None:
    # Debian keeps it where only root's PATH looks.
    return shutil.which("nginx") or (SBIN if Path(SBIN).exists() else None)


def install() -> None:
    if not shutil.which("apt-get") or not (os.geteuid() == 0 or shutil.which("sudo")):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]

    def run(*command: str, text: str | None = None) -> None:
        subprocess.run([*sudo, *command], input=text, text=True, stdout=subprocess.DEVNULL, check=False)

    run("apt-get", "update", "-qq")
    # Debian starts it on port 80 as it installs it, unless a policy says no.
    is_ours = not POLICY.exists()
    if is_ours:
        run("tee", str(POLICY), text="#!/bin/sh\nexit 101\n")
        run("chmod", "755", str(POLICY))
    try:
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light")
    finally:
        if is_ours:
            run("rm", "-f", str(POLICY))


def main() -> int:
    if not find():
        print("no nginx found; installing one for the tests", file=sys.stderr)
        install()
    found = find()
    # Not an error: the tests that need it say that they are skipped, and why.
    print(f"nginx: {found}" if found else "no nginx: its tests are skipped (Debian: apt-get install nginx-light)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
