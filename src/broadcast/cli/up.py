"""`broadcast up`: everything on one machine, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from broadcast.cli.children import start_archiver, start_bridge, start_mind, state_folder
from broadcast.cli.interrupts import ending_signals, run_until_signalled
from broadcast.cli.reach import bridge_url
from broadcast.cli.running import noted_running
from broadcast.cli.tail import event_line
from broadcast.cli.watch import Watch
from broadcast.embedded import PrivatePostgresql, PrivateValkey
from broadcast.embedded.folder import FolderInUseError
from broadcast.errors import BroadcastError, SettingError
from broadcast.log.listen import Listener
from broadcast.settings import Settings

__all__ = ["up"]


class _Stop(BaseException):
    """A signal came while something was being started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall run, besides the bridge."""

    mind: bool
    """The example mind."""
    archive: bool
    """The archive: that of `DATABASE_URL`, else a private one."""
    keep: str | None
    """What is older is dropped from it, a duration as `archive` takes it; None for nothing."""
    redis: bool
    """A private Valkey; not where `REDIS_URL` names one."""
    data: Path | None
    """The private Valkey's folder, in which the private PostgreSQL has one, too; None takes the user's state folder."""


def up(settings: Settings, wanted: Wanted) -> int:
    """Start what is missing, show what happens, stop it all.

    Args:
        settings: all of them.
        wanted: what shall run.

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
            watch = Watch(partial(console.print, markup=False))
            archive = _begin_archive(stack, settings, wanted)
            url = _start_valkey(stack, console, watch, wanted.data) if wanted.redis else settings.redis_url
            environment = {**_without_archive(os.environ), "REDIS_URL": url}
            if archive.url:
                environment["DATABASE_URL"] = archive.url
            watch.add(start_bridge(stack, console, settings, environment))
            console.print(f"archive   {archive.finished()}", markup=False)
            if archive.url:
                watch.add(start_archiver(stack, settings, environment, keep=wanted.keep))
                stack.enter_context(noted_running(url, archive.url))
            if archive.url and archive.server is not None:
                watch.keep("PostgreSQL", archive.server, is_needed=False)
            _print_address(console, settings, url, has_redis=not wanted.redis)
            if wanted.mind:
                watch.add(start_mind(stack, environment))
            stack.callback(console.print, "\nstopping …", style="dim")
            console.print("Ctrl-C ends everything.\n", style="dim")
            _show_events(console, url, began, watch)
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


def _start_valkey(stack: contextlib.ExitStack, console: Console, watch: Watch, data: Path | None) -> str:
    folder = data if data is not None else state_folder() / "valkey"
    valkey = PrivateValkey(folder.absolute())
    stack.callback(valkey.stop)
    valkey.start()
    watch.keep("Valkey", valkey, is_needed=True)
    console.print(f"Valkey    {valkey.url}, its data in {valkey.folder}")
    return valkey.url


@dataclass(slots=True)
class _Archive:
    """The archive as far as it has come."""

    url: str
    """Where it is; empty for none."""
    said: str
    """What is to be said of it."""
    server: PrivatePostgresql | None = None

    def finished(self) -> str:
        """Wait until it answers; it must not be what the rest fails by."""
        if self.server is not None:
            try:
                self.server.finish()
            except BroadcastError as error:
                self.url, self.said = "", f"none: {error}"
        return self.said


def _begin_archive(stack: contextlib.ExitStack, settings: Settings, wanted: Wanted) -> _Archive:
    """Begin to start it; the bridge starts meanwhile.

    Raises:
        BroadcastError: its folder is of another version of PostgreSQL; the text says how to move it.
    """
    if not wanted.archive:
        return _Archive("", "none (--no-archive): the log reaches as far back as Redis does")
    if find_spec("psycopg") is None:
        return _Archive("", "none: pip install 'v5-broadcast[archive]'")
    if settings.database_url:
        return _Archive(settings.database_url, "in the database that DATABASE_URL names")
    server = PrivatePostgresql((wanted.data or state_folder()).absolute() / "postgresql")
    stack.callback(server.stop)
    try:
        server.begin()
    except (SettingError, FolderInUseError) as error:
        return _Archive("", f"none: {error}")
    assert server.programs is not None
    return _Archive(server.url, f"{server.url} (PostgreSQL {server.programs.version})", server)


def _without_archive(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("DATABASE_URL")}


def _print_address(console: Console, settings: Settings, url: str, *, has_redis: bool) -> None:
    # Without markup: the brackets of an IPv6 address are none.
    console.print(Text.assemble("page      ", (f"{bridge_url(settings)}/", "bold")))
    if not has_redis:
        console.print(f"your mind [bold]export REDIS_URL={url}[/bold]   then: from broadcast import emit")


def _show_events(console: Console, url: str, began: str, watch: Watch) -> None:
    """Print digests until a signal comes, or a part of the whole ends by itself.

    Raises:
        BroadcastError: one did.
    """
    ended: list[str] = []

    async def show() -> None:
        async with asyncio.TaskGroup() as group:
            shown = group.create_task(_print_events(console, url, began))
            ended.append(await watch.run())
            shown.cancel()

    run_until_signalled(show())
    if ended:
        raise BroadcastError(ended[0])


async def _print_events(console: Console, url: str, began: str) -> None:
    async with aclosing(Listener(None, began, redis_url=url, name="up").events()) as events:
        async for event in events:
            console.print(event_line(event, width=console.width), overflow="ellipsis", no_wrap=True)
