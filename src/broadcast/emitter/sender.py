"""The sender: one daemon thread that moves events from the buffer into the log.

It takes events only while it has a connection, so that a full buffer always drops the oldest; it takes the next ones
only when everything in flight is settled. It never logs and never writes to stderr: what happened is in its counters.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broadcast.emitter.buffer import Buffer
from broadcast.emitter.ledger import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Batch, Ledger
from broadcast.emitter.replies import is_elsewhere, is_transient

if TYPE_CHECKING:
    from broadcast.emitter.connection import LogConnection
    from broadcast.emitter.limits import Limiter

__all__ = ["Sender"]

IDLE_ASK_S: Final = 10.0
LINGER_S: Final = 0.001
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 2.0
REJECT_AFTER: Final = 3


class Sender:
    """Appends what is in the buffer, in order, exactly once.

    Args:
        buffer: where the events come from.
        connect: opens a connection; called in the sender's thread.
        announce: makes the JSON of a `broadcast.lost` event of a `Loss`, of a `broadcast.limited` one of a `Withheld`.
        limiter: what withholds events, and has to be reported; None if nothing does.
    """

    def __init__(
        self,
        buffer: Buffer,
        *,
        connect: Callable[[], LogConnection],
        announce: Callable[[Any], bytes],
        limiter: Limiter | None = None,
    ) -> None:
        self.idle = True
        """Whether an event needs more than its place in the buffer: the thread sleeps, or there is none."""
        self.running = False
        self.settled = 0
        """So many of the first events of the buffer are in the log, or announced there as lost."""
        self.told = 0
        """So many of the withheld events are reported in the log."""
        self.awaits_report = False
        """Whether it wakes by itself for a report, so that an event that is withheld need not wake it."""
        self.rejected = 0
        """Events Redis will never accept."""
        self.rewound = 0
        """Events Redis had acknowledged, lost, and could not be given again."""
        self.unpublished = 0
        self.connects = 0
        self.append_ms: float | None = None
        """How long the last append took."""
        self.last_error: str | None = None
        self.epoch: str | None = None

        self._buffer = buffer
        self._connect = connect
        self._announce = announce
        self._limiter = limiter
        self._ledger = Ledger(announce)
        self._connection: LogConnection | None = None
        self._passed = 0
        self._reported = 0
        self._refusals = 0
        self._backoff_s = 0.0
        self._stopping = False
        self._leaving = False
        self._connected_s = float("inf")
        self._ident = 0
        self._run_tokens = [True]
        # A raw lock: acquired while asleep, released to wake. Event and Condition can be found locked by a signal
        # handler that interrupts them, and hang.
        self._wake = allocate_lock()
        self._wake.acquire()

    @property
    def appended(self) -> int:
        """Events that Redis has acknowledged, announcements of losses included."""
        return self._ledger.acknowledged

    def start(self) -> None:
        """Start the thread; if it runs already, nothing comes of it.

        Raises:
            RuntimeError: no thread can be started (limits, or the interpreter is shutting down).
        """
        # Set first, so that a thread that ends at once has the last word; of several, `run` lets one go on.
        self.running = True
        self.idle = False
        try:
            # Not threading.Thread: its start() takes a global lock, which an emit in a signal handler could find taken.
            start_new_thread(self.run, ())
        except BaseException:
            self.running = False
            self.idle = True
            raise

    def wake(self) -> None:
        """Let the sender look at the buffer now. Safe in a signal handler."""
        try:
            self._wake.release()
        except RuntimeError:  # it is awake
            return

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        self._stopping = True
        self.wake()

    @property
    def is_known(self) -> bool:
        """Whether it has marked itself for so long that its end is worth saying."""
        return self._connection is not None and time.monotonic() - self._connected_s > IDLE_ASK_S

    @property
    def has_left(self) -> bool:
        """Whether nothing is left of a `take_leave`."""
        return not (self._leaving and self.running)

    def take_leave(self) -> None:
        """Mark this producer as gone once all is appended; does not wait. An event after it marks it as back."""
        self._leaving = True
        self.wake()

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is the sender's thread itself, which cannot wait for itself."""
        return get_ident() == self._ident

    def run(self, *, settle: int | None = None, tell: int = 0, deadline_s: float = float("inf")) -> None:
        """Work until told to stop; in a thread of its own, or at exit, when there are no more threads, in the caller's.

        Args:
            settle: end as soon as so many of the buffer's events are settled; None goes on for ever.
            tell: but not before so many withheld events are reported.
            deadline_s: and end at this moment of the monotonic clock.
        """
        try:
            self._run_tokens.pop()  # atomic: of several that come here, one works
        except IndexError:
            return
        self._ident = get_ident()
        self.running = True
        self.idle = False
        try:
            while not self._stopping and (settle is None or self.settled < settle or self.told < tell):
                if (left_s := deadline_s - time.monotonic()) <= 0:
                    break
                try:
                    self._work()
                    self._backoff_s = 0.0
                except Exception as error:  # noqa: BLE001 - whatever happens, the thread goes on
                    self._failed(error, wait_max_s=left_s)
        finally:
            self._drop_connection()
            self._ident = 0
            self.running = False
            self.idle = True
            self._run_tokens.append(True)

    def _work(self) -> None:
        connection = self._connection or self._open()
        if connection.is_replaced:
            raise _ElsewhereError("the Sentinels name another server by now")
        ledger = self._ledger
        if not ledger.in_flight:
            self._take()
        if ledger.in_flight:
            self._append(connection, ledger.next_batch(events_max=1 if self._refusals else BATCH_EVENTS_MAX))
        elif self._leaving:
            self._leaving = False
            connection.take_leave()
        elif not self._wait_for_events():
            self._append(connection, ledger.question())  # and keeps our seq from expiring there

    def _open(self) -> LogConnection:
        connection = self._connect()
        self.connects += 1
        self._connection = connection
        self._connected_s = min(self._connected_s, time.monotonic())
        connection.watch(self.wake)
        # Redis may have come back without its last second: ask before anything new goes out.
        self._append(connection, self._ledger.question())
        return connection

    def _take(self) -> None:
        if (loss := self._buffer.take_loss()) is not None:
            self._ledger.announce(loss)
            self._passed += loss.events
        taken = self._buffer.take(events_max=BATCH_EVENTS_MAX, bytes_max=BATCH_BYTES_MAX)
        self._ledger.number(taken)
        self._passed += len(taken)
        if (limiter := self._limiter) and (withheld := limiter.take_report(time.monotonic_ns())):
            self._ledger.number([self._announce(withheld)])
            self._reported = limiter.reported

    def _append(self, connection: LogConnection, batch: Batch) -> None:
        began = time.perf_counter()
        try:
            reply = connection.append(batch, epoch_if_none=_fresh_epoch())
        except Exception as error:
            if batch.payloads and type(error).__name__ == "ResponseError":
                self._refused(str(error))
            raise
        if is_elsewhere(reply.error):
            # And the seq that a replica has copied, perhaps not yet whole, is nobody's to go by.
            raise _ElsewhereError(reply.error)
        self.append_ms = (time.perf_counter() - began) * 1000
        self.rewound += self._ledger.settle(reply.stored, time.monotonic())
        self.unpublished += reply.unpublished
        self.epoch = reply.epoch or self.epoch
        if not self._ledger.in_flight:
            self.settled, self.told = self._passed, self._reported
        if reply.error:
            if batch.payloads:
                self._refused(reply.error)
            raise _AppendError(reply.error)
        if batch.payloads:
            self._refusals = 0
        self.last_error = None

    def _refused(self, error: str) -> None:
        """Count what may be an event that Redis will never take; after some tries it goes, and is announced."""
        if is_transient(error):
            return
        self._refusals += 1
        if self._refusals >= REJECT_AFTER and self._ledger.reject_first() is not None:
            self._refusals = 0
            self.rejected += 1

    def _wait_for_events(self) -> bool:
        """Sleep until there is something to do; False if nothing came for a while."""
        self.idle = True
        # Looked at after the flag is set: an emit that came before saw no flag, one that comes later wakes us.
        report_s = self._report_due_s()
        self.awaits_report = report_s is not None
        wait_s = IDLE_ASK_S if report_s is None else max(0.0, report_s)
        is_idle = not (self._buffer or self._buffer.has_loss or self._stopping or self._leaving)
        woken = self._wake.acquire(timeout=wait_s) if is_idle else True
        self.idle = self.awaits_report = False
        if woken and not self._stopping:
            time.sleep(LINGER_S)  # what is emitted together travels together
        return woken or report_s is not None

    def _report_due_s(self) -> float | None:
        due_ns = self._limiter.due_in_ns(time.monotonic_ns()) if self._limiter else None
        return None if due_ns is None else due_ns / 1e9

    def _failed(self, error: Exception, *, wait_max_s: float) -> None:
        self.last_error = f"{type(error).__name__}: {error}"[:500]
        if not isinstance(error, _AppendError):
            self._drop_connection()
        self._backoff_s = min(BACKOFF_MAX_S, self._backoff_s * 2 or BACKOFF_FIRST_S)
        # Jitter, so that a fleet of producers does not come back in step.
        if not self._stopping:
            wait_s = self._backoff_s * (0.5 + os.urandom(1)[0] / 510)
            self._wake.acquire(timeout=min(wait_s, wait_max_s))

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _fresh_epoch() -> str:
    # A new one every time: after FLUSHALL the same name would make another log look like the old one.
    return os.urandom(8).hex()


class _AppendError(Exception):
    """Redis answered, and refused to append."""


class _ElsewhereError(Exception):
    """This server does not take the stream's events; another one may."""
