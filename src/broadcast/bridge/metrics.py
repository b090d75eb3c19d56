"""`GET /metrics`: what this bridge does, in numbers, as Prometheus reads them.

Almost all of it is counted anyway and only read when somebody asks; labels are bounded, and hold nothing of an event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from broadcast.bridge.admission import Admission
from broadcast.bridge.archive_probe import ArchiveProbe
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.ingest import Ingest
from broadcast.bridge.probe import Probe
from broadcast.bridge.refusals import Refusals
from broadcast.bridge.viewer import Viewer
from broadcast.log.entry import Entry

__all__ = ["Metrics"]

DELAYS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
BACKFILL_S: Final = 3600.0
"""What is older when it comes was put in later, and says nothing about how long events take."""
LOST_REASONS: Final = frozenset({"buffer_full", "redis_rewound", "rejected"})
"""What producers may give as the reason of a loss; whatever else they say is `other`."""


class Metrics:
    """The numbers of one bridge.

    Args:
        fanout: the log as this bridge has it, and its viewers.
        admission: who was let in.
        probe: what the bridge has found out about itself.
        archive: whether PostgreSQL answers it.
        ingest: what was posted to it.
        refusals: what it has refused.
    """

    def __init__(
        self,
        fanout: Fanout,
        admission: Admission,
        probe: Probe,
        *,
        archive: ArchiveProbe,
        ingest: Ingest,
        refusals: Refusals,
    ) -> None:
        self._fanout, self._admission, self._probe = fanout, admission, probe
        self._archive, self._ingest, self._refusals = archive, ingest, refusals
        self._failed_reads = 0
        self._sent_to_gone = self._gaps_of_gone = 0
        self._ends: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._registry = CollectorRegistry(auto_describe=False)
        self._append_delay = self._histogram(
            "broadcast_append_delay_seconds",
            "From emit() to the log: the time in an event's id less its ts; not where that is more than an hour",
        )
        self._read_delay = self._histogram(
            "broadcast_read_delay_seconds", "From the log to this bridge: its clock less the time in an event's id"
        )
        self._archive_reads = self._histogram(
            "broadcast_archive_read_seconds", "What one reading of the archive took, in PostgreSQL and on the way"
        )
        self._registry.register(_Lines(self))
        ProcessCollector(registry=self._registry)
        fanout.on_taken = self.note_taken

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, buckets=DELAYS_S, registry=self._registry)

    # --- what is noted as it happens

    def note_taken(self, entries: list[Entry]) -> None:
        """Events have come; the newest of them speaks for all that came together."""
        newest = entries[-1]
        delay_s = newest.id.ms / 1000 - datetime.fromisoformat(newest.event["ts"]).timestamp()
        if delay_s <= BACKFILL_S:
            self._append_delay.observe(max(0.0, delay_s))
        self._read_delay.observe(max(0.0, self._fanout.now_ns() / 1e9 - newest.id.ms / 1000))
        for entry in entries:
            if entry.event["type"] == "broadcast.lost":
                self._note_lost(entry.event["data"])

    def _note_lost(self, data: dict[str, Any]) -> None:
        reason, count = data.get("reason"), data.get("count")
        label = reason if isinstance(reason, str) and reason in LOST_REASONS else "other"
        self._lost[label] += count if type(count) is int and 0 < count < 2**53 else 1

    def note_gone(self, viewer: Viewer) -> None:
        """A viewer is gone; what it was sent stays counted."""
        self._sent_to_gone += viewer.sent
        self._gaps_of_gone += viewer.gaps
        self._ends[viewer.ended.name if viewer.ended else "left"] += 1

    def note_archive_read(self, seconds: float, has_answered: bool) -> None:
        """The archive was read, or could not be."""
        if has_answered:
            self._archive_reads.observe(seconds)
        else:
            self._failed_reads += 1

    # --- what is read when somebody asks

    def answer(self, accept: str) -> tuple[bytes, str]:
        """All of it, in the form that is accepted: bytes and their media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def lines(self) -> Iterator[Metric]:
        """Everything that is counted elsewhere."""
        info = InfoMetricFamily("broadcast_build", "What runs here")
        info.add_metric([], {"version": version("v5-broadcast")})
        yield info
        yield from self._of_the_log()
        yield from self._of_postgresql()
        yield from self._of_the_archive()
        yield from self._of_viewers()
        yield from self._of_connections()

    def _of_the_log(self) -> Iterator[Metric]:
        fanout, ring, stream = self._fanout, self._fanout.ring, self._probe.stream
        yield _gauge("broadcast_redis_up", "Whether the log can be read", fanout.is_up)
        yield _gauge("broadcast_bridge_stuck", "Whether the bridge has found itself stuck", bool(self._probe.reasons))
        yield _counter("broadcast_events_in", "Events taken in from the stream", ring.taken)
        yield _counter("broadcast_events_in_bytes", "Bytes of their JSON", ring.taken_bytes)
        yield _counter("broadcast_malformed_events", "Entries of the stream that are no events", fanout.malformed)
        yield _counter("broadcast_repeated_events", "Events that were appended again and are known", fanout.repeated)
        yield _counters("broadcast_gaps", "Gaps of the log that this bridge has met", "reason", fanout.gaps)
        yield _counters("broadcast_lost_events", "Events that producers say they had to drop", "reason", self._lost)
        yield _gauge("broadcast_ring_events", "Events held in memory", len(ring))
        yield _gauge("broadcast_ring_bytes", "Bytes of their JSON", ring.bytes)
        if stream is not None:
            yield _gauge("broadcast_stream_events", "Entries that the stream holds", stream.length)
            if stream.added is not None and fanout.head.n is not None:
                behind = max(0, stream.added - fanout.head.n)
                yield _gauge("broadcast_stream_behind_events", "Entries that this bridge has not read yet", behind)

    def _of_postgresql(self) -> Iterator[Metric]:
        if self._archive.is_up is not None:
            yield _gauge("broadcast_postgresql_up", "Whether PostgreSQL answers this bridge", self._archive.is_up)
        failed = self._failed_reads
        yield _counter("broadcast_archive_read_failures", "Readings of the archive that PostgreSQL broke off", failed)

    def _of_the_archive(self) -> Iterator[Metric]:
        state = self._probe.archive_state
        if state is None:
            return
        yield _gauge("broadcast_archive_up", "Whether an archiver is at work, and not waiting", not state["error"])
        yield _gauge("broadcast_archive_heard_seconds", "How long ago an archiver was heard of", state["heard_s"])
        for name, about, field in (
            ("broadcast_archive_lag_events", "Entries of the stream that are not archived yet", "lag_events"),
            ("broadcast_archive_room_events", "Entries that may come before one is trimmed unarchived", "room_events"),
            ("broadcast_archive_room_seconds", "How long that takes at the present rate", "room_s"),
        ):
            if state[field] is not None:
                yield _gauge(name, about, state[field])

    def _of_viewers(self) -> Iterator[Metric]:
        fanout, viewers = self._fanout, tuple(self._fanout.viewers)
        by_transport = Counter({"websocket": 0, "polling": 0, "sse": 0})
        by_transport.update(viewer.connection.form.name for viewer in viewers)
        yield _gauges("broadcast_viewers", "Viewers that are connected", "transport", by_transport)
        live = sum(viewer.live_in is not None for viewer in viewers)
        yield _gauge("broadcast_viewers_live", "Of them, those that have had everything", live)
        sent = self._sent_to_gone + sum(viewer.sent for viewer in viewers)
        yield _counter("broadcast_events_out", "Events written to viewers", sent)
        yield _counter(
            "broadcast_events_out_bytes", "Bytes written to viewers, but for answers and heartbeats", fanout.sent_bytes
        )
        gaps = self._gaps_of_gone + sum(viewer.gaps for viewer in viewers)
        yield _counter("broadcast_viewer_gaps", "Gaps that viewers were told of", gaps)
        yield _counters("broadcast_viewer_ends", "Viewers that are gone", "reason", self._ends)
        waiting = sum(viewer.connection.waiting_bytes for viewer in viewers)
        yield _gauge("broadcast_waiting_bytes", "Bytes that wait to be taken by all viewers together", waiting)
        behind = max((fanout.ring.end - viewer.at for viewer in viewers), default=0)
        yield _gauge("broadcast_viewer_lag_events_max", "How far the last of the viewers is behind", behind)
        yield _gauge("broadcast_beat_seconds", "The interval at which viewers are written to", fanout.beat.interval_s)
        yield _counter("broadcast_rounds", "Rounds of writing", fanout.rounds)

    def _of_connections(self) -> Iterator[Metric]:
        refused = Counter({reason.replace(" ", "_"): n for reason, n in self._admission.refused.items()})
        yield _gauge("broadcast_tasks", "Tasks of the event loop; live viewers have none", len(asyncio.all_tasks()))
        yield _gauge("broadcast_connections", "Connections, of viewers and others", self._admission.connections)
        yield _counters("broadcast_refused_connections", "Connections that were not let in", "reason", refused)
        about = "Requests and handshakes that were refused, and connections that were ended for what they sent"
        yield _counters("broadcast_refusals", about, "code", self._refusals.counted)
        yield _counter(
            "broadcast_posted_events", "Events that POST /events appended; no repeats", self._ingest.appended
        )
        yield _counter("broadcast_posted_events_withheld", "Of those posted, what limits held", self._ingest.withheld)


class _Lines(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.lines()


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=value)


def _gauges(name: str, about: str, label: str, values: Counter[str]) -> Metric:
    return _labelled(GaugeMetricFamily(name, about, labels=[label]), values)


def _counters(name: str, about: str, label: str, values: Counter[str]) -> Metric:
    return _labelled(CounterMetricFamily(name, about, labels=[label]), values)


def _labelled(family: Any, values: Counter[str]) -> Metric:
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family
