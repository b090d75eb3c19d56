"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DatabaseUrl", "Keep", "RedisUrl", "Sought", "Types"]

RedisUrl = Annotated[str | None, typer.Option(help="Where Redis listens; else REDIS_URL.", metavar="URL")]
Types = Annotated[
    str | None, typer.Option("--types", "-t", help="Which types: 'sense.*,-sense.all'.", metavar="FILTER")
]

Sought = Annotated[
    str,
    typer.Option(
        "--filter", "-f", help="As the page's filter box: 'error', 'rain -wind', 'cycle:41'.", metavar="TERMS"
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="Where the archive is; else DATABASE_URL, else that of `broadcast up`.", metavar="URL"),
]
Keep = Annotated[
    str | None,
    typer.Option(help="Drop from the archive what is older, a week at a time: 365d; else nothing.", metavar="TIME"),
]
