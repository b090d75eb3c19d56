"""Tokens as text: JSON Web Tokens (RFC 7519) with HS256, and nothing else that goes by this name. Pure.

A token is read in three steps: what it is at all (three parts, two JSON objects without a name twice, a header that
says HS256 and demands nothing more), whether one of our secrets signed it, and what it claims.
"""

from __future__ import annotations

import json
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, cast

import jwt

from broadcast.bridge.grant import Grant
from broadcast.errors import FilterError, RequestError, SettingError
from broadcast.filters import ALL, Filter, parse_allowed, parse_filter
from broadcast.log.position import seconds_of

__all__ = ["AUDIENCE", "LEEWAY_S", "TOKEN_CHARS_MAX", "claims_of", "encode_token", "end_of", "read_token", "token_id"]

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "broadcast"
LEEWAY_S: Final = 5.0
"""So far may the clock of whoever issued a token be ahead of ours. Its end is the end: for that there is none."""
TOKEN_CHARS_MAX: Final = 8 * 1024
NAME_CHARS_MAX: Final = 256
PART: Final = re.compile(r"[A-Za-z0-9_-]+")
REPLAY_FIELDS: Final = frozenset({"back", "count"})
EMITS_ALL: Final = parse_filter(["*", "-broadcast.*"])
"""What `emit: true` allows: every type but the package's own, which say what has happened to the log."""


def encode_token(secret: str, claims: Mapping[str, Any]) -> str:
    """Sign some claims.

    Args:
        secret: the first of our secrets.
        claims: as they stand in the token.

    Raises:
        SettingError: there is no secret.
    """
    if not secret:
        raise SettingError("BROADCAST_SECRET is not set: there is nothing to sign a token with")
    return cast("str", cast("Any", jwt).encode(dict(claims), secret, algorithm=ALGORITHM))


def read_token(token: str, secrets: Sequence[str], *, now_s: float) -> Grant:
    """What a token allows.

    Args:
        token: its text.
        secrets: any of them may have signed it.
        now_s: the wall clock, seconds since 1970.

    Raises:
        RequestError: it is not valid (`unauthorized`), or was so once (`expired`). The text never holds the token.
    """
    claims = claims_of(token)
    if not any(_is_signed_with(token, secret) for secret in secrets):
        raise _refused("its signature is none of ours")
    _check_times(claims, now_s)
    _check_audience(claims.get("aud"))
    try:
        return Grant(
            filter=_filter("types", claims["types"]) if "types" in claims else ALL,
            subject=_name("sub", claims.get("sub")),
            expires_at=float(claims["exp"]),
            is_admin=_flag("admin", claims.get("admin")),
            emits=_emits(claims.get("emit")),
            token_id=token_id(token, claims),
            **(_replay(claims["replay"]) if "replay" in claims else {}),
        )
    except FilterError as error:
        raise _refused(str(error)) from None


def token_id(token: str, claims: Mapping[str, Any]) -> str:
    """By what a token is revoked and counted: its `jti`, or where it has none, a digest of what was signed.

    Not of the signature: base64 lets one signature be written in several ways, and each would be a token of its own.
    """
    jti = claims.get("jti")
    if jti is not None:
        return _name("jti", jti)
    return f"sha256-{sha256(token.rpartition('.')[0].encode()).hexdigest()[:32]}"


def end_of(token: str, claims: Mapping[str, Any], secrets: Sequence[str]) -> float | None:
    """When a token ends, in seconds since 1970; None where nobody can say so, since none of our secrets signed it."""
    if not any(_is_signed_with(token, secret) for secret in secrets):
        return None
    try:
        return _moment("exp", claims.get("exp"))
    except RequestError:
        return None


# --- what it is at all


