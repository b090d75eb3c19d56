"""What must never leave the process: values under some keys, and what some patterns match in texts. Pure.

Rules:
1. A rule is a glob for keys, in any case (`password`, `*_token`), or between slashes a regular expression for texts
   (`/sk-[A-Za-z0-9]{20,}/`).
2. Under a key that a glob matches, the value becomes `[redacted]` whatever it is; nobody looks at it.
3. What a pattern matches becomes `[redacted]` in every text, keys included. All patterns read the text as it was
   given; what touches or overlaps becomes one.
4. A text is redacted before it is cut. Of one that is too long for that, so much is left out that a match of up to
   `MATCH_CHARS_MAX` characters is never shown in part.
5. Numbers are no texts; an event's type, cycle and day are not touched.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from broadcast.errors import SettingError
from broadcast.sanitize import MATCH_CHARS_MAX, REDACTED
from broadcast.settings import HIDE_ALL

__all__ = ["Redaction", "listed_rules", "redaction_of"]

RULES_MAX: Final = 100
RULE_CHARS_MAX: Final = 1_000
KEY_CHARS_MAX: Final = 1_000
"""A longer key is not matched against globs: its value is hidden."""
NAMES_MAX: Final = 1_024
"""Keys whose verdict is remembered; when there are more, all are forgotten and judged again."""

_HIDES: Final = 1
_MATCHES: Final = 2


class Redaction:
    """Some rules, compiled.

    Args:
        rules: globs for keys, and patterns between slashes.

    Raises:
        SettingError: names the rule and what is accepted.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        if len(rules) > RULES_MAX:
            raise SettingError(f"redact: at most {RULES_MAX} rules, got {len(rules)}")
        globs = [_glob(rule) for rule in rules if not rule.startswith("/")]
        self._patterns = tuple(_pattern(rule) for rule in rules if rule.startswith("/"))
        self._globs = re.compile("|".join(globs), re.IGNORECASE) if globs else None
        self._verdicts: dict[str, int] = {}

    def plain(self, tree: dict[str, Any]) -> dict[str, Any] | None:
        """Redact a tree of JSON's own types in place; None if a key would change: that needs care.

        Args:
            tree: nobody else's, without circles, and no larger than an event.
        """
        waiting: list[Any] = [tree]
        while waiting:
            branch = waiting.pop()
            kind: Any = type(branch)  # pyright: ignore[reportUnknownVariableType]
            if kind is list:
                branch[:] = [self._told(value, waiting) for value in branch]
                continue
            for name, value in branch.items():
                verdict = self._verdict(name) if type(name) is str else _MATCHES
                if verdict & _MATCHES:
                    return None
                branch[name] = REDACTED if verdict else self._told(value, waiting)
        return tree

    def _told(self, value: Any, waiting: list[Any]) -> Any:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str:
            spans = self._spans(value)
            return _without(value, spans, len(value), len(value) * len(REDACTED))[0] if spans else value
        if kind is tuple:
            value, kind = list(value), list
        if kind is list or kind is dict:
            waiting.append(value)
        return value

    def hides(self, key: object, name: str) -> bool:
        """Whether the value under this key is hidden.

        Args:
            key: the key itself. Bytes are matched as text, too, and a subclass of str as what it holds.
            name: its text.
        """
        if self._globs is None:
            return False
        kind: Any = type(key)  # not isinstance, which would ask the object's own idea of `__class__`
        if issubclass(kind, bytes):
            return self._hides(name) or self._hides(bytes.decode(cast("bytes", key), "utf-8", "backslashreplace"))
        if kind is not str and issubclass(kind, str):
            return self._hides(name) or self._hides(str.__str__(cast("str", key)))
        return bool(self._verdict(name) & _HIDES)

    def cut(self, text: str, chars_max: int) -> tuple[str, int]:
        """The beginning of a text, redacted.

        Args:
            text: of any length; a subclass of str is read as what it holds.
            chars_max: the longest that the beginning may be.

        Returns:
            The beginning, and how many characters of the text are behind it.
        """
        length = str.__len__(text)
        # What is behind the window is not looked at, so a match that begins in its last part may not be seen whole.
        window = str.__getitem__(text, slice(chars_max + MATCH_CHARS_MAX))
        shown_max = length if len(window) == length else chars_max
        shown, end = _without(window, self._spans(window), shown_max, chars_max)
        return shown, length - end

    def _verdict(self, name: str) -> int:
        found = self._verdicts.get(name)
        if found is not None:
            return found
        if len(name) > KEY_CHARS_MAX:
            return _MATCHES | (_HIDES if self._globs else 0)
        verdict = (_HIDES if self._hides(name) else 0) | (_MATCHES if self._spans(name) else 0)
        if len(self._verdicts) >= NAMES_MAX:
            self._verdicts.clear()
        self._verdicts[name] = verdict
        return verdict

    def _hides(self, name: str) -> bool:
        return self._globs is not None and (len(name) > KEY_CHARS_MAX or self._globs.match(name) is not None)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for pattern in self._patterns:
            if pattern.search(text) is not None:
                spans += [found.span() for found in pattern.finditer(text) if found.end() > found.start()]
        return spans


