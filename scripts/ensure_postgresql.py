"""Find PostgreSQL's server programs for the tests of jsonb and the archive, or install them where apt may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("initdb", "postgres")
CREATE_CLUSTER = "/etc/postgresql-common/createcluster.conf"


def find(name: str) -> str | None:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


def install() -> None:
    if not shutil.which("apt-get") or not (os.geteuid() == 0 or shutil.which("sudo")):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*sudo, "apt-get", "update", "-qq"], check=False)
    # Debian makes a cluster of its own and starts it, unless it is told not to before the server is unpacked.
    subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "postgresql-common"], check=False)
    subprocess.run(
        [*sudo, "sed", "-i", r"s/^#\?create_main_cluster.*/create_main_cluster = false/", CREATE_CLUSTER], check=False
    )
    subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"], check=False)


def main() -> int:
    if not all(map(find, NAMES)):
        print("no PostgreSQL found; installing one for the tests", file=sys.stderr)
        install()
    found = find("postgres")
    # Not an error: the tests that need it say that they are skipped, and why.
    print(
        f"PostgreSQL: {found}" if found else "no PostgreSQL: its tests are skipped (Debian: apt-get install postgresql)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
