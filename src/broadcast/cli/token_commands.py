"""`broadcast token`: make tokens of viewers, look at them, take them back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from broadcast.cli.options import RedisUrl
from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["token_app"]

token_app = typer.Typer(no_args_is_help=True, help="Tokens of viewers.")


@token_app.command("issue")
def issue(
    sub: Annotated[str, typer.Option(help="Whom it is for.")],
    *,
    types: Annotated[
        str | None,
        typer.Option(
            "--types",
            "-t",
            help="Which types it reads: 'sense.*,-sense.all'; all by default, with --emit or --admin none.",
            metavar="FILTER",
        ),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid: 30m, 1h, 7d.")] = "1h",
    replay: Annotated[
        str | None,
        typer.Option(help="How much of the past: 1h, 500 or 1h,500; 0 = none; all by default.", metavar="BACK,COUNT"),
    ] = None,
    emit: Annotated[bool, typer.Option("--emit", help="It may emit events (POST /events).")] = False,
    emit_types: Annotated[str | None, typer.Option(help="It may emit these.", metavar="FILTER")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may see who is connected.")] = False,
) -> None:
    """Print a token, signed with BROADCAST_SECRET."""
    from broadcast.bridge.access import issue_token
    from broadcast.cli.duration import seconds_of
    from broadcast.cli.token import replay_claim

    if types is None and (admin or emit or emit_types is not None):
        # It will lie in files of machines that watch or emit: it reads what the mind says only if somebody wants that.
        types = "-*"
        typer.echo("broadcast: it reads no events; --types '*' lets it", err=True)
    if (ttl_s := seconds_of(ttl)) == 0:
        raise SettingError("--ttl: expected a duration such as 30m, 1h or 7d, got none: it would have ended already")
    secret = Settings.from_environment().secret
    token = issue_token(
        secret,
        subject=sub,
        types=types,
        ttl_s=ttl_s,
        is_admin=admin,
        emit=emit if emit_types is None else emit_types,
        replay=replay_claim(replay),
    )
    typer.echo(token)


Token = Annotated[str, typer.Argument(metavar="TOKEN|-", help="The token; - reads standard input.")]


@token_app.command("inspect")
def inspect(token: Token, *, redis_url: RedisUrl = None) -> None:
    """Say what a token claims, and whether it is valid."""
    from broadcast.cli.token import inspect as run_inspect

    raise typer.Exit(run_inspect(Settings.from_environment(redis_url=redis_url), token))


@token_app.command("revoke")
def revoke(
    token: Annotated[
        str, typer.Argument(metavar="JTI|TOKEN|-", help="The token, or its jti; - reads standard input.")
    ] = "",
    *,
    jti: Annotated[
        str | None, typer.Option(help="The jti, whatever it looks like; in the place of JTI|TOKEN|-.", metavar="JTI")
    ] = None,
    until: Annotated[str, typer.Option(help="How long a jti is kept; at least what is left of its token.")] = "3650d",
    redis_url: RedisUrl = None,
) -> None:
    """Revoke a token: every bridge ends its viewers within two seconds."""
    from broadcast.cli.duration import seconds_of
    from broadcast.cli.token import revoke as run_revoke

    settings = Settings.from_environment(redis_url=redis_url)
    raise typer.Exit(run_revoke(settings, token, jti=jti, until_s=time.time() + seconds_of(until)))
