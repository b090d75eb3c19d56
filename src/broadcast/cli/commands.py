"""Every subcommand: its options, and whom it calls. Data goes to standard output, notes to standard error."""

from __future__ import annotations

import math
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import orjson
import typer

from broadcast.cli.options import Keep, RedisUrl, Sought, Types
from broadcast.cli.past_commands import past_app
from broadcast.cli.token_commands import token_app
from broadcast.errors import BroadcastError, SettingError
from broadcast.filters import parse_filter
from broadcast.settings import Settings

__all__ = ["run"]

app = typer.Typer(
    name="broadcast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(past_app)
app.add_typer(token_app, name="token")


def run() -> int:
    """Parse the command line and run it.

    Returns:
        The exit code: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C.
    """
    try:
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has gone; nothing is left to say, not even by the interpreter's own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (BroadcastError, OSError) as error:
        name = getattr(error, "filename", None)
        return _fail(f"{name}: {getattr(error, 'strerror', error)}" if name else str(error), 1)
    except Exception as error:
        shown = getattr(error, "format_message", None)
        if shown is None:
            raise
        return _fail(shown(), getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if message:  # without any argument the help was shown, and says it all
        sys.stderr.write(f"broadcast: {message}\n")
    return code


def _seconds(value: float) -> float:
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"expected a number of seconds of at least 0, got {value:g}")
    return value


def _event_type(text: str) -> str:
    if not text.strip():  # as a rule a variable of a script that is not set
        raise typer.BadParameter("expected a type such as sense.project, got an empty text")
    return text


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version("v5-broadcast"))
        raise typer.Exit


@app.callback()
def common(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Emit a mind's events, see them live, keep them."""


@app.command()
def up(
    *,
    mind: Annotated[bool, typer.Option(help="Run the example mind, too.")] = True,
    archive: Annotated[bool, typer.Option(help="Keep everything: DATABASE_URL, else a private PostgreSQL.")] = True,
    keep: Keep = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the private servers' data.", metavar="FOLDER")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the page; else BROADCAST_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; else BROADCAST_PORT.")] = None,
) -> None:
    """Start everything on this machine: Valkey and PostgreSQL (where none is named), bridge, archiver, example mind."""
    from broadcast.cli.duration import kept_s
    from broadcast.cli.up import Wanted
    from broadcast.cli.up import up as run_up

    settings = Settings.from_environment(host=host, port=port)
    kept_s(keep)  # what is refused starts nothing
    if keep is not None and not archive:
        raise SettingError("--keep: it is for the archive, and --no-archive leaves that out; give one of them")
    wanted = Wanted(mind=mind, archive=archive, keep=keep, redis="REDIS_URL" not in os.environ, data=data)
    raise typer.Exit(run_up(settings, wanted))


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to bind; else BROADCAST_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; else BROADCAST_PORT.")] = None,
    redis_url: RedisUrl = None,
    tls_cert: Annotated[
        str | None, typer.Option(help="Certificate with its chain, PEM; else BROADCAST_TLS_CERT.", metavar="FILE")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its key, PEM; else BROADCAST_TLS_KEY.", metavar="FILE")] = None,
) -> None:
    """Run the bridge: the page, Socket.IO and the event stream."""
    from broadcast.bridge.serve import serve as run_serve
    from broadcast.cli.logs import configure_logs

    configure_logs()
    run_serve(Settings.from_environment(host=host, port=port, redis_url=redis_url, tls_cert=tls_cert, tls_key=tls_key))


@app.command()
def emit(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="As sense.project.", callback=_event_type)],
    data: Annotated[str | None, typer.Argument(metavar="JSON|-", help="The data; - reads standard input.")] = None,
    *,
    redis_url: RedisUrl = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for Redis.", callback=_seconds)] = 5.0,
) -> None:
    """Emit one event, and wait until it is in the log."""
    from broadcast import Broadcaster

    text = sys.stdin.read() if data == "-" else data
    try:
        value = orjson.loads(text) if text is not None and text.strip() else None
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"JSON: {error}; a text is written as '\"text\"'") from None
    broadcaster = Broadcaster(settings=Settings.from_environment(redis_url=redis_url))
    broadcaster.emit(event_type, value)
    if not broadcaster.close(timeout):
        why = broadcaster.stats().last_error or "Redis has not answered yet"
        raise BroadcastError(f"not in the log after {timeout:g} s: {why}")
    if broadcaster.stats().dropped["limited"]:
        raise BroadcastError("withheld: BROADCAST_LIMITS lets no such event pass")


