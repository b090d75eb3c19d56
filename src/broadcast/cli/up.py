"""`broadcast up`: everything on one machine, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson
from rich.console import Console
from rich.text import Text

from broadcast.cli.interrupts import ending_signals, run_until_signalled
from broadcast.cli.reach import ask_bridge, bridge_url
from broadcast.cli.tail import event_line
from broadcast.embedded import PrivateValkey, stop_process
from broadcast.errors import BroadcastError, SettingError
from broadcast.log.listen import Listener
from broadcast.settings import Settings

__all__ = ["up"]

READY_TIMEOUT_S: Final = 30.0
CHILD_STOP_S: Final = 10.0
WATCH_S: Final = 0.3
NO_ANSWER: Final = "no answer yet"


class _Stop(BaseException):
    """A signal came while something was being started."""


def up(settings: Settings, *, with_mind: bool, data: Path | None, has_redis: bool) -> int:
    """Start what is missing, show what happens, stop it all.

    Args:
        settings: all of them.
        with_mind: whether the example mind runs, too.
        data: where the private Valkey keeps its data; None takes the user's state folder.
        has_redis: whether `REDIS_URL` names one to use.

    Returns:
        The exit code.
    """
    console = Console(highlight=False, soft_wrap=True)
    began = datetime.now(UTC).isoformat()
    signals = ending_signals()
    for number in signals:
        signal.signal(number, _raise_stop)
    with contextlib.ExitStack() as stack:
        try:
            settings = settings.with_changes(port=_free_port_of(settings))
            url = settings.redis_url if has_redis else _start_valkey(stack, console, data)
            environment = {**os.environ, "REDIS_URL": url}
            children = {"bridge": _start_bridge(stack, console, settings, environment)}
            _print_address(console, settings, url, has_redis=has_redis)
            if with_mind:
                children["mind"] = _start_mind(stack, environment)
            stack.callback(console.print, "\nstopping …", style="dim")
            console.print("Ctrl-C ends everything.\n", style="dim")
            _show_events(console, url, began, children)
        except _Stop:
            pass
        finally:
            # Only the first one counts: another must not cut the orderly end short, each step of which is bounded.
            for number in signals:
                signal.signal(number, signal.SIG_IGN)
    return 0


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _free_port_of(settings: Settings) -> int:
    """The port to serve on; asked first, since whoever listens there would answer in our bridge's place.

    Raises:
        SettingError: it cannot be had.
    """
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): does another `broadcast up` "
                "run? End it, or set BROADCAST_PORT to a port that is free"
            ) from None
        return int(probe.getsockname()[1])


def _start_valkey(stack: contextlib.ExitStack, console: Console, data: Path | None) -> str:
    folder = data if data is not None else state_folder() / "valkey"
    valkey = PrivateValkey(folder.absolute())
    stack.callback(valkey.stop)
    valkey.start()
    console.print(f"Valkey    {valkey.url}, its data in {valkey.folder}")
    return valkey.url


def state_folder() -> Path:
    """Where this user's programs keep what must outlive them (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "v5-broadcast"


def _start_bridge(
    stack: contextlib.ExitStack, console: Console, settings: Settings, environment: dict[str, str]
) -> subprocess.Popen[Any]:
    command = [
        sys.executable,
        "-m",
        "broadcast",
        "serve",
        "--host",
        settings.host,
        "--port",
        str(settings.port),
    ]
    log_path = state_folder() / f"bridge-{settings.port}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        child = _start(stack, command, environment, stderr=log)
    deadline = time.monotonic() + READY_TIMEOUT_S
    said = ""
    while missing := _missing_for(settings):
        if child.poll() is not None:
            raise SettingError(f"the bridge did not start: {log_path.read_text('utf-8', 'replace')[-500:].strip()}")
        if time.monotonic() > deadline:
            raise BroadcastError(
                f"the bridge is not ready after {READY_TIMEOUT_S:g} s ({missing}); its log: {log_path}"
            )
        if missing not in (NO_ANSWER, said):
            said = missing
            console.print(f"waiting   {missing}", markup=False)
        time.sleep(0.05)
    return child


def _missing_for(settings: Settings) -> str:
    """What the bridge still lacks; empty if it is ready."""
    try:
        with ask_bridge(settings, "/readyz", timeout_s=1):
            return ""
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError, KeyError):
            return ", ".join(orjson.loads(error.read())["reasons"])
        return f"/readyz answers {error.code}"
    except OSError:
        return NO_ANSWER


def _start_mind(stack: contextlib.ExitStack, environment: dict[str, str]) -> subprocess.Popen[Any]:
    return _start(stack, [sys.executable, str(example_mind())], environment, stderr=None)


def example_mind() -> Path:
    """The folder of the example mind: in the installed package, or in the checkout.

    Raises:
        SettingError: it is in neither.
    """
    spec = find_spec("broadcast")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    for folder in (package / "_example_mind", package.parent.parent / "examples" / "mind"):
        if (folder / "__main__.py").is_file():
            return folder
    raise SettingError("this installation carries no example mind; use --no-mind")


def _start(
    stack: contextlib.ExitStack, command: list[str], environment: dict[str, str], *, stderr: Any
) -> subprocess.Popen[Any]:
    # A group of its own: Ctrl-C on the terminal reaches us alone, and we end the others in our order.
    child = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        start_new_session=True,
    )  # fmt: skip
    stack.callback(stop_process, child, timeout_s=CHILD_STOP_S)
    return child


def _print_address(console: Console, settings: Settings, url: str, *, has_redis: bool) -> None:
    # Without markup: the brackets of an IPv6 address are none.
    console.print(Text.assemble("page      ", (f"{bridge_url(settings)}/", "bold")))
    if not has_redis:
        console.print(f"your mind [bold]export REDIS_URL={url}[/bold]   then: from broadcast import emit")


def _show_events(console: Console, url: str, began: str, children: dict[str, subprocess.Popen[Any]]) -> None:
    """Print digests until a signal comes, or a part of the whole ends by itself.

    Raises:
        BroadcastError: one did.
    """
    ended: list[str] = []

    async def show() -> None:
        async with asyncio.TaskGroup() as group:
            shown = group.create_task(_print_events(console, url, began))
            ended.append(await _first_to_end(children))
            shown.cancel()

    run_until_signalled(show())
    if ended:
        raise BroadcastError(ended[0])


async def _print_events(console: Console, url: str, began: str) -> None:
    async with aclosing(Listener(None, began, redis_url=url, name="up").events()) as events:
        async for event in events:
            console.print(event_line(event, width=console.width), overflow="ellipsis", no_wrap=True)


async def _first_to_end(children: dict[str, subprocess.Popen[Any]]) -> str:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                return f"the {name} ended by itself with code {child.returncode}; everything is stopped"
        await asyncio.sleep(WATCH_S)
