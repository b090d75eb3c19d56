"""The environment of a measured process: this one's, without settings of `broadcast` that happen to be in it."""

from __future__ import annotations

import os


def environment(redis_url: str, **variables: str) -> dict[str, str]:
    # Nor without the byte code that every other start of a program finds.
    unwanted = ("BROADCAST_", "REDIS_URL", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "REDIS_URL": redis_url, **variables}
