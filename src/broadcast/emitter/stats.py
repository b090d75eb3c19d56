"""What a broadcaster tells about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Stats"]


class Stats(NamedTuple):
    """What a broadcaster has done so far."""

    producer: str
    """Its name in the log; events are `producer:seq`."""
    emitted: int
    """Events that `emit()` took."""
    buffered: int
    """Events that wait in the buffer."""
    buffered_bytes: int
    """Their size."""
    appended: int
    """Events that Redis has acknowledged, announcements of losses included."""
    dropped: Mapping[str, int]
    """Events that never will be in the log, by reason."""
    unpublished: int
    """Events in the log whose PUBLISH failed."""
    connects: int
    """How often a connection was opened."""
    last_error: str | None
    """Why nothing moves; None while all is well."""
    append_ms: float | None
    """How long the last append took, milliseconds."""
    problems: tuple[str, ...]
    """Settings in the environment that could not be used."""
