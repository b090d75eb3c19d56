"""What this producer has numbered, sent and had acknowledged: pure, fed with replies and a clock.

Rules:
1. An event gets its seq when it is taken from the buffer: 1, 2, 3, … without holes. A retry keeps it.
2. At most one batch is in flight. It is settled by the seq that Redis says it has stored, whatever happened between.
3. What was acknowledged is kept for a while. If Redis comes back with an older seq, it has lost its tail: the kept
   events are sent again, first, under the seqs they had.
4. What is missing and no longer kept is a hole. It is filled by saying so (`Loss`), never silently.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from broadcast.emitter.buffer import Loss

__all__ = ["Batch", "Ledger"]

BATCH_EVENTS_MAX: Final = 400
BATCH_BYTES_MAX: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one producer.

    Args:
        first: the seq of the first one.
        payloads: their JSON; none at all asks only how far Redis is.
        fill_hole: append although events before `first` are missing in Redis.
    """

    first: int
    payloads: tuple[bytes, ...]
    fill_hole: bool = False

    @property
    def last(self) -> int:
        """The seq of the last one."""
        return self.first + len(self.payloads) - 1


class Ledger:
    """The producer's own account.

    Args:
        keep_s: acknowledged events are kept so long, seconds; longer than Redis may lose (AOF every second: 1 s).
        keep_bytes_max: and at most so many bytes of them.
    """

    def __init__(self, *, keep_s: float = 5.0, keep_bytes_max: int = 8 * 1024 * 1024) -> None:
        self.keep_s = keep_s
        self.keep_bytes_max = keep_bytes_max
        self.stored = 0
        """The last seq that Redis has acknowledged."""
        self._pending: deque[bytes] = deque()
        self._kept: deque[tuple[float, bytes]] = deque()
        self._kept_bytes = 0
        self._fill_hole = False

    @property
    def in_flight(self) -> int:
        """Events that have a seq and are not acknowledged."""
        return len(self._pending)

    def number(self, payloads: list[bytes]) -> None:
        """Give the next seqs to these events and put them in flight."""
        self._pending.extend(payloads)

    def next_batch(self) -> Batch:
        """The batch to send now; empty if nothing is in flight."""
        payloads: list[bytes] = []
        size = 0
        for payload in self._pending:
            if len(payloads) >= BATCH_EVENTS_MAX or (payloads and size + len(payload) > BATCH_BYTES_MAX):
                break
            payloads.append(payload)
            size += len(payload)
        return Batch(self.stored + 1, tuple(payloads), self._fill_hole)

    def settle(self, stored: int, now_s: float) -> Loss | None:
        """Take in what Redis says it has.

        Args:
            stored: the seq Redis has stored for this producer.
            now_s: a monotonic clock, seconds.

        Returns:
            What is lost for good: Redis had it, has it no more, and it is no longer kept here.
        """
        if stored < self.stored:
            return self._heal(stored)
        for _ in range(min(stored - self.stored, len(self._pending))):
            payload = self._pending.popleft()
            self._kept.append((now_s, payload))
            self._kept_bytes += len(payload)
        self.stored = stored
        self._fill_hole = False
        self._forget(now_s)
        return None

    def reject_first(self) -> Loss | None:
        """Take the first event in flight out: Redis will never accept it. The ones behind it move up."""
        if not self._pending:
            return None
        payload = self._pending.popleft()
        return Loss(1, "rejected", payload, payload)

    def _heal(self, stored: int) -> Loss | None:
        missing = self.stored - stored
        again = min(missing, len(self._kept))
        for _ in range(again):
            _, payload = self._kept.pop()
            self._kept_bytes -= len(payload)
            self._pending.appendleft(payload)
        self.stored -= again
        hole = missing - again
        self._fill_hole = hole > 0
        return Loss(hole, "redis_rewound") if hole else None

    def _forget(self, now_s: float) -> None:
        kept = self._kept
        while kept and (kept[0][0] < now_s - self.keep_s or self._kept_bytes > self.keep_bytes_max):
            self._kept_bytes -= len(kept.popleft()[1])
