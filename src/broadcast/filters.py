"""Which types of events a cursor wants: `sense.*`, `cycle.start`, `-state.drive`.

A pattern is exact (`cycle.start`), a prefix (`sense.*`, all types that begin with `sense.`) or everything (`*`);
a leading `-` takes away what the rest of the pattern names. An event passes if any plain pattern matches (no plain
pattern at all counts as `*`) and no negated one does. The order of patterns has no meaning.

Two filters that let the same events pass for reasons visible in their patterns have the same canonical form,
so that cursors with the same filter can share the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from broadcast.errors import FilterError

__all__ = ["ALL", "Filter", "parse_allowed", "parse_filter"]

PATTERNS_MAX: Final = 64
PATTERN_CHARS_MAX: Final = 256

_SEGMENTS: Final = re.compile(r"[^\s,*\x00-\x1f\x7f-][^\s,*\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Filter:
    """A canonical filter; make one with `parse_filter`.

    Two filters are equal exactly when their canonical forms are.
    """

    patterns: tuple[str, ...]
    """Sorted, without repeats and without what another pattern already covers; `("*",)` lets everything pass."""

    matches: Callable[[str], bool] = field(repr=False, compare=False)
    """Whether an event of this type passes."""


def parse_filter(types: str | Iterable[str] | None) -> Filter:
    """Make the canonical filter of some patterns.

    Args:
        types: a sequence of patterns, or one text with patterns between commas; None or nothing means everything.

    Raises:
        FilterError: names the pattern and what is accepted.
    """
    if types is None:
        return ALL
    listed = _listed(types)
    if len(listed) > PATTERNS_MAX:
        raise FilterError(f"types: at most {PATTERNS_MAX} patterns, got {len(listed)}")
    for pattern in listed:
        _check(pattern)
    wanted = _reduce([p for p in listed if not p.startswith("-")]) or ["*"]
    unwanted = _reduce([p[1:] for p in listed if p.startswith("-")])
    # A plain pattern that is wholly taken away has no effect: leave it out of the canonical form.
    kept = [w for w in wanted if not any(_covers(u, w) for u in unwanted)]
    if not kept:
        return _NOTHING
    # Nor has a negation of something no plain pattern lets through.
    unwanted = [u for u in unwanted if any(_overlap(u, w) for w in kept)]
    patterns = (*sorted(kept), *sorted("-" + u for u in unwanted))
    return Filter(patterns, _matcher(kept, unwanted))


def parse_allowed(name: str, types: str | Iterable[str]) -> Filter:
    """Make the filter of what somebody is allowed; here no pattern is a mistake, such as a variable that was not set.

    Args:
        name: where it stands, for the text of the error.
        types: as `parse_filter` takes them; at least one.

    Raises:
        FilterError: there is none, or one is no pattern.
    """
    if not _listed(types):
        raise FilterError(f"{name}: expected at least one type pattern, got none; '*' is every type")
    return parse_filter(types)


def _listed(types: str | Iterable[str]) -> list[str]:
    if isinstance(types, str):
        return [part.strip() for part in types.split(",") if part.strip()]
    if not isinstance(types, Sequence | set | frozenset):
        raise FilterError(f"types: expected a list of patterns or a text, got {type(types).__name__}")
    listed: list[str] = []
    for pattern in cast("Iterable[object]", types):
        if not isinstance(pattern, str):
            raise FilterError(f"types: every pattern is a text, got {type(pattern).__name__}")
        listed.append(pattern.strip())
    return listed


def _check(pattern: str) -> None:
    bare = pattern.removeprefix("-")
    stem = bare.removesuffix(".*")
    if len(pattern) <= PATTERN_CHARS_MAX and (bare == "*" or _SEGMENTS.fullmatch(stem)):
        return
    raise FilterError(
        f"types: {pattern[:60]!r} is not a pattern; accepted are 'cycle.start', 'sense.*', '*', and '-…' of these"
    )


def _reduce(patterns: list[str]) -> list[str]:
    unique = sorted(set(patterns))
    return [p for p in unique if not any(q != p and _covers(q, p) for q in unique)]


def _covers(wide: str, narrow: str) -> bool:
    if wide in ("*", narrow):
        return True
    return wide.endswith(".*") and narrow != "*" and narrow.startswith(wide[:-1])


def _overlap(one: str, other: str) -> bool:
    return _covers(one, other) or _covers(other, one)


def _matcher(wanted: list[str], unwanted: list[str]) -> Callable[[str], bool]:
    if wanted == ["*"] and not unwanted:
        return lambda _event_type: True
    exact = frozenset(p for p in wanted if not p.endswith("*"))
    prefixes = tuple(p[:-1] for p in wanted if p.endswith("*"))
    not_exact = frozenset(p for p in unwanted if not p.endswith("*"))
    not_prefixes = tuple(p[:-1] for p in unwanted if p.endswith("*"))

    def matches(event_type: str) -> bool:
        if event_type not in exact and not event_type.startswith(prefixes):
            return False
        return event_type not in not_exact and not event_type.startswith(not_prefixes)

    return matches


ALL: Final = Filter(("*",), _matcher(["*"], []))
_NOTHING: Final = Filter(("-*",), lambda _event_type: False)
