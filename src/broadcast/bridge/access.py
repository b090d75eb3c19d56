"""Who may do what: by a token, or by what is allowed without one."""

from __future__ import annotations

import ipaddress
import secrets as chance
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from broadcast.bridge.grant import Grant
from broadcast.bridge.tokens import AUDIENCE, encode_token, read_token
from broadcast.errors import FilterError, RequestError, SettingError
from broadcast.filters import ALL, parse_allowed
from broadcast.settings import Settings

__all__ = ["Access", "Grant", "is_loopback", "issue_token"]

TOKEN_ID_BYTES: Final = 12


class Access:
    """Decides about viewers and producers.

    Args:
        settings: host, secrets and anonymous.
        is_revoked: whether a token is, by its identity.
        knows_revoked: whether that is known yet.

    Raises:
        SettingError: the server would be open to others without anybody having said so.
    """

    def __init__(
        self,
        settings: Settings,
        is_revoked: Callable[[str], bool] = lambda _: False,
        *,
        knows_revoked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._secrets = tuple(filter(None, (settings.secret, settings.secret_previous)))
        self._is_revoked = is_revoked
        self._knows_revoked = knows_revoked
        self.is_unsaid = not self._secrets and not settings.anonymous
        """Whether nobody has said who may read: this machine may, then, and nothing that a proxy brings from others."""
        self.seal_key = (
            blake2b(self._secrets[0].encode(), person=b"seal").digest() if self._secrets else chance.token_bytes()
        )
        """With this, what must tell nobody anything is digested: the same on every bridge that has the same secret."""
        self._anonymous = _anonymous_grant(settings)
        if self.is_unsaid and not is_loopback(settings.host):
            raise SettingError(
                f"BROADCAST_HOST={settings.host} lets other machines in, and nothing says who may read. Set "
                "BROADCAST_SECRET to 32 bytes or more (viewers then need a token: `broadcast token issue`), or "
                "BROADCAST_ANONYMOUS=read to let everybody read"
            )

    @property
    def anonymous_types(self) -> tuple[str, ...]:
        """The patterns of what is read without a token; empty for nothing."""
        return () if self._anonymous is None else self._anonymous.filter.patterns

    @property
    def has_secrets(self) -> bool:
        """Whether there are tokens at all."""
        return bool(self._secrets)

    def grant(self, token: str | None) -> Grant:
        """What this viewer may see.

        Raises:
            RequestError: it needs a token, or has one that is not valid.
        """
        if token is not None and self._secrets:
            return self._verified(token)
        if self._anonymous is None:
            raise RequestError("unauthorized", "auth.token: a token is needed here")
        return self._anonymous

    def renewed(self, token: str) -> Grant:
        """What a fresh token allows, which a viewer presents on its open connection.

        Raises:
            RequestError: it is not valid; or there is no secret, so that none is.
        """
        if not self._secrets:
            raise RequestError("unauthorized", "token: BROADCAST_SECRET is not set here, so no token is valid")
        return self._verified(token)

    def refuse_ended(self, grant: Grant) -> None:
        """For whoever goes on for long: look whether a grant still holds.

        Raises:
            RequestError: it has expired, or was revoked.
        """
        if grant.expires_at is not None and grant.expires_at <= time.time():
            raise RequestError("expired", "auth.token: it has expired")
        self._refuse_revoked(grant)

    def refuse_early(self, grant: Grant) -> None:
        """For whoever is answered at once: look whether it is known yet which tokens are revoked.

        Raises:
            RequestError: it is not, and this grant is a token's.
        """
        if grant.token_id is not None and not self._knows_revoked():
            raise RequestError("unavailable", "auth.token: it is not known yet whether it was revoked")

    def _refuse_revoked(self, grant: Grant) -> None:
        if grant.token_id is not None and self._is_revoked(grant.token_id):
            raise RequestError("revoked", "auth.token: it was revoked")

    def _verified(self, token: str) -> Grant:
        grant = read_token(token, self._secrets, now_s=time.time())
        self._refuse_revoked(grant)
        return grant


def issue_token(
    secret: str,
    *,
    subject: str,
    types: str | None,
    ttl_s: float,
    is_admin: bool = False,
    emit: bool | str = False,
    replay: dict[str, Any] | None = None,
) -> str:
    """Make a token.

    Args:
        secret: `BROADCAST_SECRET`.
        subject: whom it is for.
        types: the filter it is limited to; None for none.
        ttl_s: how long it is valid, seconds.
        is_admin: whether it may see who is connected.
        emit: whether it may emit, or a filter of what.
        replay: how far back it may read and how many: `{"back": "1h", "count": 500}`; None for no bound.

    Raises:
        FilterError: `types` or `emit` holds what is no pattern.
        RequestError: another claim is not what it should be.
        SettingError: there is no secret.
    """
    now = int(time.time())
    claims: dict[str, Any] = {"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + int(ttl_s)}
    claims["jti"] = _fresh_id()
    if types is not None:
        claims["types"] = list(parse_allowed("types", types).patterns)
    if is_admin:
        claims["admin"] = True
    if emit is not False:
        claims["emit"] = True if emit is True else _as_given(emit)
    if replay is not None:
        claims["replay"] = replay
    token = encode_token(secret, claims)
    if ttl_s > 0:
        read_token(token, (secret,), now_s=now)  # what we would refuse, we do not sign
    return token


def _as_given(emit: str) -> list[str]:
    """Patterns as they were written: in the canonical form `*` has swallowed a `broadcast.` type that was named."""
    parse_allowed("emit", emit)
    return [part.strip() for part in emit.split(",") if part.strip()]


def _fresh_id() -> str:
    """Nothing that a command would take for an option."""
    while (made := chance.token_urlsafe(TOKEN_ID_BYTES)).startswith("-"):
        pass
    return made


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
            return Grant(parse_allowed("types", settings.anonymous))
        except FilterError as error:
            raise SettingError(f"BROADCAST_ANONYMOUS: expected 'read' or a type filter; {error}") from None
    has_secret = bool(settings.secret or settings.secret_previous)
    return Grant(ALL) if is_loopback(settings.host) and not has_secret else None
