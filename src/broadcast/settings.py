"""Every setting of the package: name, unit, default, why. The only reader of the environment.

Each field's metadata says from which variable it comes and why it is what it is; `broadcast doctor` and the settings
page of the documentation are made from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from broadcast.addresses import parse_address
from broadcast.errors import SettingError
from broadcast.values import (
    NAME_CHARS_MAX,
    read_count,
    read_database_url,
    read_hosts,
    read_list,
    read_name,
    read_number,
    read_origins,
    read_pairs,
    read_port,
    read_rules,
)

__all__ = ["HIDE_ALL", "Settings"]

HIDE_ALL: Final = ("*", "/(?s:.+)/")
"""The rules of an emitter whose `redact` cannot be used: what should have been hidden is not known, so all is."""

_Parser = Callable[[str], Any]


def _redis_url(text: str) -> str:
    return parse_address(text).url


def _setting(default: Any, variable: str | None, why: str, parse: _Parser = str, **more: Any) -> Any:
    return field(default=default, metadata={"variable": variable, "why": why, "parse": parse, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. Frozen: read once, passed down."""

    # --- where the log is
    redis_url: str = _setting(
        "redis://localhost:6379",
        "REDIS_URL",
        "where Redis or Valkey listens: `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://`, `unix://path`, "
        "`redis+sentinel://host,host/name/db`, `redis+cluster://host,host`; with TLS `rediss+…`; the Sentinels' own "
        "account and certificates behind it, as in "
        "`?sentinel_username=…&sentinel_password=…&sentinel_ssl=false&ssl_ca_certs=…`",
        _redis_url,
    )
    stream: str = _setting("v5:stream", "BROADCAST_STREAM", "the stream's key; the log itself")
    channel: str = _setting("v5:events", "BROADCAST_CHANNEL", "the pub/sub channel for light consumers")
    stream_events_max: int = _setting(
        10_000, "BROADCAST_STREAM_EVENTS_MAX", "MAXLEN of the stream where the log's hash names none", read_count
    )

    database_url: str = field(
        default="",
        repr=False,  # it holds a password
        metadata={
            "variable": "DATABASE_URL",
            "why": "where the archive is: `postgresql://user:password@host/name`, or whatever libpq takes; none: there "
            "is no archive, and the log reaches as far back as the stream",
            "parse": read_database_url,
        },
    )

    archive_stream_bytes_max: int = _setting(
        256 * 1024 * 1024,
        "BROADCAST_ARCHIVE_STREAM_BYTES_MAX",
        "what the stream may take in Redis while an archiver is at work, which raises MAXLEN accordingly, so that it "
        "may be away for long; never more than a quarter of Redis' `maxmemory`; a MAXLEN that a person has set is "
        "left alone",
        read_count,
    )

    # --- the emitter, a guest in somebody's process
    buffer_events_max: int = _setting(
        10_000, "BROADCAST_BUFFER_EVENTS_MAX", "events kept while Redis is away; then the oldest goes", read_count
    )
    buffer_bytes_max: int = _setting(
        32 * 1024 * 1024, "BROADCAST_BUFFER_BYTES_MAX", "bytes kept while Redis is away", read_count
    )
    event_bytes_max: int = _setting(
        64 * 1024, "BROADCAST_EVENT_BYTES_MAX", "a larger event's data is cut, and says so", read_count
    )
    exit_timeout_s: float = _setting(
        2.0, "BROADCAST_EXIT_TIMEOUT_S", "the longest that leaving the process waits for the buffer", read_number
    )

    redact: tuple[str, ...] = _setting(
        (),
        "BROADCAST_REDACT",
        "what never leaves the process: keys (`password`, `*_token`) and patterns (`/sk-[A-Za-z0-9]{20}/`), "
        "comma-separated, or a JSON list; see [emitter](emitter.md)",
        read_rules,
        unusable=HIDE_ALL,
    )
    limits: tuple[tuple[str, str], ...] = _setting(
        (),
        "BROADCAST_LIMITS",
        "how many events of some types may pass: `sense.*=50/s,critic.*=10/m`; see [emitter](emitter.md)",
        read_pairs,
    )

    # --- the bridge
    host: str = _setting("127.0.0.1", "BROADCAST_HOST", "the address the bridge binds")
    port: int = _setting(5001, "BROADCAST_PORT", "the port the bridge binds", read_port)
    name: str = _setting(
        "",
        "BROADCAST_NAME",
        "this bridge's own name, with which its session ids begin, so that a proxy finds it among several: at most "
        f"{NAME_CHARS_MAX} letters, digits and `_`; none: a random one; see [deploy](deploy.md)",
        read_name,
    )
    tls_cert: str = _setting(
        "",
        "BROADCAST_TLS_CERT",
        "a file with the certificate and its chain, PEM: the bridge then speaks https and wss by itself. Renewed files "
        "are read on SIGHUP",
    )
    tls_key: str = _setting("", "BROADCAST_TLS_KEY", "the file with its key, PEM")
    origins: tuple[str, ...] = _setting(
        (), "BROADCAST_ORIGINS", "pages of other origins that may connect, comma-separated; * for all", read_origins
    )
    hosts: tuple[str, ...] = _setting(
        (),
        "BROADCAST_HOSTS",
        "further names that the bridge is reached by, comma-separated, besides addresses, `localhost` and the hosts of "
        "`BROADCAST_ORIGINS`: it refuses every other `Host`",
        read_hosts,
    )
    secret: str = field(
        default="",
        repr=False,  # never in a log
        metadata={"variable": "BROADCAST_SECRET", "why": "signs viewers' tokens; ≥ 32 bytes", "parse": str},
    )
    secret_previous: str = field(
        default="",
        repr=False,
        metadata={
            "variable": "BROADCAST_SECRET_PREVIOUS",
            "why": "a second secret whose tokens are valid, too, while one takes the place of another; signs nothing",
            "parse": str,
        },
    )
    anonymous: str = _setting("", "BROADCAST_ANONYMOUS", "what a viewer without token may do: read, or a type filter")
    ring_events_max: int = _setting(
        10_000, "BROADCAST_RING_EVENTS_MAX", "newest events the bridge holds in memory", read_count
    )
    ring_bytes_max: int = _setting(
        64 * 1024 * 1024, "BROADCAST_RING_BYTES_MAX", "bytes of them, whichever is first", read_count
    )
    connections_max: int = _setting(
        10_000, "BROADCAST_MAX_CONNECTIONS", "viewers of one bridge; 0 = no limit", read_count
    )
    connections_per_address_max: int = _setting(
        1_000,
        "BROADCAST_MAX_CONNECTIONS_PER_ADDRESS",
        "connections from one address; 0 = no limit. Those of a proxy in `BROADCAST_TRUSTED_PROXIES` are not counted",
        read_count,
    )
    connect_rate: float = _setting(
        0.0, "BROADCAST_CONNECT_RATE", "new connections per second, of all together; 0 = no limit", read_number
    )
    connect_rate_per_address: float = _setting(
        0.0,
        "BROADCAST_CONNECT_RATE_PER_ADDRESS",
        "new connections per second from one address; 0 = no limit",
        read_number,
    )
    connections_per_token_max: int = _setting(
        1_000, "BROADCAST_MAX_CONNECTIONS_PER_TOKEN", "viewers with one token; 0 = no limit", read_count
    )
    requests_per_minute: float = _setting(
        3_000.0,
        "BROADCAST_REQUESTS_PER_MINUTE",
        "HTTP requests from one address, and with one token; a minute's worth may come at once; 0 = no limit. Not "
        "counted: health, the page's files, polling",
        read_number,
    )
    replay_events_per_minute: float = _setting(
        60_000.0,
        "BROADCAST_REPLAY_EVENTS_PER_MINUTE",
        "events of the past that one token (or, without one, one address) may ask for; 0 = no limit",
        read_number,
    )
    emit_events_per_minute: float = _setting(
        60_000.0,
        "BROADCAST_EMIT_EVENTS_PER_MINUTE",
        "events that one token may `POST` to `/events`; a minute's worth may come at once, and a whole request always "
        "may; 0 = no limit",
        read_number,
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "BROADCAST_TRUSTED_PROXIES",
        "addresses and networks of proxies that are believed in what they say of their client (`X-Forwarded-For` or "
        "`Forwarded`, `X-Forwarded-Proto`), as `127.0.0.1,10.0.0.0/8`; limits count that client then",
        read_list,
    )
    waiting_bytes_max: int = _setting(
        256 * 1024 * 1024,
        "BROADCAST_WAITING_BYTES_MAX",
        "what may wait for all viewers together; above it, nobody gets more while anything waits for it",
        read_count,
    )
    grace_s: float = _setting(5.0, "BROADCAST_GRACE_S", "how long SIGTERM lets viewers go in good order", read_number)

    def __post_init__(self) -> None:
        # valkey:// is the same protocol under a name that redis-py does not know. What is no address at all stays as it
        # is: a Broadcaster must not raise for it, and whoever connects says so.
        with suppress(SettingError):
            object.__setattr__(self, "redis_url", _redis_url(self.redis_url))
        for variable, secret in (
            ("BROADCAST_SECRET", self.secret),
            ("BROADCAST_SECRET_PREVIOUS", self.secret_previous),
        ):
            if secret and len(secret.encode()) < 32:
                raise SettingError(f"{variable}: expected at least 32 bytes; `openssl rand -hex 32` makes one")
            if secret.startswith("CHANGE-ME"):
                raise SettingError(
                    f"{variable}: still as in the example, which everybody knows; `openssl rand -hex 32`"
                )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """Read the settings; an override that is not None wins over the environment.

        A variable with `_FILE` appended names a file that holds the value (secrets of containers).

        Raises:
            SettingError: names the variable or the override, its value and what is accepted.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        found, problems = _read(environ, without=given)
        problems += _problems_of(given)
        if problems:
            raise SettingError("; ".join(problems))
        return cls(**found, **given)

    @classmethod
    def for_emitter(cls, environ: Mapping[str, str] = os.environ) -> tuple[Self, list[str]]:
        """Read what the emitter needs without ever raising: `emit()` must work whatever the environment holds.

        Returns:
            The settings, with defaults where a variable is unusable, and what was wrong. Only `redact` is `HIDE_ALL`
            then: what was shown cannot be taken back.
        """
        found, problems = _read(environ, only=_OF_THE_EMITTER)
        return cls(**found), problems

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some values replaced."""
        return replace(self, **changes)


