"""A real nginx on `deploy/nginx.conf` itself, in front of bridges as users run them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.bridges import PATIENCE_S, ROOT, BridgeProcess, serving
from tests.servers import RedisServer, free_port

CONFIG: Final = ROOT / "deploy" / "nginx.conf"
NAMES: Final = ("b5001", "b5002", "b5003")
MISSING: Final = "no nginx on PATH or in /usr/sbin; `make nginx` installs it where apt may"
TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx_binary() -> str | None:
    """Debian keeps it where only root's PATH looks."""
    found = shutil.which("nginx") or "/usr/sbin/nginx"
    return found if Path(found).exists() else None


def _replaced(text: str, old: str, new: str, *, times: int) -> str:
    assert times == text.count(old), f"deploy/nginx.conf has {old!r} {text.count(old)} times, not {times}"
    return text.replace(old, new)


def configuration(folder: Path, port: int, bridge_ports: list[int]) -> str:
    """What is deployed, with the ports and folders of a test, and nothing else."""
    text = CONFIG.read_text()
    text = _replaced(text, "pid /run/nginx.pid;", f"pid {folder}/nginx.pid;", times=1)
    text = _replaced(text, " /var/log/nginx/", f" {folder}/", times=2)
    paths = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    text = _replaced(text, "\nhttp {\n", f"\nhttp {{\n{paths}", times=1)
    text = _replaced(text, "listen 80;", f"listen 127.0.0.1:{port};", times=1)
    for number, bridge_port in enumerate(bridge_ports):
        # Once among all of them, once as the one that has the session, twice as a substitute for another.
        old = f"server 127.0.0.1:{5001 + number} "
        text = _replaced(text, old, f"server 127.0.0.1:{bridge_port} ", times=4)
    return text


class Nginx:
    """One nginx."""

    def __init__(self, folder: Path, bridge_ports: list[int]) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "nginx.conf"
        self.config.write_text(configuration(folder, self.port, bridge_ports))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Nginx:
        binary = nginx_binary()
        assert binary is not None, MISSING
        errors = self.folder / "error.log"
        self.process = subprocess.Popen(
            [binary, "-p", str(self.folder), "-e", str(errors), "-c", str(self.config), "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", "")},
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / "nginx.pid").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, errors.read_text()
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


class Cluster:
    """Bridges on one log, and nginx in front of them."""

    def __init__(self, server: RedisServer, bridges: dict[str, BridgeProcess], nginx: Nginx) -> None:
        self.server = server
        self.bridges = bridges
        self.nginx = nginx

    @property
    def url(self) -> str:
        """Where viewers go."""
        return self.nginx.url

    def viewers_of(self, name: str) -> list[dict[str, Any]]:
        """Who is connected to a bridge, by its own account; nobody while it does not answer."""
        status, body = self.bridges[name].get("/clients")
        return json.loads(body)["clients"] if status == 200 else []

    def restart_one_after_the_other(self) -> None:
        """What a rolling restart is."""
        for bridge in self.bridges.values():
            bridge.restart()


@contextlib.contextmanager
def cluster(server: RedisServer, folder: Path) -> Iterator[Cluster]:
    """As many bridges as the configuration has, and nginx in front of them."""
    with contextlib.ExitStack() as stack:
        folders = [folder / name for name in NAMES]
        for each in folders:
            each.mkdir()

        def start(each: Path) -> contextlib.AbstractContextManager[BridgeProcess]:
            variables = {"BROADCAST_NAME": each.name, "BROADCAST_TRUSTED_PROXIES": "127.0.0.1"}
            variables["BROADCAST_ANONYMOUS"] = "read"  # what a proxy brings is refused until somebody says who may read
            return serving(server.url, each, constants=None, **variables)

        with ThreadPoolExecutor() as pool:
            started = list(pool.map(lambda each: stack.enter_context(start(each)), folders))
        (folder / "nginx").mkdir()
        nginx = Nginx(folder / "nginx", [bridge.port for bridge in started])
        stack.callback(nginx.stop)
        yield Cluster(server, dict(zip(NAMES, started, strict=True)), nginx.start())
