"""What stands between `emit()` and the buffer where somebody asked for it: limits, and redaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadcast.plain import flat_copy, plain_copy
from broadcast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broadcast.emitter.limits import Limiter
    from broadcast.emitter.redaction import Redaction

__all__ = ["Screen", "screen_of"]


class Screen:
    """The limits and the redaction of one broadcaster.

    Args:
        limiter: which events pass; None lets all pass.
        redaction: what of them is told; None tells all.
    """

    def __init__(self, limiter: Limiter | None, redaction: Redaction | None) -> None:
        self.limiter = limiter
        self.redaction = redaction

    def anew(self) -> Screen:
        """The same, with nothing withheld so far; for a forked child."""
        return Screen(self.limiter and self.limiter.anew(), self.redaction)

    def told(self, data: object, bytes_max: int) -> dict[str, Any] | None:
        """What may be told of plain data, as a copy; None for anything that needs care."""
        if self.redaction is None:
            return None
        copy = flat_copy(data, bytes_max)
        if copy is None:
            copy = plain_copy(data, bytes_max=bytes_max)
        return None if copy is None else self.redaction.plain(copy)


def screen_of(
    settings: Settings,
    redact: Iterable[str] | None,
    limits: Mapping[str, str] | None,
    problems: list[str] | None,
) -> tuple[Settings, Screen | None]:
    """The screen that settings and arguments ask for, and the settings with the arguments in them; None if none is.

    Args:
        settings: what holds where there is no argument.
        redact: rules, or None.
        limits: a rate for each pattern, or None.
        problems: where to say what is broken in settings that come from the environment. None raises.

    Raises:
        SettingError: something is broken, and not from the environment.
    """
    if not (settings.redact or settings.limits or redact or limits):
        return settings.with_changes(redact=(), limits=()), None
    # Not at the top: whoever asks for neither does not pay for them.
    from broadcast.emitter.limits import limiter_of, listed_limits
    from broadcast.emitter.redaction import listed_rules, redaction_of

    if redact is not None:
        settings = settings.with_changes(redact=listed_rules(redact))
    if limits is not None:
        settings = settings.with_changes(limits=listed_limits(limits))
    limiter = limiter_of(settings.limits, None if limits is not None else problems)
    redaction = redaction_of(settings.redact, None if redact is not None else problems)
    return settings, Screen(limiter, redaction) if limiter or redaction else None
