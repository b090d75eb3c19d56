"""The object that emits. On the calling thread: guard, encode, append; everything else is the sender's work.

Nothing on that path takes a lock, logs, imports or touches a socket, so it may run in any thread, in a signal handler,
in a destructor and in a forked child.
"""

from __future__ import annotations

import time
from _thread import get_ident
from time import monotonic_ns, time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from broadcast.emitter.announcements import announcement, producer_name
from broadcast.emitter.buffer import Buffer, Loss
from broadcast.emitter.cutting import TYPE_CHARS_MAX, bounded_size, cut_to_size
from broadcast.emitter.cycle import Cycle
from broadcast.emitter.forkmark import FORK_MARK
from broadcast.emitter.lifetime import LateImports, begin_anew_after_fork, flush_before_child_exits, watch
from broadcast.emitter.screen import Screen, screen_of
from broadcast.emitter.sender import Sender
from broadcast.emitter.stats import Stats
from broadcast.event import Event, encode, timestamp
from broadcast.plain import as_fields, flat_copy, is_dict, plain_copy
from broadcast.sanitize import CUT_KEY, sanitize_number, sanitize_text
from broadcast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broadcast.emitter.connection import LogConnection
    from broadcast.emitter.limits import Withheld

__all__ = ["Broadcaster", "Stats", "get_broadcaster"]

LEAVE_MAX_S: Final = 0.25
NESTED_MAX: Final = 4
"""So many events of one thread may be with the sanitizer, each emitted while the one before is: by a signal handler, a
destructor, another greenlet; or by an object that emits itself when it is read, which would never end."""
_BACKSLASH: Final = ord("\\")
_MILLISECONDS: Final = tuple(f"{ms:03d}Z" for ms in range(1000))


