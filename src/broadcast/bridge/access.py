"""What a viewer may see: its token, or what is allowed without one."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from typing import Any, Final, cast

import jwt

from broadcast.errors import FilterError, RequestError, SettingError
from broadcast.filters import ALL, Filter, parse_filter
from broadcast.settings import Settings

__all__ = ["Access", "Grant", "is_loopback", "issue_token"]

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "broadcast"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one viewer may see, and until when."""

    filter: Filter
    """Enforced here, whatever the viewer subscribes to."""
    subject: str = "anonymous"
    expires_at: float | None = None
    """Seconds since 1970; None for no end."""
    is_admin: bool = False
    """Whether it may see who is connected."""


class Access:
    """Decides about viewers.

    Args:
        settings: host, secret and anonymous.

    Raises:
        SettingError: the server would be open to others without anybody having said so.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.secret
        self._anonymous = _anonymous_grant(settings)
        if not is_loopback(settings.host) and not settings.secret and not settings.anonymous:
            raise SettingError(
                f"BROADCAST_HOST={settings.host} lets other machines in, and nothing says who may read. Set "
                "BROADCAST_SECRET to 32 bytes or more (viewers then need a token: `broadcast token issue`), or "
                "BROADCAST_ANONYMOUS=read to let everybody read"
            )

    def grant(self, token: str | None) -> Grant:
        """What this viewer may see.

        Raises:
            RequestError: it needs a token, or has one that is not valid.
        """
        if token is not None and self._secret:
            return self._verified(token)
        if self._anonymous is None:
            raise RequestError("unauthorized", "auth.token: a token is needed here")
        return self._anonymous

    def _verified(self, token: str) -> Grant:
        try:
            claims = cast("Any", jwt).decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": ["exp", "sub"]},
            )
            allowed = parse_filter(claims.get("types"))
        except jwt.ExpiredSignatureError:
            raise RequestError("expired", "auth.token: it has expired") from None
        except (jwt.PyJWTError, FilterError) as error:
            raise RequestError("unauthorized", f"auth.token: not valid ({error})") from None
        return Grant(allowed, str(claims["sub"]), float(claims["exp"]), claims.get("admin") is True)


def issue_token(secret: str, *, subject: str, types: str | None, ttl_s: float, is_admin: bool = False) -> str:
    """Make a token.

    Args:
        secret: `BROADCAST_SECRET`.
        subject: whom it is for.
        types: the filter it is limited to; None for none.
        ttl_s: how long it is valid, seconds.
        is_admin: whether it may see who is connected.

    Raises:
        FilterError: `types` holds what is no pattern.
        SettingError: there is no secret.
    """
    if not secret:
        raise SettingError("BROADCAST_SECRET is not set: there is nothing to sign a token with")
    now = int(time.time())
    claims: dict[str, Any] = {"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + int(ttl_s)}
    if types is not None:
        claims["types"] = list(parse_filter(types).patterns)
    if is_admin:
        claims["admin"] = True
    return cast("Any", jwt).encode(claims, secret, algorithm=ALGORITHM)


def is_loopback(host: str) -> bool:
    """Whether binding this host lets only this machine in."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _anonymous_grant(settings: Settings) -> Grant | None:
    if settings.anonymous == "read":
        return Grant(ALL)
    if settings.anonymous:
        try:
            return Grant(parse_filter(settings.anonymous))
        except FilterError as error:
            raise SettingError(f"BROADCAST_ANONYMOUS: expected 'read' or a type filter; {error}") from None
    return Grant(ALL) if is_loopback(settings.host) and not settings.secret else None
