"""Every exception this package raises, and every error code it puts on the wire.

    BroadcastError
    ├── SettingError        a setting or an argument has a value nobody can work with
    ├── FilterError         a type pattern is not one
    ├── PositionError       a position in the log is not one
    ├── EventError          bytes that should be an event are not
    ├── UnreachableError    Redis does not answer where an answer is needed (never raised by `emit`)
    └── RequestError        a viewer's request is refused; carries a `Code`

`emit()` raises none of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "CODES",
    "BroadcastError",
    "Code",
    "EventError",
    "FilterError",
    "PositionError",
    "RequestError",
    "SettingError",
    "UnreachableError",
]


class Code(NamedTuple):
    """One row of the table of codes that a viewer may meet.

    Args:
        name: what stands in `error.code` and `bye.code`.
        meaning: one sentence for people.
        reconnect: whether coming back later can succeed without a change.
        http_status: the status of the same refusal over HTTP.
    """

    name: str
    meaning: str
    reconnect: bool
    http_status: int


CODES: Final[dict[str, Code]] = {
    code.name: code
    for code in (
        Code("bad_request", "The request is malformed; the message names the field.", False, 400),
        Code("unauthorized", "A token is needed, or the given one is not valid.", False, 401),
        Code("expired", "The token has expired; come back with a fresh one.", True, 401),
        Code("revoked", "The token was revoked; another one is needed.", False, 401),
        Code("forbidden_origin", "This page's origin is not in BROADCAST_ORIGINS.", False, 403),
        Code(
            "forbidden_host",
            "The Host header names a host this server does not serve; BROADCAST_HOSTS names further ones.",
            False,
            403,
        ),
        Code(
            "forbidden_proxy",
            "A proxy brings this, and nobody has said who may read: set BROADCAST_SECRET or BROADCAST_ANONYMOUS.",
            False,
            403,
        ),
        Code("forbidden", "The grant does not allow this.", False, 403),
        Code("not_found", "There is nothing under this name.", False, 404),
        Code("method_not_allowed", "This path takes other methods; Allow names them.", False, 405),
        Code("too_large", "The request's body is larger than is taken.", False, 413),
        Code("conflict", "This Idempotency-Key was used for another request.", False, 422),
        Code("head_too_large", "The request's head is larger than is taken.", False, 431),
        Code("too_many_requests", "Too many requests wait for an answer, or they come too fast.", True, 429),
        Code(
            "too_many_connections",
            "There are too many connections, in all, of this token or from this address.",
            True,
            503,
        ),
        Code("unavailable", "The log cannot be read at the moment.", True, 503),
        Code("shutdown", "The bridge is stopping; come back in a moment.", True, 503),
        Code("too_slow", "The viewer made no progress for too long.", True, 408),
    )
}


class BroadcastError(Exception):
    """The root of everything this package raises."""


class SettingError(BroadcastError, ValueError):
    """A setting or an argument has a value nobody can work with; the text names it and what is accepted."""


class FilterError(BroadcastError, ValueError):
    """A type pattern is not one."""


class PositionError(BroadcastError, ValueError):
    """A position in the log is not one."""


class EventError(BroadcastError, ValueError):
    """Bytes that should be an event are not."""


class UnreachableError(BroadcastError, ConnectionError):
    """Redis does not answer where an answer is needed."""


class RequestError(BroadcastError):
    """A viewer's request is refused.

    Args:
        code: a name in `CODES`.
        message: names the field, the kind of value it had and what is accepted.
        retry_after_s: when it may be worth another try, seconds; None where nothing is known of that.
    """

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = CODES[code]
        self.message = message
        self.retry_after_s = retry_after_s
