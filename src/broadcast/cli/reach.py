"""Where the bridge of this machine's settings is reached from this machine."""

from __future__ import annotations

import ssl
import urllib.request
from typing import Any, Final

from broadcast.settings import Settings

__all__ = ["ask_bridge", "bridge_url"]

TOKEN_S: Final = 60

# Bound to every address, a server is reached on loopback.
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a bind


def bridge_url(settings: Settings) -> str:
    """The bridge's address as a browser or a health check on this machine uses it, without a slash behind it."""
    host = _LOOPBACK_OF.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert else 'http'}://{shown}:{settings.port}"


def ask_bridge(settings: Settings, path: str, *, timeout_s: float) -> Any:
    """Open a path of this machine's bridge, as an administrator where the settings hold the secret.

    Args:
        settings: the bridge's.
        path: as `/readyz`.
        timeout_s: how long it may take, seconds.

    Raises:
        OSError: nobody answers, or with an error (`urllib.error.HTTPError`).
    """
    request = urllib.request.Request(f"{bridge_url(settings)}{path}", headers=_credentials(settings))  # noqa: S310 - always http
    return urllib.request.urlopen(request, timeout=timeout_s, context=_trust(settings))  # noqa: S310 - always http


def _credentials(settings: Settings) -> dict[str, str]:
    if not settings.secret:
        return {}
    try:
        from broadcast.bridge.access import issue_token
    except ImportError:  # what a bridge needs is not installed here: then it is asked as a stranger
        return {}
    token = issue_token(settings.secret, subject="this machine", types="-*", ttl_s=TOKEN_S, is_admin=True)
    return {"Authorization": f"Bearer {token}"}


def _trust(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    # It is our own: its very certificate is asked for, whatever name stands in it.
    context = ssl.create_default_context(cafile=settings.tls_cert)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
