"""Many viewers in a process of their own, in C, so that they do not limit what is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self, cast

HERE = Path(__file__).parent
AT_ONCE = 64


@cache
def built(name: str) -> Path:
    """The program made from `name`.c.

    Raises:
        RuntimeError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the viewers of this benchmark are a C program, and there is no C compiler (cc) on PATH")
    program = Path(mkdtemp(prefix="broadcast-bench-")) / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


def has_compiler() -> bool:
    return any(map(shutil.which, ("cc", "gcc", "clang")))


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came, between `start` and `stop`."""

    events: int
    least: int
    """By the viewer that got least."""
    live: int
    dead: int
    bytes: int
    max_ms: float
    percentiles_ms: dict[float, float]


class Viewers:
    """So many viewers of one server.

    Args:
        port: where it listens.
        kind: `socketio`, `nats` or `raw`.
        clients: how many.
        auth: what each says of itself, with a `%d` for its number modulo `distinct`; or a list, in which that number
            finds it.
        events: each is live once it has had so many.
    """

    def __init__(
        self,
        port: int,
        kind: str,
        clients: int,
        *,
        auth: dict[str, Any] | list[dict[str, Any]] | None = None,
        distinct: int = 1,
        events: int = 0,
    ) -> None:
        if isinstance(auth, list):
            distinct = len(auth)
        more = [_argument(auth or {"catchup": 0}), str(distinct), str(events)]
        self._process = subprocess.Popen(
            [str(built("load")), "127.0.0.1", str(port), kind, str(clients), str(AT_ONCE), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.clients = clients
        self.connect_s = 0.0

    def wait_until_live(self) -> None:
        """Wait until all are connected.

        Raises:
            RuntimeError: some are not.
        """
        told = self._told()
        self.connect_s = told["seconds"]
        if told["dead"]:
            raise RuntimeError(f"{told['dead']} of {self.clients} viewers could not connect")

    def start(self) -> None:
        """Forget what was counted so far."""
        self._say("start")

    def stall(self, count: int) -> None:
        """The first `count` read no more."""
        self._say(f"stall {count}")

    def stop(self) -> Delivered:
        """What came since `start`."""
        self._say("stop")
        told = self._told()
        return Delivered(
            events=told["events"],
            least=told["least"],
            live=told["live"],
            dead=told["dead"],
            bytes=told["bytes"],
            max_ms=told["max_us"] / 1000,
            percentiles_ms={share: us / 1000 for share, us in told["percentiles"]},
        )

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the viewers' program has ended")
        return cast("dict[str, Any]", json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _argument(auth: dict[str, Any] | list[dict[str, Any]]) -> str:
    if isinstance(auth, dict):
        return json.dumps(auth)
    path = Path(mkdtemp(prefix="broadcast-bench-")) / "auths"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in auth))
    return f"@{path}"
