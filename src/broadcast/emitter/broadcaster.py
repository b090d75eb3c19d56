"""The object that emits. On the calling thread: guard, encode, append; everything else is the sender's work.

Nothing on that path takes a lock, logs, imports or touches a socket, so it may run in any thread, in a signal handler,
in a destructor and in a forked child.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from _thread import get_ident
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from broadcast.emitter.buffer import Buffer, Loss
from broadcast.emitter.cycle import Cycle
from broadcast.emitter.sender import Sender
from broadcast.event import Event, encode, timestamp
from broadcast.sanitize import CHARS_MAX, sanitize, sanitize_data, sanitize_text
from broadcast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broadcast.emitter.connection import LogConnection

__all__ = ["Broadcaster", "Stats", "get_broadcaster"]

TYPE_CHARS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Stats:
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


class Broadcaster:
    """Publishes a mind's events; never blocks and never raises.

    Args:
        redis_url: where Redis or Valkey listens; None reads `REDIS_URL`, else `redis://localhost:6379`.
        channel: the pub/sub channel; None reads `BROADCAST_CHANNEL`, else `v5:events`.
        stream: the stream's key; None reads `BROADCAST_STREAM`, else `v5:stream`.
        settings: all of it at once, for those who do not want the environment read.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        channel: str | None = None,
        stream: str | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        problems: list[str] = []
        if settings is None:
            settings, problems = Settings.for_emitter()
        named = {"redis_url": redis_url, "channel": channel, "stream": stream}
        self.settings = settings.with_changes(**{k: v for k, v in named.items() if v is not None})
        self._problems = tuple(problems)
        self._cycle: Any = 0
        self._day: Any = 0
        self._second: tuple[int, str] = (-1, "")
        self._nested = 0
        self._unencodable = 0
        self._sanitizing: set[int] = set()
        self._closed = False
        self._exit_registered = False
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """Everything that belongs to one process; a forked child makes its own and leaves the parent's alone."""
        settings = self.settings
        self._pid = os.getpid()
        self._producer = _producer_name(self._pid)
        self._buffer = Buffer(events_max=settings.buffer_events_max, bytes_max=settings.buffer_bytes_max)
        self._sender = Sender(self._buffer, connect=self._connect, announce=self._lost_event)
        self._start_tokens = [True]
        self._sanitizing.clear()

    # --- what a mind calls

    def set_cycle(self, cycle: int, day: int) -> None:
        """Say which cycle and day the coming events belong to."""
        self._cycle = cycle if type(cycle) is int else sanitize(cycle)
        self._day = day if type(day) is int else sanitize(day)

    def cycle(self, day: int | None = None, session: object = None) -> Cycle:
        """A context for one cycle: emits `cycle.start`, `cycle.end` with `duration_ms`, and `error` if it raises.

        Args:
            day: the virtual day; None keeps the current one.
            session: what `cycle.start` calls this run; None takes the producer's name.
        """
        number = self._cycle + 1 if type(self._cycle) is int else 1
        day = self._day if day is None else day
        return Cycle(self, number=number, day=day, session=self._producer if session is None else session)

    def emit(self, event_type: str, data: object = None) -> Event:
        """Hand an event over. Takes microseconds, never waits and never raises.

        Args:
            event_type: dotted, as `sense.project`; unknown types are welcome.
            data: what happened; a dict as a rule, anything at all is accepted (then under `value`). It is encoded
                before this returns, so it may change afterwards.

        Returns:
            The event, `{type, ts, cycle, day, data}`.
        """
        event: Event = {
            "type": event_type,
            "ts": "",
            "cycle": self._cycle,
            "day": self._day,
            "data": data if type(data) is dict else {} if data is None else {"value": data},
        }
        try:
            event["ts"] = self._now()
            if os.getpid() != self._pid:  # a fork whose hooks did not run (uWSGI)
                self._begin()
            if self._sanitizing and get_ident() in self._sanitizing:
                self._nested += 1  # user code run by the sanitizer emits: that way lies no end
                return event
            try:
                payload = encode(event)
                if len(payload) > self.settings.event_bytes_max or b"\\u0000" in payload:
                    payload = self._encode_carefully(event, data)
            except TypeError:
                payload = self._encode_carefully(event, data)
            self._hand_over(payload)
        except Exception:  # noqa: BLE001 - the mind must go on whatever happened here
            self._unencodable += 1
        return event

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was emitted before is in the log.

        Args:
            timeout_s: the longest to wait, seconds.

        Returns:
            Whether it is; False after the time is up, or when called by the sender's own thread.
        """
        buffer, sender = self._buffer, self._sender
        target = buffer.accepted
        deadline = time.monotonic() + timeout_s
        if target and not sender.running:
            self._start_sender()
        sender.wake()
        pause_s = 0.0005
        while buffer.dropped + sender.settled < target:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or sender.is_own_thread or not sender.running:
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
        flushed = self.flush(timeout_s)
        self._closed = True
        self._sender.stop()
        return flushed

    def stats(self) -> Stats:
        """What it has done so far. Costs microseconds."""
        buffer, sender = self._buffer, self._sender
        dropped = {
            "buffer_full": buffer.dropped,
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

    def _now(self) -> str:
        now_ns = time.time_ns()
        second, rest_ns = divmod(now_ns, 1_000_000_000)
        known, text = self._second
        if second != known:
            text = timestamp(now_ns)[:20]
            self._second = (second, text)
        return f"{text}{rest_ns // 1_000_000:03d}Z"

    def _encode_carefully(self, event: Event, data: object) -> bytes:
        ident = get_ident()
        self._sanitizing.add(ident)
        try:
            clean = {**event, "type": sanitize_text(event["type"], chars_max=TYPE_CHARS_MAX)}
            for chars_max in (CHARS_MAX, CHARS_MAX // 8):
                clean["data"] = sanitize_data(data, chars_max=chars_max)
                payload = encode(clean)
                if len(payload) <= self.settings.event_bytes_max:
                    return payload
            clean["data"] = {"broadcast.cut": ["size"]}
            return encode(clean)
        finally:
            self._sanitizing.discard(ident)

    def _hand_over(self, payload: bytes) -> None:
        if self._closed:
            self._unencodable += 1
            return
        self._buffer.append(payload)
        sender = self._sender
        if sender.sleeping:
            sender.sleeping = False
            sender.wake()
        elif not sender.running:
            self._start_sender()

    def _start_sender(self) -> None:
        try:
            self._start_tokens.pop()  # atomic: of several threads that come here first, one starts it
        except IndexError:
            return
        try:
            self._sender.start()
        except RuntimeError:  # no thread to be had just now; the next event tries again
            self._start_tokens.append(True)
            return
        if not self._exit_registered:
            self._exit_registered = True
            atexit.register(_at_exit, weakref.ref(self))

    def _connect(self) -> LogConnection:
        from broadcast.emitter.connection import LogConnection

        settings = self.settings
        return LogConnection(
            settings.redis_url,
            stream=settings.stream,
            channel=settings.channel,
            producer=self._producer,
            stream_events_max=settings.stream_events_max,
        )

    def _lost_event(self, loss: Loss) -> bytes:
        data = {
            "count": loss.count,
            "reason": loss.reason,
            "first_ts": _ts_of(loss.first),
            "last_ts": _ts_of(loss.last),
            "producer": self._producer,
        }
        ts = timestamp(time.time_ns())
        cycle, day = self._cycle, self._day
        return encode({"type": "broadcast.lost", "ts": ts, "cycle": cycle, "day": day, "data": data})


def _ts_of(payload: bytes | None) -> str | None:
    if payload is None:
        return None
    # A quotation mark inside a JSON text stands behind a backslash, so this can only be the field itself.
    at = payload.find(b',"ts":"') + 7
    return payload[at : at + 24].decode("ascii", "replace")


def _producer_name(pid: int) -> str:
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in os.uname().nodename)[:64]
    return f"{host}-{pid}-{os.urandom(4).hex()}"


def _at_exit(reference: weakref.ref[Broadcaster]) -> None:
    """Wait for the buffer, bounded; a forked child inherits this call and must not wait for its parent's events."""
    try:
        broadcaster = reference()
        if broadcaster is not None and broadcaster._pid == os.getpid():  # noqa: SLF001 - this module's own class
            broadcaster.flush(broadcaster.settings.exit_timeout_s)
            broadcaster._sender.stop()  # noqa: SLF001
    except BaseException:  # noqa: BLE001 - Ctrl-C while leaving: leave at once, without a traceback
        return


def _after_fork_in_child() -> None:
    for broadcaster in list(_alive):
        broadcaster._begin()  # noqa: SLF001 - this module's own class  # pyright: ignore[reportPrivateUsage]


_alive: weakref.WeakSet[Broadcaster] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork_in_child)

_global: dict[str, Broadcaster] = {}


def get_broadcaster() -> Broadcaster:
    """The one that `emit` uses, made at first need from the environment."""
    found = _global.get("broadcaster")
    # setdefault is atomic: of several threads that come here first, all get the same one.
    return found if found is not None else _global.setdefault("broadcaster", Broadcaster())
