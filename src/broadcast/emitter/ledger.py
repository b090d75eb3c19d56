"""What this producer has numbered, sent and had acknowledged: pure, fed with replies and a clock.

Rules:
1. An event gets its seq when it is taken from the buffer: 1, 2, 3, … without holes. A retry keeps it.
2. At most one batch is in flight. It is settled by the seq that Redis says it has stored, whatever happened between.
3. What was acknowledged is kept for a while. If Redis comes back with an older seq, it has lost its tail: the kept
   events are sent again, first, under the seqs they had.
4. What is missing and no longer kept is a hole. Its announcement takes the last of the missing seqs, so it stands in
   the log where the events stood, and goes the way of the events behind it should Redis lose its tail again.
5. An event that Redis will never take is replaced by its announcement, under the same seq.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from broadcast.emitter.buffer import Loss

__all__ = ["Batch", "Ledger"]

BATCH_EVENTS_MAX: Final = 400
BATCH_BYTES_MAX: Final = 512 * 1024


class Batch(NamedTuple):
    """Consecutive events of one producer.

    Args:
        first: the seq of the first one.
        payloads: their JSON; none at all asks only how far Redis is.
        after: append only if Redis has this seq; `first - 1`, or less where a hole lies between.
    """

    first: int
    payloads: tuple[bytes, ...]
    after: int


class _Entry(NamedTuple):
    seq: int
    since: int
    """The first seq it speaks for: its own, or for the announcement of a hole the first that is missing."""
    payload: bytes


class Ledger:
    """The producer's own account.

    Args:
        announce: makes the JSON of a `broadcast.lost` event.
        keep_s: acknowledged events are kept so long, seconds; longer than Redis may lose (AOF every second: 1 s).
        keep_bytes_max: and at most so many bytes of them.
    """

    def __init__(
        self, announce: Callable[[Loss], bytes], *, keep_s: float = 5.0, keep_bytes_max: int = 8 * 1024 * 1024
    ) -> None:
        self.keep_s = keep_s
        self.keep_bytes_max = keep_bytes_max
        self.stored = 0
        """The last seq that Redis said it has."""
        self.acknowledged = 0
        """The highest seq it ever said it has."""
        self._announce = announce
        self._numbered = 0
        self._rejected_seq = 0
        self._pending: deque[_Entry] = deque()
        self._kept: deque[tuple[float, _Entry]] = deque()
        self._kept_bytes = 0

    @property
    def in_flight(self) -> int:
        """Events that have a seq and are not acknowledged."""
        return len(self._pending)

    def number(self, payloads: Iterable[bytes]) -> None:
        """Give the next seqs to these events and put them in flight."""
        for payload in payloads:
            self._numbered += 1
            self._pending.append(_Entry(self._numbered, self._numbered, payload))

    def announce(self, loss: Loss) -> None:
        """Put the announcement of a loss in flight, behind what is there."""
        self.number([self._announce(loss)])

    def question(self) -> Batch:
        """A batch of nothing, which asks how far Redis is."""
        return Batch(self.stored + 1, (), self.stored)

    def next_batch(self, *, events_max: int = BATCH_EVENTS_MAX) -> Batch:
        """The batch to send now; empty if nothing is in flight."""
        if not self._pending:
            return self.question()
        first = self._pending[0].seq
        payloads: list[bytes] = []
        size = 0
        for entry in self._pending:
            if entry.seq != first + len(payloads) or len(payloads) >= events_max:
                break
            size += len(entry.payload)
            if payloads and size > BATCH_BYTES_MAX:
                break
            payloads.append(entry.payload)
        return Batch(first, tuple(payloads), self.stored)

    def settle(self, stored: int, now_s: float) -> int:
        """Take in what Redis says it has.

        Args:
            stored: the seq Redis has stored for this producer; negative if it could not say.
            now_s: a monotonic clock, seconds.

        Returns:
            How many events are lost for good: Redis had them, has them no more, and they are no longer kept here.
        """
        if stored < 0:
            return 0
        if stored < self.stored:
            return self._heal(stored)
        while self._pending and self._pending[0].seq <= stored:
            entry = self._pending.popleft()
            self._kept.append((now_s, entry))
            self._kept_bytes += len(entry.payload)
        self.stored = stored
        self.acknowledged = max(self.acknowledged, stored)
        self._numbered = max(self._numbered, stored)
        self._forget(now_s)
        return 0

    def reject_first(self) -> Loss | None:
        """Give up the first event in flight, which Redis will never take; its announcement takes its seq.

        Returns:
            What is lost; None if that is an announcement already: then the fault is not the event's.
        """
        if not self._pending or self._pending[0].seq == self._rejected_seq:
            return None
        seq, since, payload = self._pending.popleft()
        loss = Loss(1, "rejected", payload, payload)
        self._rejected_seq = seq
        self._pending.appendleft(_Entry(seq, since, self._announce(loss)))
        return loss

    def _heal(self, stored: int) -> int:
        while self._kept and self._kept[-1][1].seq > stored:
            _, entry = self._kept.pop()
            self._kept_bytes -= len(entry.payload)
            self._pending.appendleft(entry)
        self.stored = stored
        spoken_for = self._pending[0].since if self._pending else self._numbered + 1
        hole = spoken_for - 1 - stored
        if hole <= 0:
            return 0
        payload = self._announce(Loss(hole, "redis_rewound"))
        self._pending.appendleft(_Entry(spoken_for - 1, stored + 1, payload))
        return hole

    def _forget(self, now_s: float) -> None:
        kept = self._kept
        while kept and (kept[0][0] < now_s - self.keep_s or self._kept_bytes > self.keep_bytes_max):
            self._kept_bytes -= len(kept.popleft()[1].payload)
