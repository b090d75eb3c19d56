"""Where a token may stand in an HTTP request: a header, or for an EventSource a cookie; never an address. Pure.

Addresses are kept in logs, histories and Referer headers. A cookie is sent by the browser itself, whatever page asks:
so it counts for reading alone, only where the browser does not say that another site asks, and never where every page
may connect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from broadcast.bridge.requests import bearer_token
from broadcast.errors import RequestError

__all__ = [
    "IN_ADDRESS",
    "TOKEN_NAMES",
    "cleared_cookies",
    "cookie_of",
    "has_secret_in_address",
    "token_of",
]

COOKIE: Final = "broadcast_token"
SECURE_COOKIE: Final = f"__Host-{COOKIE}"
"""Browsers take this name only over https, for one host alone, and so from no neighbour of its domain."""
IN_ADDRESS: Final = "token: never in an address, which logs keep; send `Authorization: Bearer …`, or `auth.token`"
TOKEN_NAMES: Final = frozenset({"token", "access_token", "auth_token", "id_token", "jwt", "bearer", "authorization"})
TOKEN: Final = re.compile(r"\s*(?:[Bb]earer\s+)?eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}")
"""What is a token under whatever name: its first part begins with `{"`."""


def has_secret_in_address(query: str | bytes) -> bool:
    """Whether a query carries what looks like a token."""
    text = query.decode("latin-1") if isinstance(query, bytes) else query
    lowered = text.lower()
    if not any(part in lowered for part in ("tok", "jwt", "eyj", "bearer", "authorization", "%")):
        return False
    fields = parse_qsl(text, keep_blank_values=True)
    return any(name.lower() in TOKEN_NAMES or TOKEN.match(value) is not None for name, value in fields)


def token_of(headers: Mapping[str, str], *, may_be_cookie: bool, is_https: bool) -> str | None:
    """The token of a request; None if there is none.

    Args:
        headers: the request's, names in lower case.
        may_be_cookie: whether it only reads, and not every page may connect.
        is_https: whether it came by https, where a cookie of the other name is somebody else's.

    Raises:
        RequestError: there are two cookies that do not agree; one of them is somebody else's.
    """
    token = bearer_token(headers.get("authorization"))
    if token is not None or not may_be_cookie or headers.get("sec-fetch-site", "none") == "cross-site":
        return token
    return _in_cookies(headers.get("cookie", ""), _named(is_https))


def _in_cookies(text: str, wanted: str) -> str | None:
    cookies = [(name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in text.split(";"))]
    found = {value for name, value in cookies if name == wanted and value}
    if len(found) > 1:
        raise RequestError("unauthorized", f"cookie {wanted}: it is there twice")
    return found.pop() if found else None


def cookie_of(token: str, *, max_age_s: int, is_https: bool) -> str:
    """The Set-Cookie header that hands a token to the browser, for as long as it is valid."""
    return f"{_named(is_https)}={token}; Max-Age={max_age_s}{_attributes(is_https)}"


def cleared_cookies(*, is_https: bool) -> list[str]:
    """The Set-Cookie headers that take it away again; over https also one from when the page came without."""
    names = [SECURE_COOKIE, COOKIE] if is_https else [COOKIE]
    return [f"{name}=; Max-Age=0{_attributes(is_https)}" for name in names]


def _named(is_https: bool) -> str:
    return SECURE_COOKIE if is_https else COOKIE


def _attributes(is_https: bool) -> str:
    return f"; Path=/; HttpOnly; SameSite=Strict{'; Secure' if is_https else ''}"
