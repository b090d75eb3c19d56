"""`broadcast token …`: tokens made, looked at and revoked. What is printed never holds the secret."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from broadcast.addresses import parse_address
from broadcast.bridge.grant import Grant
from broadcast.bridge.revocation import REVOKE_LUA, revocation_keys
from broadcast.bridge.tokens import claims_of, end_of, read_token, token_id
from broadcast.digest import printable
from broadcast.discovery import locate
from broadcast.errors import BroadcastError, RequestError, SettingError
from broadcast.settings import Settings

__all__ = ["inspect", "replay_claim", "revoke"]

TIMEOUT_S: Final = 5.0


def replay_claim(text: str | None) -> dict[str, Any] | None:
    """Read `1h`, `500` or `1h,500`: how far back, and how many.

    Raises:
        SettingError: it is none of these.
    """
    if text is None:
        return None
    claim: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(",")):
        name = "count" if part.isascii() and part.isdigit() and len(part) <= 9 else "back"
        if name in claim or not part:
            raise SettingError(f"--replay: expected a duration, a number, or both, as 1h,500, got {text!r}")
        claim[name] = int(part) if name == "count" else part
    return claim


def inspect(settings: Settings, text: str) -> int:
    """Say what a token claims, and whether it is valid here.

    Returns:
        0 if it is, 1 if it is not, 2 if nobody can say, since Redis cannot be asked whether it was revoked.
    """
    token = _given(text)
    secrets = _secrets(settings)
    try:
        for name, value in claims_of(token).items():
            _say(name, _shown(name, value))
        if not secrets:
            raise RequestError("unauthorized", "BROADCAST_SECRET is not set: its signature cannot be looked at")
        grant = read_token(token, secrets, now_s=time.time())
        _refuse_revoked(settings, grant)
    except RequestError as error:
        _say("valid", f"no: {error.message.removeprefix('auth.token: ')}")
        return 1
    except (BroadcastError, redis.RedisError, OSError) as error:
        _say("valid", f"not known: whether it was revoked cannot be asked: {error}")
        return 2
    _say("valid", "yes")
    return 0


def revoke(settings: Settings, text: str, *, jti: str | None = None, until_s: float) -> int:
    """Revoke a token: every bridge ends its viewers within two seconds, and lets it in no more.

    Args:
        settings: where Redis is, and the secrets.
        text: the token, its `jti`, or `-` for the token on standard input.
        jti: its `jti`, whatever that looks like, in the place of the text.
        until_s: until when a `jti` is kept, seconds since 1970, and a token that none of our secrets has signed: what
            that says of its end, anybody can have written. One of ours says itself when it ends.

    Returns:
        0.

    Raises:
        SettingError: neither is given, or both are.
        RequestError: what looks like a token is none.
        BroadcastError: Redis does not answer, or refuses.
    """
    if jti is not None and text:
        raise SettingError("expected a token or --jti, got both")
    given = _given(text if jti is None else jti)
    name, end_s = given, until_s
    if jti is None and given.count(".") == 2:
        claims = claims_of(given)
        name, ends_s = token_id(given, claims), end_of(given, claims, _secrets(settings))
        end_s = until_s if ends_s is None else ends_s
    if end_s <= time.time():
        sys.stderr.write("broadcast: it has ended already\n")
        return 0
    with _client(settings) as client:
        try:
            client.eval(REVOKE_LUA, 2, *revocation_keys(settings.stream), name, int(end_s) + 1)
        except (redis.RedisError, OSError) as error:
            raise BroadcastError(f"not revoked: {error}{_of_whom(error)}") from None
    sys.stderr.write(f"broadcast: revoked {printable(name)} until {_moment(end_s)}\n")
    return 0


def _secrets(settings: Settings) -> tuple[str, ...]:
    return tuple(filter(None, (settings.secret, settings.secret_previous)))


def _refuse_revoked(settings: Settings, grant: Grant) -> None:
    with _client(settings) as client:
        end: Any = client.zscore(revocation_keys(settings.stream)[0], grant.token_id or "")
    if end is not None:
        raise RequestError("revoked", "it was revoked")


def _of_whom(error: Exception) -> str:
    return "; the accounts that may are warden and admin: --redis-url" if isinstance(error, NoPermissionError) else ""


def _client(settings: Settings) -> Any:
    try:
        url = locate(parse_address(settings.redis_url), settings.stream)
    except (redis.RedisError, OSError) as error:
        raise BroadcastError(f"Redis is not to be found: {error}") from None
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_connect_timeout": TIMEOUT_S}
    made: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url, socket_timeout=TIMEOUT_S, protocol=2, retry=Retry(NoBackoff(), 0), **options
    )
    return made


def _given(text: str) -> str:
    given = (sys.stdin.read() if text == "-" else text).strip()
    if not given:
        raise SettingError("expected a token, or - and the token on standard input, got nothing")
    return given


def _say(name: str, text: str) -> None:
    sys.stdout.write(f"{printable(name):<8} {printable(text)}\n")


def _shown(name: str, value: object) -> str:
    is_moment = name in ("exp", "iat", "nbf") and isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value} ({_moment(float(str(value)))})" if is_moment else f"{value}"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "no moment"
