"""One figure: what was measured, what it should reach, and whether it does. A part of the benchmarks gives a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADS = ("figure", "measured", "target", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of a table."""

    name: str
    measured: str
    """As people read it, ratio first where there is one."""
    target: str = ""
    """Empty where the row is there to compare with."""
    reached: bool | None = None
    """Whether it meets the target; None where there is none, or where the machine was too busy to tell."""
    rounds: Sequence[float] = field(default=())
    """What every single round gave, in `unit`."""
    unit: str = ""

    @property
    def verdict(self) -> str:
        return verdict(self.target, self.reached)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return (self.name, self.measured, self.target, self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one part found."""

    title: str
    versions: str
    """What was measured with what."""
    figures: Sequence[Figure]
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What plots are drawn from, if there are any."""

    def text(self) -> str:
        """For a terminal."""
        rows = [HEADS, *(each.cells for each in self.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
        lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self.title, f"  {self.versions}", *lines])


def verdict(target: str, reached: bool | None) -> str:
    """The word for it."""
    if not target:
        return ""
    return {True: "reached", False: "missed", None: "too noisy"}[reached]


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def shown_s(seconds: float) -> str:
    """A duration with three digits and its unit."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{three_digits(seconds * factor)} {unit}"
    return f"{three_digits(seconds)} s"


def three_digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