@app.command()
def tail(
    *,
    types: Types = None,
    sought: Sought = "",
    since: Annotated[
        str | None, typer.Option("--since", "-s", help="An id, 0 for the oldest, 5m, a time, or cycle:42.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines; the default in a pipe.")] = False,
    redis_url: RedisUrl = None,
) -> None:
    """Show events as they come."""
    from broadcast.cli.interrupts import run_until_signalled
    from broadcast.cli.tail import tail as run_tail

    as_json = as_json or not sys.stdout.isatty()
    raise typer.Exit(run_until_signalled(run_tail(types, since, sought=sought, as_json=as_json, redis_url=redis_url)))


@app.command()
def record(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="As events.jsonl; goes on where it ends.")],
    *,
    types: Types = None,
    rotate_bytes: Annotated[
        int, typer.Option(min=0, help="Put a file aside before it grows beyond; 0 = never.")
    ] = 104857600,
    daily: Annotated[bool, typer.Option(help="One file a day (UTC).")] = True,
    redis_url: RedisUrl = None,
) -> None:
    """Append every event to a file, rotated by size and by day."""
    from broadcast.cli.interrupts import run_until_signalled
    from broadcast.consumers.recorder import Recorder

    def on_wait(reason: str) -> None:
        sys.stderr.write(f"broadcast: {reason}; waiting\n")

    # Before the file is made: what cannot be recorded leaves none behind.
    wanted = parse_filter(types)
    redis_url = Settings.from_environment(redis_url=redis_url).redis_url
    recorder = Recorder(path, rotate_bytes=rotate_bytes, rotate_daily=daily, on_wait=on_wait)
    try:
        raise typer.Exit(run_until_signalled(recorder.run(wanted.patterns, redis_url=redis_url)))
    finally:
        recorder.close()


@app.command()
def archive(
    *,
    keep: Keep = None,
    once: Annotated[bool, typer.Option("--once", help="End when everything that is there is archived.")] = False,
    redis_url: RedisUrl = None,
    database_url: Annotated[
        str | None, typer.Option(help="Where PostgreSQL is; else DATABASE_URL.", metavar="URL")
    ] = None,
) -> None:
    """Keep every event in PostgreSQL."""
    from broadcast.cli.archive import archive as run_archive
    from broadcast.cli.duration import kept_s

    settings = Settings.from_environment(redis_url=redis_url, database_url=database_url)
    raise typer.Exit(run_archive(settings, keep_s=kept_s(keep), is_once=once))


@app.command()
def doctor(
    *,
    ready: Annotated[bool, typer.Option("--ready", help="Only ask the bridge whether it is ready.")] = False,
    redis_url: RedisUrl = None,
) -> None:
    """Say what is wrong: Redis, who emits, who reads, what shadows the package."""
    from broadcast.cli import doctor as checks

    settings = Settings.from_environment(redis_url=redis_url)
    raise typer.Exit(checks.ready(settings) if ready else checks.examine(settings))


@app.command()
def types() -> None:
    """List the vocabulary: every event type, its fields, and when it is emitted."""
    from broadcast.catalogue import CATALOGUE

    for event_type in CATALOGUE.values():
        fields = ", ".join(field.name for field in event_type.fields)
        typer.echo(f"{event_type.name:<20} {{{fields}}}  {event_type.when}")
