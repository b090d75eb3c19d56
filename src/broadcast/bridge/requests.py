"""What viewers ask for, read from whatever they send. Pure.

Every refusal names the field, the kind of value it had and what is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast, get_args

from broadcast.errors import FilterError, PositionError, RequestError
from broadcast.filters import Filter, parse_filter
from broadcast.log.position import Since, parse_since

__all__ = [
    "Handshake",
    "Replay",
    "bearer_token",
    "parse_handshake",
    "parse_replay",
    "parse_subscribe",
    "parse_token",
    "wants_recovery",
]

CATCHUP_DEFAULT: Final = 50
REPLAY_DEFAULT: Final = 100
REPLAY_MAX: Final = 1_000
Policy = Literal["gap", "latest", "close"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a viewer says when it connects."""

    filter: Filter
    since: Since
    """Where to go on; without a position it is caught up with the newest events."""
    catchup: int
    """How many of those."""
    token: str | None
    policy: Policy = "gap"
    """What is to be done if it is too slow: `gap` tells what it lacks and goes on, `latest` leaves out all that it did
    not take in time, `close` ends it rather than leave anything out."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A request for the past."""

    filter: Filter | None
    """None: the viewer's own filter."""
    count: int
    since: Since
    """Without a position: the newest `count`."""
    until_ts: str | None

    def covers(self, ts: str) -> bool:
        """Whether an event of this `ts` lies between the times that were asked for, both included."""
        return (self.since.ts or "") <= ts and (self.until_ts is None or ts <= self.until_ts)


def parse_handshake(auth: object, *, now: datetime) -> Handshake:
    """Read the handshake's `auth`.

    Raises:
        RequestError: a field is not what it should be.
    """
    fields = _object("auth", auth)
    recovered = _recovered(fields, now)
    token = fields.get("token")
    if token is not None and not isinstance(token, str):
        raise _refused("auth.token", "a text", token)
    return Handshake(
        filter=_filter(fields.get("types")),
        since=_later(recovered, _since(fields.get("since"), now)),
        catchup=_count("auth.catchup", fields.get("catchup"), CATCHUP_DEFAULT, least=0),
        token=token,
        policy=_policy(fields.get("policy")),
    )


def wants_recovery(auth: object, headers: Mapping[str, str]) -> bool:
    """Whether to speak Socket.IO's own connection state recovery: to browsers, and to whoever asks with `recovery`.

    Other clients of old may hand an event's last argument, the id, to a function that takes but one.
    """
    asked = cast("dict[str, Any]", auth).get("recovery") if isinstance(auth, dict) else None
    return asked is True or (asked is not False and ("origin" in headers or "sec-fetch-mode" in headers))


def _recovered(fields: dict[str, Any], now: datetime) -> Since:
    """What a stock client says by itself when it comes back: `pid`, which is our epoch, and the last id it had."""
    epoch, offset = fields.get("pid"), fields.get("offset")
    try:
        if isinstance(epoch, str) and isinstance(offset, str):
            return parse_since({"id": offset, "epoch": epoch}, now=now)
    except PositionError:  # of another server than ours, that was reached under the same address before
        pass
    return Since(None)


def parse_subscribe(data: object) -> Filter:
    """Read `subscribe {types}`.

    Raises:
        RequestError: there are no types, or they are no patterns.
    """
    fields = _object("subscribe", data)
    if "types" not in fields:
        raise _refused("types", "a list of patterns", None)
    return _filter(fields["types"])


def parse_token(data: object) -> str:
    """Read `token {token}`.

    Raises:
        RequestError: there is none.
    """
    token = _object("token", data).get("token")
    if not isinstance(token, str):
        raise _refused("token", "a text", token)
    return token


def parse_replay(data: object, *, now: datetime) -> Replay:
    """Read `replay {count | since | from, to, types}`.

    Raises:
        RequestError: a field is not what it should be.
    """
    fields = _object("replay", data)
    if "speed" in fields:
        raise RequestError("bad_request", "speed: timed replay is not in this version")
    if "since" in fields and "from" in fields:
        raise RequestError("bad_request", "since, from: give one of them")
    begin = fields.get("since", fields.get("from"))
    count = _count("count", fields.get("count"), REPLAY_MAX if begin is not None else REPLAY_DEFAULT, least=1)
    until = _since(fields.get("to"), now)
    if until.position is not None and until.ts is None:
        raise RequestError("bad_request", "to: expected a time or a duration ago, got an id")
    types = fields.get("types")
    return Replay(None if types is None else _filter(types), count, _since(begin, now), until.ts)


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header; None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def utc_now() -> datetime:
    """The present time, for those who hand it to the functions here."""
    return datetime.now(UTC)


def _object(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused(name, "an object", value)
    return cast("dict[str, Any]", value)


def _filter(types: object) -> Filter:
    try:
        return parse_filter(cast("Any", types))
    except FilterError as error:
        raise RequestError("bad_request", str(error)) from None


def _policy(value: object) -> Policy:
    if value is None:
        return "gap"
    if value in get_args(Policy):
        return cast("Policy", value)
    raise _refused("auth.policy", "'gap', 'latest' or 'close'", value)


def _since(value: object, now: datetime) -> Since:
    try:
        return parse_since(value, now=now)
    except PositionError as error:
        raise RequestError("bad_request", str(error)) from None


def _later(recovered: Since, since: Since) -> Since:
    """Where a client goes on that says it twice: by itself, and by what its page was written with.

    A page that keeps its place says it better, since it knows `n`, too; a `since` that stays the same is older.
    """
    if recovered.position is None:
        return since
    is_kept = since.position is not None and since.ts is None and since.position.id >= recovered.position.id
    return since if is_kept else recovered


def _count(name: str, value: object, default: int, *, least: int) -> int:
    if value is None:
        return default
    # A browser may say 100.0; a client may ask for more than there is: it gets the most that is given.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < least:
        raise _refused(name, f"a whole number of at least {least}", value)
    return min(value, REPLAY_MAX)


def _refused(name: str, expected: str, value: object) -> RequestError:
    return RequestError("bad_request", f"{name}: expected {expected}, got {_kind(value)}")


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        str: "a text",
        list: "a list",
        dict: "an object",
        type(None): "nothing",
        bool: "a boolean",
        bytes: "bytes",
    }
    number = f"the number {value}"[:60] if isinstance(value, int | float) else "something else"
    return kinds.get(type(value), number)
