"""Which archive a command means: the one that is named, else that of the `broadcast up` that runs here."""

from __future__ import annotations

import os
from importlib.util import find_spec

from broadcast.addresses import parse_address
from broadcast.cli.running import Running, running_here
from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["archive_settings"]


def archive_settings(redis_url: str | None, database_url: str | None, *, is_needed: bool = True) -> Settings:
    """All settings, with the archive's address where there is one.

    Args:
        redis_url: where Redis listens; None reads `REDIS_URL`.
        database_url: where the archive is; None reads `DATABASE_URL`.
        is_needed: whether the command is nothing without an archive.

    Raises:
        SettingError: it is, and there is none; several run here, and none of them is named; or an address is none.
    """
    settings = Settings.from_environment(redis_url=redis_url, database_url=database_url)
    if not settings.database_url:
        is_named = redis_url is not None or "REDIS_URL" in os.environ
        # Both addresses or neither: the archive of one log beside another log would be neither's.
        meant = [each for each in running_here() if not is_named or each.redis_url == settings.redis_url]
        if len(meant) > 1:
            raise SettingError(
                f"which one is meant? {_listed(meant)}. Set REDIS_URL; DATABASE_URL where that is the same"
            )
        if meant:
            settings = settings.with_changes(redis_url=meant[0].redis_url, database_url=meant[0].database_url)
    if is_needed and not settings.database_url:
        raise SettingError(
            "no archive: set DATABASE_URL, or --database-url; `broadcast up` prints that of its own as it starts"
        )
    if settings.database_url and find_spec("psycopg") is None:
        raise SettingError("psycopg is missing: pip install 'v5-broadcast[archive]'")
    return settings


def _listed(running: list[Running]) -> str:
    """What runs, as people see it: an address may hold a password."""
    return ", ".join(
        f"the `broadcast up` of process {each.pid} has {parse_address(each.redis_url).shown()}" for each in running
    )