class Broadcaster:
    """Publishes a mind's events; never blocks and never raises.

    Args:
        redis_url: where Redis or Valkey listens; None reads `REDIS_URL`, else `redis://localhost:6379`.
        channel: the pub/sub channel; None reads `BROADCAST_CHANNEL`, else `v5:events`.
        stream: the stream's key; None reads `BROADCAST_STREAM`, else `v5:stream`.
        settings: all of it at once, for those who do not want the environment read.
        redact: what never leaves the process, `["password", "*_token", "/sk-[A-Za-z0-9]{20,}/"]`: globs for keys, and
            between slashes patterns for texts; None reads `BROADCAST_REDACT`, else nothing is.
        limits: how many events of some types may pass, `{"sense.*": "50/s"}`; the first pattern that matches decides;
            None reads `BROADCAST_LIMITS`, else all do.

    Raises:
        SettingError: `redact`, `limits` or those of `settings` are not such.
    """

    diversions: ClassVar[tuple[Callable[[bytes], None], ...]] = ()
    """Where events go in place of the buffer while a test captures them; empty in a living mind."""

    def __init__(
        self,
        redis_url: str | None = None,
        channel: str | None = None,
        stream: str | None = None,
        *,
        settings: Settings | None = None,
        redact: Iterable[str] | None = None,
        limits: Mapping[str, str] | None = None,
    ) -> None:
        settings, problems = Settings.for_emitter() if settings is None else (settings, None)
        settings, self._screen = screen_of(settings, redact, limits, problems)
        named = {"redis_url": redis_url, "channel": channel, "stream": stream}
        self.settings = settings.with_changes(**{k: v for k, v in named.items() if v is not None})
        self._problems = tuple(problems or ())
        self._event_bytes_max = bounded_size(self.settings.event_bytes_max)
        self._cycle: int | str = 0
        self._day: int | str = 0
        self._second: tuple[int, str] = (-1000, "")  # when it began, in milliseconds, and its text
        self._closed = False
        self.begin_anew()
        watch(self)

    def begin_anew(self) -> None:
        """Everything that belongs to one process; a forked child makes its own and leaves the parent's alone."""
        settings = self.settings
        self._producer = producer_name()
        self._buffer = Buffer(events_max=settings.buffer_events_max, bytes_max=settings.buffer_bytes_max)
        self._screen = self._screen and self._screen.anew()
        self._sender = Sender(
            self._buffer,
            connect=self._connect,
            announce=self._announcement,
            limiter=self._screen and self._screen.limiter,
        )
        self._sanitizing: dict[int, int] = {}
        self._nested = 0
        self._unencodable = 0
        self._after_close = 0
        self._child_exit_registered = False

    @property
    def exit_timeout_s(self) -> float:
        """The longest that leaving the process waits for it, seconds."""
        return self.settings.exit_timeout_s

    # --- what a mind calls

    def set_cycle(self, cycle: int, day: int) -> None:
        """Say which cycle and day the coming events belong to."""
        self._cycle, self._day = sanitize_number(cycle), sanitize_number(day)

    def cycle(self, day: int | None = None, session: object = None) -> Cycle:
        """A context for one cycle: emits `cycle.start`, `cycle.end` with `duration_ms`, and `error` if it raises.

        Args:
            day: the virtual day; None keeps the current one.
            session: what `cycle.start` calls this run; None takes the producer's name.
        """
        number = self._cycle + 1 if type(self._cycle) is int else 1
        return Cycle(
            self,
            number=number,
            day=self._day if day is None else sanitize_number(day),
            session=self._producer if session is None else session,
        )

    def emit(self, event_type: str, data: object = None) -> Event:
        """Hand an event over. Takes microseconds, never waits and never raises.

        Args:
            event_type: dotted, as `sense.project`; unknown types are welcome.
            data: what happened; a dict as a rule, but anything is accepted: an object with fields becomes a dict of
                them, the rest stands under `value`. It is encoded before this returns, so it may change afterwards.

        Returns:
            The event, `{type, ts, cycle, day, data}`. What `redact` hides is in it: it is the caller's own data.
        """
        event: Event = {"type": event_type, "ts": "", "cycle": self._cycle, "day": self._day, "data": data}
        try:
            if not FORK_MARK[0]:  # a fork whose hooks did not run (uWSGI)
                begin_anew_after_fork()
            ms = time_ns() // 1_000_000
            since, second = self._second
            event["ts"] = second + _MILLISECONDS[ms - since] if 0 <= ms - since < 1000 else self._next_second(ms)
            if self._screen is not None:
                payload = self._screened(self._screen, event, data)
            else:
                payload = self._encoded(event) or self._encoded_carefully(event, data)
            if payload is None or self._closed or Broadcaster.diversions:
                self._hand_elsewhere(payload)
            else:
                self._buffer.append(payload)
                if self._sender.idle:
                    self._rouse_sender()
        except Exception:  # noqa: BLE001 - the mind must go on whatever happened here
            self._unencodable += 1
        return event

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was emitted before is in the log.

        Args:
            timeout_s: the longest to wait, seconds.

        Returns:
            Whether it is, or is announced there as lost or withheld; False after the time is up, or when called by the
            sender's own thread.
        """
        if not FORK_MARK[0]:
            begin_anew_after_fork()
        sender = self._sender
        limiter = self._screen.limiter if self._screen else None
        tell = limiter.want_report() if limiter else 0
        target = self._buffer.accepted
        if sender.settled >= target and sender.told >= tell:
            return True
        deadline_s = time.monotonic() + timeout_s
        if not sender.running and not self._start_sender():
            # No threads any more: the interpreter is leaving.
            sender.run(settle=target, tell=tell, deadline_s=deadline_s)
        sender.wake()
        pause_s = 0.0005
        while sender.settled < target or sender.told < tell:
            left_s = deadline_s - time.monotonic()
            if not left_s > 0 or sender.is_own_thread or not sender.running:
                return False
            time.sleep(min(pause_s, left_s))
            pause_s = min(0.02, pause_s * 1.5)
        return True

    def close(self, timeout_s: float = 2.0) -> bool:
        """Flush and stop; later events are counted as dropped.

        Args:
            timeout_s: the longest to wait, seconds.

        Returns:
            Whether all that was emitted is in the log.
        """
        self._closed = True
        flushed = self.flush(timeout_s)
        self.take_leave(timeout_s)
        self._sender.stop()
        return flushed

    def take_leave(self, timeout_s: float) -> None:
        """Let viewers know at once that this producer has ended, not only when it is missed.

        Args:
            timeout_s: the longest to wait for Redis, seconds; never more than 0.25.
        """
        sender = self._sender
        if not sender.is_known or sender.is_own_thread:
            return  # too short a life to have been spoken of
        sender.take_leave()
        deadline_s = time.monotonic() + min(timeout_s, LEAVE_MAX_S)
        while not sender.has_left and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def stats(self) -> Stats:
        """What it has done so far. Costs microseconds."""
        buffer, sender = self._buffer, self._sender
        limiter = self._screen.limiter if self._screen else None
        dropped = {
            "buffer_full": buffer.dropped,
            "closed": self._after_close,
            "limited": limiter.withheld if limiter else 0,
            "nested": self._nested,
            "redis_rewound": sender.rewound,
            "rejected": sender.rejected,
            "unencodable": self._unencodable,
        }
        return Stats(
            producer=self._producer,
            emitted=buffer.accepted,
            buffered=len(buffer),
            buffered_bytes=buffer.bytes,
            appended=sender.appended,
            dropped=MappingProxyType(dropped),
            unpublished=sender.unpublished,
            connects=sender.connects,
            last_error=sender.last_error,
            append_ms=sender.append_ms,
            problems=self._problems,
        )

    # --- how it is done

    def _next_second(self, ms: int) -> str:
        text = timestamp(ms * 1_000_000)
        self._second = (ms - ms % 1000, text[:20])
        return text

    def _screened(self, screen: Screen, event: Event, data: object) -> bytes | None:
        """The event as limits and redaction let it pass; None if they do not."""
        is_text = type(event["type"]) is str
        if is_text and self._is_withheld(screen, event):
            event["data"] = as_fields(data)
            return None
        if screen.redaction is None:
            payload = self._encoded(event)
        else:
            event["data"] = as_fields(data)
            told = screen.told(event["data"], self._event_bytes_max)
            payload = None if told is None else self._encoded({**event, "data": told})
        payload = payload or self._encoded_carefully(event, data)
        # A type that is no text has become one by now.
        return None if payload is None or (not is_text and self._is_withheld(screen, event)) else payload

    def _is_withheld(self, screen: Screen, event: Event) -> bool:
        if screen.limiter is None or self._closed or Broadcaster.diversions:
            return False
        if screen.limiter.takes(event["type"][: TYPE_CHARS_MAX + 1], event["ts"], monotonic_ns()):
            return False
        if self._sender.idle and not self._sender.awaits_report:
            self._rouse_sender()
        return True

    def _encoded(self, event: Event) -> bytes | None:
        """The event as it is; None if it needs care."""
        kind, data, bytes_max = event["type"], event["data"], self._event_bytes_max
        event["data"] = flat_copy(data, bytes_max)
        if event["data"] is None:
            event["data"] = fields = as_fields(data)
            copy = plain_copy(fields, bytes_max=bytes_max)
            if copy is None:
                return None
            event["data"] = copy
        if type(kind) is not str or len(kind) > TYPE_CHARS_MAX:
            return None
        try:
            payload = encode(event)
        except TypeError:
            return None
        # One byte is looked for ten times faster than six, and most events have none.
        has_nul = _BACKSLASH in payload and b"\\u0000" in payload
        return None if has_nul or len(payload) > bytes_max else payload

    def _encoded_carefully(self, event: Event, data: object) -> bytes | None:
        ident, nested = get_ident(), self._sanitizing  # a fork meanwhile gives the child another
        depth = nested.get(ident, 0)
        if depth >= NESTED_MAX:
            self._nested += 1
            return None
        nested[ident] = depth + 1
        try:
            clean = {**event, "type": sanitize_text(event["type"], chars_max=TYPE_CHARS_MAX)}
            try:
                payload = self._cut_to_size(clean, data)
            except Exception:  # noqa: BLE001 - no memory, no stack: that it happened is worth more than nothing
                clean["data"] = {CUT_KEY: ["unreadable"]}
                payload = encode(clean)
            if type(event["type"]) is not str:
                event["type"] = clean["type"]
            if not is_dict(data):
                event["data"] = clean["data"]
            return payload
        finally:
            # Counted down, not set back to what it was: greenlets need not end in the order in which they began.
            nested[ident] -= 1
            if not nested[ident]:
                del nested[ident]

    def _cut_to_size(self, clean: Event, data: object) -> bytes:
        redactor = self._screen.redaction if self._screen else None
        return cut_to_size(clean, data, bytes_max=self._event_bytes_max, redactor=redactor)

    def _hand_elsewhere(self, payload: bytes | None) -> None:
        if payload is not None and self._closed:
            self._after_close += 1
        elif payload is not None:
            for divert in Broadcaster.diversions:
                divert(payload)

    def _rouse_sender(self) -> None:
        sender = self._sender
        if sender.running:
            sender.idle = False
            sender.wake()
        else:
            self._start_sender()

    def _start_sender(self) -> bool:
        if not self._child_exit_registered:
            self._child_exit_registered = True
            flush_before_child_exits()
        try:
            self._sender.start()
        except RuntimeError:  # no thread to be had just now; the next event tries again
            return False
        return True

    def _connect(self) -> LogConnection:
        with LateImports():
            from broadcast.emitter.connection import LogConnection, prepare

            prepare()
        settings = self.settings
        return LogConnection(
            settings.redis_url,
            stream=settings.stream,
            channel=settings.channel,
            producer=self._producer,
            stream_events_max=settings.stream_events_max,
        )

    def _announcement(self, what: Loss | Withheld) -> bytes:
        kind, data = announcement(what, self._producer)
        return encode({"type": kind, "ts": timestamp(time_ns()), "cycle": self._cycle, "day": self._day, "data": data})


_global: dict[str, Broadcaster] = {}


def get_broadcaster() -> Broadcaster:
    """The one that `emit` uses, made at first need from the environment."""
    found = _global.get("broadcaster")
    # setdefault is atomic: of several threads that come here first, all get the same one.
    return found if found is not None else _global.setdefault("broadcaster", Broadcaster())