def _read(
    environ: Mapping[str, str], *, only: frozenset[str] | None = None, without: Container[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    problems: list[str] = []
    for spec in fields(Settings):
        if spec.name in without or (only is not None and spec.name not in only):
            continue
        variable = spec.metadata["variable"]
        try:
            text = _value_of(environ, variable)
            if text is not None:
                found[spec.name] = spec.metadata["parse"](text)
        except (ValueError, OSError) as error:
            problems.append(f"{variable}: {_shown(variable, environ.get(variable, ''))}{error}")
            if "unusable" in spec.metadata:
                found[spec.name] = spec.metadata["unusable"]
    return found, problems


def _problems_of(overrides: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    for spec in fields(Settings):
        value = overrides.get(spec.name)
        if not isinstance(value, str | int | float):  # not given, or made by a program
            continue
        try:
            spec.metadata["parse"](str(value))
        except ValueError as error:
            problems.append(f"{spec.name}: {_shown(spec.metadata['variable'], str(value))}{error}")
    return problems


def _shown(variable: str, text: str) -> str:
    if variable.startswith("BROADCAST_SECRET"):
        return ""
    # What stands in front of an @ in an address is a password, and what stands behind a ? may hold one.
    query = text.partition("?")[2]
    if "@" in query or "password" in text.partition("?")[0].lower():
        return ""
    return f"{'…@' if '@' in text else ''}{text.partition('?')[0].rpartition('@')[2][:80]!r}: "


def _value_of(environ: Mapping[str, str], variable: str) -> str | None:
    if environ.get(variable):
        return environ[variable]
    if path := environ.get(f"{variable}_FILE"):
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs the emitter's import 3 ms
            if not (text := file.read().strip()):
                raise ValueError(f"{variable}_FILE={path}: the file is empty")
            return text
    return None


_OF_THE_EMITTER: Final = frozenset(
    {
        "redis_url",
        "stream",
        "channel",
        "stream_events_max",
        "buffer_events_max",
        "buffer_bytes_max",
        "event_bytes_max",
        "exit_timeout_s",
        "redact",
        "limits",
    }
)
VARIABLES: Final = tuple(spec.metadata["variable"] for spec in fields(Settings))
