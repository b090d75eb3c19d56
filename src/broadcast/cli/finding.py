"""One thing that `broadcast doctor` looked at, and how it says for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Finding", "Verdict", "ago", "span"]

Verdict = Literal["ok", "note", "wrong"]

MARK_S: Final = 15
"""A producer that has nothing to say renews its mark every 10 s."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    about: str
    text: str


def ago(span_s: int) -> str:
    """How long ago something was."""
    return "now" if span_s < MARK_S else f"{span(span_s)} ago"


def span(span_s: int) -> str:
    """A duration by its largest unit."""
    size, unit = next(
        (size, unit) for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")) if span_s >= size or size == 1
    )
    return f"{span_s // size} {unit}"
