"""The environment of a measured process: this one's, without settings of `broadcast` that happen to be in it."""

from __future__ import annotations

import os


def environment(redis_url: str, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROADCAST_", "REDIS_URL"))}
    return {**kept, "REDIS_URL": redis_url, **variables}
