"""Where the bridge of this machine's settings is reached from this machine."""

from __future__ import annotations

import ssl
import urllib.request
from typing import Any, Final

from broadcast.settings import Settings

__all__ = ["ask_bridge", "bridge_url"]

# Bound to every address, a server is reached on loopback.
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a bind


def bridge_url(settings: Settings) -> str:
    """The bridge's address as a browser or a health check on this machine uses it, without a slash behind it."""
    host = _LOOPBACK_OF.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert else 'http'}://{shown}:{settings.port}"


def ask_bridge(settings: Settings, path: str, *, timeout_s: float) -> Any:
    """Open a path of this machine's bridge.

    Args:
        settings: the bridge's.
        path: as `/readyz`.
        timeout_s: how long it may take, seconds.

    Raises:
        OSError: nobody answers, or with an error (`urllib.error.HTTPError`).
    """
    return urllib.request.urlopen(f"{bridge_url(settings)}{path}", timeout=timeout_s, context=_trust(settings))  # noqa: S310 - always http


def _trust(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    # It is our own: its very certificate is asked for, whatever name stands in it.
    context = ssl.create_default_context(cafile=settings.tls_cert)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
