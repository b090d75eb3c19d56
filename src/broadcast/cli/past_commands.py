"""The commands over the past: show it again, count it, take it elsewhere, forget it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from broadcast.cli.options import DatabaseUrl, RedisUrl, Sought, Types

__all__ = ["past_app"]

past_app = typer.Typer()


@past_app.command()
def replay(
    *,
    since: Annotated[
        str, typer.Option("--from", "--since", "-s", help="An id, a time, 5m ago, cycle:42; 0 is the beginning.")
    ],
    until: Annotated[
        str | None, typer.Option("--to", "--until", help="Likewise, and it is the last one; else the log's end.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="1 is as lived, 4 is four times as fast, up to 64; else all at once.")
    ] = None,
    types: Types = None,
    sought: Sought = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines; the default in a pipe.")] = False,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the past again, from the archive and the stream; idle hours are left out."""
    from broadcast.cli.interrupts import run_until_signalled
    from broadcast.cli.replay import replay as run_replay
    from broadcast.cli.which_archive import archive_settings

    settings = archive_settings(redis_url, database_url, is_needed=False)
    as_json = as_json or not sys.stdout.isatty()
    played = run_replay(settings, since=since, until=until, speed=speed, types=types, sought=sought, as_json=as_json)
    raise typer.Exit(run_until_signalled(played))


@past_app.command()
def stats(
    *,
    since: Annotated[str | None, typer.Option("--since", "-s", help="A time, or 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Tell how much there is of what, how long cycles took, and what went wrong."""
    from broadcast.cli.interrupts import run_until_signalled
    from broadcast.cli.which_archive import archive_settings

    settings = archive_settings(None, database_url)
    from broadcast.cli.stats import stats as run_stats

    raise typer.Exit(run_until_signalled(run_stats(settings, since=since, until=until, as_json=as_json)))


@past_app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE|-", help="As archive.jsonl.zst; - is standard output.")],
    *,
    types: Types = None,
    since: Annotated[str | None, typer.Option("--since", "-s", help="An id, a time, or 5m ago.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise; it is the last one.")] = None,
    zstd: Annotated[bool, typer.Option("--zstd", help="Compress it; the default for names that end so.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the archive as JSON lines, for backups and moves."""
    from broadcast.cli.which_archive import archive_settings

    settings = archive_settings(None, database_url)
    from broadcast.cli.dumps import export_to
    from broadcast.consumers.exporter import Exporter

    exporter = Exporter(settings.database_url, settings.stream, types=types, since=since, until=until)
    is_compressed = zstd or path.suffix in (".zst", ".zstd")
    target = None if str(path) == "-" else path
    raise typer.Exit(export_to(exporter, target, is_compressed=is_compressed))


@past_app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE|-", help="Of export or record; - is standard input.")],
    *,
    database_url: DatabaseUrl = None,
) -> None:
    """Put an export, or a recorded file, into the archive; what is there already stays as it is."""
    from broadcast.cli.which_archive import archive_settings

    settings = archive_settings(None, database_url)
    from broadcast.cli.dumps import import_from
    from broadcast.consumers.dump_file import recorded_beside
    from broadcast.consumers.importer import Importer

    source = None if str(path) == "-" else path
    importer = Importer(settings.database_url, settings.stream, recorded=source and recorded_beside(source))
    raise typer.Exit(import_from(importer, source))


@past_app.command()
def erase(
    *,
    ids: Annotated[list[str] | None, typer.Option("--id", help="An event's id; as often as needed.")] = None,
    types: Annotated[
        str | None, typer.Option("--type", "--types", "-t", help="Which types: 'error,critic.*'.", metavar="FILTER")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", "--since", help="Not older: a time, or 5m ago.")] = None,
    until: Annotated[str | None, typer.Option("--to", "--until", help="Not newer: a time, or 5m ago.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Forget events: in the archive, the stream and the bridges' memory; those that all of the options name."""
    from datetime import UTC, datetime

    from broadcast.cli.erase import erase as run_erase
    from broadcast.cli.which_archive import archive_settings
    from broadcast.log.erasure import Erasure

    erasure = Erasure.asked(ids=ids or (), types=types, since=since, until=until, now=datetime.now(UTC))
    settings = archive_settings(redis_url, database_url, is_needed=False)
    raise typer.Exit(run_erase(settings, erasure, is_agreed=yes))
