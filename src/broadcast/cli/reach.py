"""Where the bridge of this machine's settings is reached from this machine."""

from __future__ import annotations

from typing import Final

from broadcast.settings import Settings

__all__ = ["bridge_url"]

# Bound to every address, a server is reached on loopback.
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a bind


def bridge_url(settings: Settings) -> str:
    """The bridge's address as a browser or a health check on this machine uses it, without a slash behind it."""
    host = _LOOPBACK_OF.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{settings.port}"
