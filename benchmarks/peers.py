"""What is called, each made ready so that one call is left: the floor, `emit()` in every state of Redis, and peers.

Each is made in a process of its own (`caller.py`), so nothing here is undone.
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import os
import queue
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

import broadcast

DATA = {"sense": "pain", "projection": "Pain: identity_crisis: Egor asked what I'm for."}
"""The data of a typical event, as the specification's example has it."""
SPEC = Path(__file__).parents[2] / "shared" / "spec" / "000_1ee672acb3dbbb94.txt"
DRAIN_EVENTS = 100_000
DRAINED_EVENTS = 10_000
WAIT_S = 15.0


class Peer:
    """One thing to be called.

    Args:
        redis_url: where a Redis is, or is missing.
        server_pid: that Redis's process, where the peer stops it and lets it go on.
    """

    def __init__(self, redis_url: str, server_pid: int) -> None:
        self.redis_url = redis_url
        self.server_pid = server_pid

    def call(self) -> object:
        """What is measured; replaced in `prepare` by the barest form there is."""
        raise NotImplementedError

    def prepare(self) -> Callable[[], object]:
        """Make everything ready; what this returns is measured."""
        return self.call

    def keep(self) -> bool:
        """Called between measured calls: bring about the state that the name promises; whether that took time."""
        return False

    def check(self) -> None:
        """Called behind the last: fail if the state was not what the name promises."""


class Nothing(Peer):
    """An empty call: what the measuring itself costs."""

    def prepare(self) -> Callable[[], object]:
        return lambda: None


class Floor(Peer):
    """The least that can be done: the same dict encoded, and appended to a deque; emptied between, as by a sender."""

    def prepare(self) -> Callable[[], object]:
        kept: deque[bytes] = deque()
        self.kept = kept
        event = {"type": "sense.project", "ts": "2026-02-14T19:01:23.456Z", "cycle": 42, "day": 1551, "data": DATA}
        return lambda: kept.append(orjson.dumps(event))

    def keep(self) -> bool:
        self.kept.clear()
        return False


class FloorGrowing(Floor):
    """The same with a deque that nobody empties: memory that was never used before, which costs more than the call."""

    def keep(self) -> bool:
        return False


class Logging(Peer):
    """A log record through a QueueHandler, whose listener hands it to a handler that does nothing."""

    def prepare(self) -> Callable[[], object]:
        logger = logging.getLogger("benchmark")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        line: queue.Queue[Any] = queue.Queue(-1)
        logger.addHandler(logging.handlers.QueueHandler(line))
        logging.handlers.QueueListener(line, logging.NullHandler()).start()
        return lambda: logger.info("sense.project %s", DATA)


class Span(Peer):
    """An OpenTelemetry span with the data as attributes, BatchSpanProcessor, and an exporter that does nothing."""

    def prepare(self) -> Callable[[], object]:
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class NowhereExporter(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                del spans
                return SpanExportResult.SUCCESS

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(NowhereExporter()))
        tracer = provider.get_tracer("benchmark")
        return lambda: tracer.start_span("sense.project", attributes=DATA).end()


class Listing(Peer):
    """The specification's own `Broadcaster`, where its text lies beside the checkout."""

    def prepare(self) -> Callable[[], object]:
        block = re.search(r"```python\n(# v5/broadcast\.py.*?)```", SPEC.read_text("utf-8"), re.DOTALL)
        assert block is not None
        names: dict[str, Any] = {}
        exec(block[1], names)
        theirs = names["Broadcaster"](self.redis_url)
        return lambda: theirs.emit("sense.project", DATA)


class Emit(Peer):
    """`emit()` with Redis up."""

    def prepare(self) -> Callable[[], object]:
        broadcast.set_cycle(42, 1551)
        self.connect()
        return lambda: broadcast.emit("sense.project", DATA)

    def connect(self) -> None:
        broadcast.emit("warm.up")
        assert broadcast.flush(WAIT_S), broadcast.stats()

    def check(self) -> None:
        assert broadcast.flush(WAIT_S), broadcast.stats()
        assert broadcast.stats().appended


class EmitIdle(Emit):
    """`emit()` whose sender never runs: no thread, no connection, nobody to wait for; all that it does by itself."""

    def connect(self) -> None:
        importlib.import_module("redis")  # the same heap as all others have
        # The sender takes its thread for started. `check` fails if this one day stops working.
        importlib.import_module("broadcast.emitter.sender").start_new_thread = lambda *_: 0  # type: ignore[attr-defined]

    def check(self) -> None:
        stats = broadcast.stats()
        assert (stats.connects, stats.appended) == (0, 0)
        assert stats.emitted == stats.buffered + stats.dropped["buffer_full"]
        assert stats.last_error is None


class EmitAway(Emit):
    """`emit()` with no Redis to be reached; in which way, the address tells."""

    def connect(self) -> None:
        broadcast.emit("warm.up")
        wait_for_imports()

    def check(self) -> None:
        stats = broadcast.stats()
        assert (stats.connects, stats.appended) == (0, 0), stats
        assert stats.emitted == stats.buffered + stats.dropped["buffer_full"]


def wait_for_imports() -> None:
    """Wait until the sender has imported redis-py; from then on it only tries to connect."""
    deadline_s = time.monotonic() + WAIT_S
    known = 0
    while "redis" not in sys.modules or known != len(sys.modules):
        assert time.monotonic() < deadline_s
        known = len(sys.modules)
        time.sleep(0.1)


class EmitStopped(Emit):
    """`emit()` while the connected Redis is stopped by SIGSTOP: the kernel still takes bytes, nobody answers."""

    def connect(self) -> None:
        super().connect()
        os.kill(self.server_pid, signal.SIGSTOP)
        self.appended = broadcast.stats().appended

    def check(self) -> None:
        os.kill(self.server_pid, signal.SIGCONT)
        assert broadcast.stats().appended == self.appended


class EmitDraining(Emit):
    """`emit()` while 100,000 buffered events drain into Redis; filled anew when nearly all of them are gone."""

    def keep(self) -> bool:
        if broadcast.stats().buffered > DRAINED_EVENTS:
            return False
        os.kill(self.server_pid, signal.SIGSTOP)
        try:
            while broadcast.stats().buffered < DRAIN_EVENTS:
                for _ in range(1000):
                    broadcast.emit("sense.project", DATA)
        finally:
            os.kill(self.server_pid, signal.SIGCONT)
        return True


PEERS: dict[str, type[Peer]] = {
    each.__name__: each
    for each in (
        Nothing,
        Floor,
        FloorGrowing,
        Logging,
        Span,
        Listing,
        Emit,
        EmitIdle,
        EmitAway,
        EmitStopped,
        EmitDraining,
    )
}
