"""How fast the archive is read over HTTP, and what that costs those who watch live meanwhile.

The archive is filled by PostgreSQL itself. `/history` as lines of JSON runs through a bridge in a process of its own,
to a client that only counts; beside it, in the same run, stand what PostgreSQL gives to a client of its own: the same
JSON through a server-side cursor, and bare rows through COPY. Live viewers are the C program's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from tests.archives import database
from tests.postgresql import running_postgresql

from benchmarks.figures import Figure, Table, median, three_digits
from benchmarks.machine import describe
from benchmarks.servers import Bridge, bridge, resident_bytes
from benchmarks.viewers import Viewers, has_compiler
from broadcast.log.migrate import migrate
from broadcast.log.partitions import make, week_of
from broadcast.log.questions import DELIVERED

ROWS = 10_000_000
EXPORTED = 1_000_000
RATE_MIN = 120_000
PAGE_MAX_MS = 50.0
MEMORY_MAX_MB = 20.0
P99_RATIO_MAX = 2.0
LIVE_VIEWERS = 50
LIVE_RATE = 100
LIVE_S = 6.0
PAGES = 5
BEGAN_MS = 1_771_000_000_000
STEP_MS = 500
QUESTIONS = {
    "one rare type": "types=error&limit=100",
    "half of the types": "types=sense.*,state.*,cycle.*&limit=100",
    "two types of a day": "types=cycle.*&since=2026-02-20T00:00:00Z&until=2026-02-20T23:59:59Z&limit=100",
    "the newest of a type": "types=cycle.end&order=desc&limit=100",
    "a type that is not there": "types=nothing.ever&limit=100",
}
_FILL = """
INSERT INTO events
SELECT 1, {began} + at * {step}, 0, 'kai-4711-9f3a2c01:' || (at + 1),
       CASE WHEN at % 50 = 7 THEN 'cycle.start' WHEN at % 50 = 43 THEN 'cycle.end' WHEN at % 9973 = 5 THEN 'error'
            ELSE (ARRAY['sense.project', 'sense.raw', 'state.mood', 'state.drive', 'thought.step', 'model.call',
                        'memory.read'])[1 + (at * 7919) % 7] END,
       to_timestamp(({began} + at * {step}) / 1000.0), at / 50, 1551,
       jsonb_build_object('sense', 'pain', 'projection', 'Pain: identity_crisis: what am I for?', 'at', at), NULL,
       at + 1
