"""`with cycle(day=…):` one cycle of a mind, begun, timed and ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

    from broadcast.emitter.broadcaster import Broadcaster

__all__ = ["Cycle"]

FRAMES_MAX: Final = 20


class Cycle:
    """One cycle; made by `Broadcaster.cycle`.

    Args:
        broadcaster: emits the events.
        number: the cycle's number.
        day: the virtual day.
        session: the run's name.
    """

    def __init__(self, broadcaster: Broadcaster, *, number: int, day: Any, session: object) -> None:
        self.number = number
        self._broadcaster = broadcaster
        self._day = day
        self._session = session
        self._began_ns = 0

    def __enter__(self) -> Self:
        self._broadcaster.set_cycle(self.number, self._day)
        self._broadcaster.emit("cycle.start", {"day": self._day, "session": self._session})
        self._began_ns = time.monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and kind is not None and issubclass(kind, Exception):
            self._broadcaster.emit("error", _error_data(error))
        duration_ms = (time.monotonic_ns() - self._began_ns) // 1_000_000
        self._broadcaster.emit("cycle.end", {"duration_ms": duration_ms})


def _error_data(error: BaseException) -> dict[str, object]:
    try:
        import traceback  # not at the top: a mind in which nothing goes wrong does not pay for it

        report = traceback.TracebackException.from_exception(error, limit=-FRAMES_MAX)
        source = report.stack[-1].filename.rpartition("/")[2] if report.stack else "?"
        return {
            "source": f"{source}:{report.stack[-1].name}" if report.stack else source,
            "message": "".join(report.format_exception_only()).strip(),
            "traceback": "".join(report.format()),
        }
    except BaseException:  # noqa: BLE001 - user code may refuse to be printed by raising anything
        return {"source": "?", "message": error, "traceback": ""}