def claims_of(token: str) -> dict[str, Any]:
    """What a token claims, whoever signed it.

    Raises:
        RequestError: it is no token of our kind.
    """
    if len(token) > TOKEN_CHARS_MAX:
        raise _refused(f"longer than {TOKEN_CHARS_MAX} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("a token has three parts, with dots between them")
    if not all(PART.fullmatch(part) for part in parts):
        raise _refused("its parts are base64url, without padding")
    header = _object("header", parts[0])
    if header.get("alg") != ALGORITHM:
        raise _refused(f"alg: expected {ALGORITHM}")
    if "crit" in header:
        raise _refused("crit: it demands what is not known here")
    return _object("claims", parts[1])


def _object(name: str, part: str) -> dict[str, Any]:
    try:
        text = urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        found = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except RepeatError as error:
        raise _refused(f"{name}: {error}") from None
    except (ValueError, RecursionError):
        raise _refused(f"{name}: no JSON in base64url") from None
    if not isinstance(found, dict):
        raise _refused(f"{name}: expected an object")
    return cast("dict[str, Any]", found)


class RepeatError(ValueError):
    """A name stands twice in one object: whoever reads the first, and whoever reads the last, read two tokens."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatError("a name stands there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _is_signed_with(token: str, secret: str) -> bool:
    options = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_sub", "verify_jti"), False)
    try:
        cast("Any", jwt).decode(token, secret, algorithms=[ALGORITHM], options=options)
    except jwt.PyJWTError:
        return False
    return True


# --- what it claims


def _check_times(claims: Mapping[str, Any], now_s: float) -> None:
    expires_s = _moment("exp", claims.get("exp"))
    if expires_s is None:
        raise _refused("exp: expected the second since 1970 in which it ends, got nothing")
    if expires_s <= now_s:
        raise RequestError("expired", "auth.token: it has expired")
    for name in ("nbf", "iat"):
        begins_s = _moment(name, claims.get(name))
        if begins_s is not None and begins_s > now_s + LEEWAY_S:
            raise _refused(f"{name}: it is not valid yet")


def _check_audience(audience: object) -> None:
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    if AUDIENCE not in named:
        raise _refused(f"aud: expected {AUDIENCE!r}")


def _moment(name: str, value: object) -> float | None:
    if value is None:
        return None
    if (
        type(value) not in (int, float)
        or not 0 <= cast("float", value) < 1e12
        or not math.isfinite(cast("float", value))
    ):
        raise _refused(f"{name}: expected seconds since 1970")
    return float(cast("float", value))


def _name(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not value.isprintable():
        raise _refused(f"{name}: expected a text of 1 to {NAME_CHARS_MAX} printable characters")
    return value


def _flag(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return value is True
    raise _refused(f"{name}: expected true or false")


def _filter(name: str, value: object) -> Filter:
    if not isinstance(value, str | list):
        raise _refused(f"{name}: expected a list of patterns")
    return parse_allowed(name, cast("Any", value))


def _emits(value: object) -> Filter | None:
    if isinstance(value, str | list):
        emits = _filter("emit", cast("Any", value))
        given = value.split(",") if isinstance(value, str) else cast("list[object]", value)
        patterns = [str(pattern).strip() for pattern in given]
        return _of_its_own(emits, [pattern for pattern in patterns if pattern.startswith("broadcast.")])
    return EMITS_ALL if _flag("emit", value) else None


def _of_its_own(emits: Filter, named: list[str]) -> Filter:
    """`*` and `-x.*`, too, mean types of one's own: of what the package itself says, only what is named."""
    if "*" not in emits.patterns:
        return emits
    if not named:
        return parse_filter([*emits.patterns, "-broadcast.*"])
    of_package = parse_filter(named).matches

    def matches(event_type: str) -> bool:
        return emits.matches(event_type) and (not event_type.startswith("broadcast.") or of_package(event_type))

    return Filter(emits.patterns, matches)


def _replay(value: object) -> dict[str, Any]:
    """`{"back": "1h", "count": 500}`, either of them; what is empty would be a bound that bounds nothing."""
    fields = cast("dict[str, Any]", value)
    if not isinstance(value, dict) or not value or not fields.keys() <= REPLAY_FIELDS:
        raise _refused('replay: expected an object such as {"back": "1h", "count": 500}')
    back_s, count = seconds_of(fields.get("back")), fields.get("count")
    if "back" in fields and back_s is None:
        raise _refused("replay.back: expected a duration such as '30m', '1h' or '7d'")
    if "count" in fields and (type(count) is not int or count < 0):
        raise _refused("replay.count: expected a whole number of at least 0")
    return {"replay_back_s": back_s, "replay_count_max": count}


def _refused(why: str) -> RequestError:
    return RequestError("unauthorized", f"auth.token: not valid ({why})")