def _without(text: str, spans: list[tuple[int, int]], shown_max: int, chars_max: int) -> tuple[str, int]:
    """The text up to a place without the spans, and up to where it is told.

    Args:
        text: the text.
        spans: what has to go, in any order.
        shown_max: no character from this place on is shown.
        chars_max: the longest that the result may be.
    """
    pieces: list[str] = []
    left, at = chars_max, 0
    for start, end in _merged(spans):
        if start >= min(shown_max, at + left):
            break
        pieces.append(text[at:start])
        left -= start - at + len(REDACTED)
        at = end
        if left < 0:  # the note has no room: nothing behind it has, either
            return "".join(pieces), start
        pieces.append(REDACTED)
    end = max(at, min(len(text), shown_max, at + left))
    pieces.append(text[at:end])
    return "".join(pieces), end


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def redaction_of(rules: Sequence[str], problems: list[str] | None) -> Redaction | None:
    """Compile rules; None if there are none.

    Args:
        rules: as `Redaction` takes them.
        problems: where to say which rule is broken. All data is then hidden: nobody knows what the rule was to hide,
            and what was shown cannot be taken back. None raises instead.

    Raises:
        SettingError: a rule is broken, and `problems` is None.
    """
    try:
        return Redaction(rules) if rules else None
    except SettingError as error:
        if problems is None:
            raise
        problems.append(f"BROADCAST_REDACT: {error}; until this is repaired, all data is hidden")
        return Redaction(HIDE_ALL)


def listed_rules(rules: object) -> tuple[str, ...]:
    """The rules of a `redact=` argument.

    Raises:
        SettingError: it is no list of texts.
    """
    if isinstance(rules, str | bytes) or not isinstance(rules, Iterable):
        raise SettingError(f"redact: expected a list of rules as ['password', '/sk-…/'], got {type(rules).__name__}")
    listed = tuple(cast("Iterable[object]", rules))
    for rule in listed:
        if not isinstance(rule, str):
            raise SettingError(f"redact: every rule is a text, got {type(rule).__name__}")
    return cast("tuple[str, ...]", listed)


def _glob(rule: str) -> str:
    if not rule.strip() or len(rule) > RULE_CHARS_MAX:
        raise SettingError(f"redact: {rule[:60]!r} is no rule; accepted are 'password', '*_token', '/a pattern/'")
    return fnmatch.translate(rule.strip())


def _pattern(rule: str) -> re.Pattern[str]:
    if len(rule) < 3 or not rule.endswith("/") or len(rule) > RULE_CHARS_MAX:
        raise SettingError(f"redact: {rule[:60]!r} begins with a slash; a pattern stands between two: '/sk-[a-z]+/'")
    try:
        return re.compile(rule[1:-1])
    except (re.error, OverflowError, RecursionError) as error:
        raise SettingError(f"redact: {rule[:60]!r} is no regular expression: {error}") from None
