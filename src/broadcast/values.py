"""What values of settings are written as. Pure: texts in, values out, or a ValueError that says what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from re import compile
from typing import Final, TypeVar, cast

__all__ = [
    "NAME_CHARS_MAX",
    "read_count",
    "read_database_url",
    "read_hosts",
    "read_list",
    "read_name",
    "read_number",
    "read_origins",
    "read_pairs",
    "read_port",
    "read_rules",
]

NAME_CHARS_MAX: Final = 32
"""Of a bridge's name, which stands in every address that a polling viewer asks."""
_ORIGIN: Final = compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+").fullmatch
_Kind = TypeVar("_Kind")


def read_number(text: str) -> float:
    """A number of at least 0."""
    value = _read_as(float, text)
    if value is None or not 0 <= value < float("inf"):
        raise ValueError("expected a number of at least 0")
    return value


def read_count(text: str) -> int:
    """A whole number of at least 0."""
    value = _read_as(int, text)
    if value is None or value < 0:
        raise ValueError("expected a whole number of at least 0")
    return value


def read_port(text: str) -> int:
    """A port."""
    value = _read_as(int, text)
    if value is None or not 0 <= value <= 65535:
        raise ValueError("expected a port from 0 to 65535")
    return value


def _read_as(kind: Callable[[str], _Kind], text: str) -> _Kind | None:
    # Python's own words ("invalid literal for int() with base 10") say nothing to whoever set a variable.
    with suppress(ValueError):
        return kind(text)
    return None


def read_list(text: str) -> tuple[str, ...]:
    """What stands between commas; at least one."""
    listed = tuple(part.strip() for part in text.split(",") if part.strip())
    if not listed:  # a variable within it that was not set; that it means nothing at all nobody has said
        raise ValueError("expected at least one, between commas, got none")
    return listed


def read_rules(text: str) -> tuple[str, ...]:
    """What stands between commas, or a JSON list of texts."""
    if not text.lstrip().startswith("["):
        return read_list(text)
    import json

    listed: object = json.loads(text)
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in cast("list[object]", listed)):
        raise ValueError("expected a JSON list of texts, or rules between commas")
    return tuple(cast("list[str]", listed))


def read_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """What stands between commas, cut at its first `=`."""
    # What has no = gets a rate that is none, which whoever compiles it says.
    pairs = (part.partition("=") for part in read_list(text))
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)


def read_name(text: str) -> str:
    """A name that may stand in a session id."""
    if len(text) > NAME_CHARS_MAX or not text.isascii() or not text.replace("_", "0").isalnum():
        raise ValueError(f"expected at most {NAME_CHARS_MAX} letters, digits and _")
    return text


def read_origins(text: str) -> tuple[str, ...]:
    """As browsers send them; what they never send would let nobody in, and nobody would know why."""
    listed = tuple(origin.lower() for origin in read_list(text))
    for origin in listed:
        if origin != "*" and not _ORIGIN(origin):
            raise ValueError(
                "expected origins as browsers send them, as https://mind.example or http://10.0.0.1:8080, without a / "
                f"behind them and without * in them (alone, * is all), got {origin.rpartition('@')[2][:80]!r}"
            )
    return listed


def read_hosts(text: str) -> tuple[str, ...]:
    """Names of hosts, in lower case."""
    listed = tuple(name.lower() for name in read_list(text))
    for name in listed:
        if not name.isascii() or not name.replace("-", "0").replace(".", "0").replace("_", "0").isalnum():
            raise ValueError(f"expected names between commas, without scheme and port, as bridge-a, got {name[:80]!r}")
    return listed


def read_database_url(text: str) -> str:
    """SQLAlchemy's way to name a driver means nothing to libpq, and everybody has such an address lying about."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("expected postgresql://user:password@host/name, or libpq's own 'host=… dbname=…'")
    return f"postgresql://{rest}" if mark else text