FROM generate_series(0::bigint, {rows} - 1) AS at
"""


@dataclass(slots=True)
class Reading:
    """One export, as its client sees it."""

    events: int = 0
    seconds: float = 0.0
    resident: list[int] = field(default_factory=list[int])

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def run(redis_url: str) -> Table:
    with running_postgresql(options=("shared_buffers=256MB", "max_wal_size=4GB")) as server, database(server) as url:
        asyncio.run(_fill(url, ROWS))
        with bridge(redis_url, DATABASE_URL=url, BROADCAST_REPLAY_EVENTS_PER_MINUTE="0") as serving:
            figures = [*_pages(serving), *_exports(serving, url), *(_live(serving) if has_compiler() else [])]
        with server.connect() as connection:
            version = connection.info.server_version // 10_000
    title = f"history: {ROWS:,} events in PostgreSQL {version}"
    return Table(title=title, versions=describe("psycopg", "uvicorn", "uvloop"), figures=figures)


async def _fill(url: str, rows: int) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrate(connection)
        last_ms = BEGAN_MS + (rows - 1) * STEP_MS
        await make(connection, range(week_of(BEGAN_MS), week_of(last_ms) + 1))
        await connection.execute("INSERT INTO epochs (name, first_ms, first_seq) VALUES ('e1', %s, 0)", (BEGAN_MS,))
        await connection.execute(_FILL.format(began=BEGAN_MS, step=STEP_MS, rows=rows).encode())
        await connection.execute("INSERT INTO types SELECT type, count(*) FROM events GROUP BY 1")
        await connection.execute(
            "INSERT INTO checkpoint (stream, epoch, id_ms, id_seq, n, holder) VALUES ('v5:stream', 1, %s, 0, %s, '')",
            (last_ms, rows),
        )
        await connection.execute("VACUUM ANALYZE events")


def _pages(serving: Bridge) -> Iterator[Figure]:
    for name, query in QUESTIONS.items():
        rounds: list[float] = []
        for _ in range(PAGES):
            began_s = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{serving.port}/history?{query}", timeout=60) as answer:
                answer.read()
            rounds.append((time.perf_counter() - began_s) * 1000)
        yield Figure(
            name=f"first page: {name}",
            measured=f"{three_digits(median(rounds))} ms, slowest {three_digits(max(rounds))} ms",
            target=f"≤ {PAGE_MAX_MS:g} ms",
            reached=median(rounds) <= PAGE_MAX_MS,
            rounds=rounds,
            unit="ms",
        )


def _exports(serving: Bridge, url: str) -> Iterator[Figure]:
    _read(serving, EXPORTED // 10)  # until everything has been done once
    before = resident_bytes(serving.pid)
    reading, cursor, copy = _read(serving, EXPORTED), _by_cursor(url), _by_copy(url)
    yield Figure(
        name=f"/history as lines, {reading.events:,} events",
        measured=f"{reading.rate:,.0f}/s; {reading.rate / cursor:.2f} × a cursor, {reading.rate / copy:.2f} × COPY",
        target=f"≥ {RATE_MIN:,}/s",
        reached=reading.rate >= RATE_MIN,
        rounds=[reading.rate],
        unit="1/s",
    )
    yield Figure(name="the same JSON by a server-side cursor", measured=f"{cursor:,.0f}/s", rounds=[cursor], unit="1/s")
    yield Figure(name="bare rows by COPY", measured=f"{copy:,.0f}/s", rounds=[copy], unit="1/s")
    grown = (max(reading.resident, default=before) - before) / 2**20
    yield Figure(
        name="the bridge's memory meanwhile, beyond before",
        measured=f"{grown:+.1f} MB",
        target=f"± {MEMORY_MAX_MB:g} MB",
        reached=abs(grown) <= MEMORY_MAX_MB,
        rounds=[grown],
        unit="MB",
    )


def _live(serving: Bridge) -> Iterator[Figure]:
    quiet, busy = _p99_ms(serving, exporting=False), _p99_ms(serving, exporting=True)
    yield Figure(
        name=f"p99 of {LIVE_VIEWERS} live viewers while one reads",
        measured=f"{busy / quiet:.2f} × without, {busy:.1f} ms and {quiet:.1f} ms",
        target=f"≤ {P99_RATIO_MAX:g} ×",
        reached=busy <= quiet * P99_RATIO_MAX,
        rounds=[quiet, busy],
        unit="ms",
    )


def _p99_ms(serving: Bridge, *, exporting: bool) -> float:
    with Viewers(serving.port, "socketio", LIVE_VIEWERS) as viewers, contextlib.ExitStack() as stack:
        viewers.wait_until_live()
        if exporting:
            stack.enter_context(_always_exporting(serving))
        serving.emit(LIVE_RATE, 1.0)
        viewers.start()
        serving.emit(LIVE_RATE, LIVE_S)
        return viewers.stop().percentiles_ms[99.0]


@contextlib.contextmanager
def _always_exporting(serving: Bridge) -> Iterator[None]:
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            _read(serving, EXPORTED, ended)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _read(serving: Bridge, events: int, ended: threading.Event | None = None) -> Reading:
    """Read a range as lines, and look at the bridge's memory now and then."""
    reading, began_s, turns, mark, edge = Reading(), time.perf_counter(), 0, b'","n":', b""
    with socket.create_connection(("127.0.0.1", serving.port), timeout=60) as client:
        client.sendall(
            f"GET /history?limit={events} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        while (part := client.recv(1 << 18)) and not (ended is not None and ended.is_set()):
            reading.events += (edge + part).count(mark)
            edge = part[1 - len(mark) :]
            turns += 1
            if turns % 100 == 0:
                reading.resident.append(resident_bytes(serving.pid))
    reading.seconds = time.perf_counter() - began_s
    return reading


def _by_cursor(url: str) -> float:
    with psycopg.connect(url) as connection, connection.cursor(name="reading") as cursor:
        cursor.itersize = 5_000
        began_s = time.perf_counter()
        cursor.execute(
            f"SELECT {DELIVERED} FROM events WHERE epoch = 1 ORDER BY id_ms, id_seq LIMIT {EXPORTED}".encode()
        )
        return sum(1 for _ in cursor) / (time.perf_counter() - began_s)


def _by_copy(url: str) -> float:
    statement = f"COPY (SELECT * FROM events WHERE epoch = 1 ORDER BY id_ms, id_seq LIMIT {EXPORTED}) TO STDOUT"
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        began_s = time.perf_counter()
        with cursor.copy(statement.encode()) as copy:
            return sum(1 for _ in copy) / (time.perf_counter() - began_s)
