"""Durations as people write them."""

from __future__ import annotations

import re
from typing import Final

from broadcast.errors import SettingError

__all__ = ["kept_s", "seconds_of"]

KEPT_S_MIN: Final = 3_600
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> int:
    """Read `90s`, `30m`, `1h`, `7d`.

    Raises:
        SettingError: it is none of these.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None:
        raise SettingError(f"expected a duration such as 30m, 1h or 7d, got {text!r}")
    return int(match[1]) * _UNITS_S[match[2]]


def kept_s(text: str | None) -> int | None:
    """Read how long the archive keeps what it has; None for ever.

    Raises:
        SettingError: it is no duration, or so short that it would be a way to empty the archive.
    """
    if text is None:
        return None
    kept = seconds_of(text)
    if kept < KEPT_S_MIN:
        raise SettingError(f"keep: expected at least 1h, got {text!r}; it drops what is older, a week at a time")
    return kept
