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
from broadcast.log.pacing import IDLE_S, SPEED_MAX, SPEED_MIN
from broadcast.log.position import Since, parse_since

__all__ = [
    "Control",
    "Handshake",
    "Replay",
    "TimedRequest",
    "bearer_token",
    "parse_control",
    "parse_handshake",
    "parse_replay",
    "parse_subscribe",
    "parse_token",
    "wants_recovery",
]

CATCHUP_DEFAULT: Final = 50
REPLAY_DEFAULT: Final = 100
REPLAY_MAX: Final = 1_000
IDLE_MAX_S: Final = 3600.0
SPEEDS: Final = f"a number from {SPEED_MIN:g} to {SPEED_MAX:g}"
Policy = Literal["gap", "latest", "close"]
Action = Literal["pause", "resume", "seek", "speed", "cancel", "state"]


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
    until: Since
    """Where it ends, inclusive: a place, a time by `ts`, or a cycle with all of it; without any, where it stands."""


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request for the past at a pace."""

    filter: Filter | None
    """None: the viewer's own filter."""
    since: Since
    until: Since
    """Where it ends, likewise; without any, with what is newest when it begins."""
    speed: float
    idle_s: float
    """No wait is longer than this."""


@dataclass(frozen=True, slots=True)
class Control:
    """What is to become of a timed replay."""

    replay: str
    action: Action
    since: Since
    """Where a `seek` leads to."""
    speed: float | None
    """From now on; None leaves it."""


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


def parse_replay(data: object, *, now: datetime) -> Replay | TimedRequest:
    """Read `replay {count | since | from, to, types, speed, idle_s}`.

    Raises:
        RequestError: a field is not what it should be.
    """
    fields = _object("replay", data)
    if "since" in fields and "from" in fields:
        raise RequestError("bad_request", "since, from: give one of them")
    begin = fields.get("since", fields.get("from"))
    until = _since(fields.get("to"), now)
    types = None if fields.get("types") is None else _filter(fields["types"])
    if fields.get("speed") is not None:
        speed, idle_s = _speed(fields["speed"]), _idle_s(fields.get("idle_s"))
        if begin is None:
            raise RequestError("bad_request", "since: expected where a timed replay begins, got nothing")
        return TimedRequest(types, _since(begin, now), until, speed, idle_s)
    count = _count("count", fields.get("count"), REPLAY_MAX if begin is not None else REPLAY_DEFAULT, least=1)
    return Replay(types, count, _since(begin, now), until)


def parse_control(data: object, *, now: datetime) -> Control:
    """Read `replay.control {replay, action, to | since, speed}`.

    Raises:
        RequestError: a field is not what it should be.
    """
    fields = _object("replay.control", data)
    replay, action = fields.get("replay"), fields.get("action")
    if not isinstance(replay, str):
        raise _refused("replay", "the text that `replay` was answered with", replay)
    if action not in get_args(Action):
        raise _refused("action", "'pause', 'resume', 'seek', 'speed', 'cancel' or 'state'", action)
    place = fields.get("to", fields.get("since"))
    if action == "seek" and place is None:
        raise RequestError("bad_request", "to: expected where to go on, got nothing")
    if action == "speed" and fields.get("speed") is None:
        raise _refused("speed", SPEEDS, None)
    speed = None if fields.get("speed") is None else _speed(fields["speed"])
    return Control(replay, cast("Action", action), _since(place, now), speed)


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


def _speed(value: object) -> float:
    if isinstance(value, int | float) and type(value) is not bool and SPEED_MIN <= value <= SPEED_MAX:
        return float(value)
    raise _refused("speed", SPEEDS, value)


def _idle_s(value: object) -> float:
    if value is None:
        return IDLE_S
    if isinstance(value, int | float) and type(value) is not bool and 0 <= value <= IDLE_MAX_S:
        return float(value)
    raise _refused("idle_s", f"a number of seconds from 0 to {IDLE_MAX_S:g}", value)


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
