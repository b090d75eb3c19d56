"""How fast the archiver moves a stream into PostgreSQL, beside what PostgreSQL takes in by itself; all with fsync.

The stream holds the events already: an archiver catches up. It runs in a process of its own, and Valkey and PostgreSQL
in theirs, so on two cores three programs share them: the archiver takes about one core, PostgreSQL nearly the other.
Plain COPY is the ceiling: the same rows, made beforehand, in batches of the same size, with the same indexes, and
nothing else; no reading, no counting, no checkpoint. One INSERT for each event is what a bridge does that stores each
event as it comes. The lag is how old the oldest event of a batch is when its transaction has ended, while events come
at an even pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
from tests.archives import database
from tests.postgresql import PostgresqlServer, running_postgresql

from benchmarks.figures import Figure, Table, median, shown_s, three_digits
from benchmarks.machine import describe
from benchmarks.peers import DATA
from broadcast import Broadcaster
from broadcast.cli.archive import collect_seldom
from broadcast.consumers.archiver import Archiver
from broadcast.consumers.batch import Batch, EpochName
from broadcast.consumers.rows import COLUMNS
from broadcast.log.cancelling import end_tasks
from broadcast.log.migrate import migrate
from broadcast.log.partitions import make, week_of
from broadcast.log.position import START, EntryId, Position
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings

EVENTS = 200_000
ROUNDS = 3
INSERTS = 3_000
COPIED = 100_000
BATCH = 5_000
RATE_MIN = 60_000
RATIO_MIN = 25
PACE = 5_000
PACED_S = 8
LAG_MAX_S = 1.0
STREAM = "bench:archive"


class Archiving:
    """Everything that is measured of the archiver, on one Redis and one PostgreSQL."""

    def __init__(self, redis_url: str, server: PostgresqlServer) -> None:
        self._redis_url = redis_url
        self._server = server
        self._settings = Settings(
            redis_url=redis_url, stream=STREAM, buffer_events_max=EVENTS + 1, buffer_bytes_max=2**30
        )
        self._broadcaster = Broadcaster(settings=self._settings)

    def figures(self) -> list[Figure]:
        with _long_stream(self._redis_url):
            for _ in range(EVENTS):
                self._broadcaster.emit("sense.project", DATA)
            assert self._broadcaster.flush(120)
            rates: dict[str, list[float]] = {"archiver": [], "COPY": [], "INSERT": []}
            for _ in range(ROUNDS):  # interleaved, so that a noisy moment meets all of them
                for name, measure in {"archiver": self._catch_up, "COPY": self._copy, "INSERT": self._insert}.items():
                    with database(self._server) as url:
                        rates[name].append(measure(url))
            with database(self._server) as url:
                lags = self._follow(url)
            self._broadcaster.close(1)
        return _figures(rates, lags)

    def _catch_up(self, url: str) -> float:
        return float(self._archiver("catch-up", url).communicate(timeout=120)[0])

    def _follow(self, url: str) -> list[float]:
        process = self._archiver("follow", url)
        assert process.stdout is not None
        process.stdout.readline()  # it has caught up
        began_s = time.monotonic()
        for number in range(PACE * PACED_S):
            pause_s = began_s + number / PACE - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            self._broadcaster.emit("sense.project", DATA)
        return [float(lag) for lag in process.communicate(timeout=60)[0].split()]

    def _archiver(self, what: str, url: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.archive", what, self._redis_url, url]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def _copy(self, url: str) -> float:
        batches = asyncio.run(_prepared(self._redis_url, url, events=COPIED))
        with psycopg.connect(url) as connection:
            began_s = time.perf_counter()
            for lines in batches:
                with connection.cursor() as cursor, cursor.copy(f"COPY events ({COLUMNS}) FROM STDIN") as copy:
                    copy.write(lines)
                connection.commit()
            return COPIED / (time.perf_counter() - began_s)

    def _insert(self, url: str) -> float:
        asyncio.run(_prepared(self._redis_url, url, events=0))
        row = ("mind:1", "sense.project", "2026-02-14T19:01:23.456Z", 42, 1551, psycopg.types.json.Jsonb(DATA))
        now_ms = int(time.time() * 1000)
        statement = (
            "INSERT INTO events (epoch, id_ms, id_seq, by, type, ts, cycle, day, data) "
            "VALUES (1, %s, %s, %s, %s, %s, %s, %s, %s)"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            began_s = time.perf_counter()
            for number in range(INSERTS):
                connection.execute(statement, (now_ms, number, *row), prepare=True)
            return INSERTS / (time.perf_counter() - began_s)


def run(redis_url: str) -> Table:
    with running_postgresql(options=("fsync=on",)) as server:
        figures = Archiving(redis_url, server).figures()
        with server.connect() as connection:
            version = connection.info.server_version // 10_000
    title = f"archive: {EVENTS:,} events, median of {ROUNDS} rounds; PostgreSQL {version} with fsync"
    return Table(title=title, versions=describe("psycopg", "hiredis"), figures=figures)


def _figures(rates: dict[str, list[float]], lags: list[float]) -> list[Figure]:
    rate, insert = median(rates["archiver"]), median(rates["INSERT"])
    ratio, worst_s = rate / insert, max(lags)
    return [
        Figure(
            name="archiving, catching up",
            measured=f"{rate:,.0f}/s",
            target=f"≥ {RATE_MIN:,}/s",
            reached=rate >= RATE_MIN,
            rounds=rates["archiver"],
            unit="1/s",
        ),
        Figure(
            name="beside one INSERT per event",
            measured=f"{three_digits(ratio)} ×, that takes {insert:,.0f}/s",
            target=f"≥ {RATIO_MIN} ×",
            reached=ratio >= RATIO_MIN,
            rounds=rates["INSERT"],
            unit="1/s",
        ),
        Figure(
            name="ceiling: plain COPY of prepared rows",
            measured=f"{median(rates['COPY']):,.0f}/s",
            rounds=rates["COPY"],
            unit="1/s",
        ),
        Figure(
            name=f"lag at {PACE:,}/s, the worst of {len(lags)} batches",
            measured=f"{shown_s(worst_s)}, median {shown_s(median(lags))}",
            target=f"≤ {LAG_MAX_S:g} s",
            reached=worst_s <= LAG_MAX_S,
            rounds=lags,
            unit="s",
        ),
    ]


@contextlib.contextmanager
def _long_stream(redis_url: str) -> Iterator[None]:
    """A stream that keeps everything, and is gone afterwards."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{{{STREAM}}}:log", "maxlen", 10 * EVENTS)
        try:
            yield
        finally:
            client.delete(STREAM, *client.scan_iter(f"{{{STREAM}}}:*"))


async def _prepared(redis_url: str, url: str, *, events: int) -> list[bytes]:
    """Tables and partitions, and the lines of COPY that an archiver would make."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrate(connection)
        await make(connection, [week_of(int(time.time() * 1000))])
    reader = StreamReader(redis_url, STREAM)
    batches: list[bytes] = []
    at = Position(START)
    while len(batches) < events // BATCH:
        entries, _ = await reader.range(at, count=BATCH)
        at = Position(entries[-1].id)
        batch = Batch(EpochName("e"), at)
        batch.add(entries)
        batches.append(batch.lines(1))
    await reader.aclose()
    return batches


async def _caught_up(settings: Settings) -> None:
    began_s = time.perf_counter()
    archiver = Archiver(settings, is_once=True)
    await archiver.run()
    print(archiver.progress.events / (time.perf_counter() - began_s))


async def _followed(settings: Settings) -> None:
    """Catch up, then note the lag of each batch, until nothing has come for two seconds."""
    await Archiver(settings, is_once=True).run()
    archiver = Archiver(settings)
    working = asyncio.create_task(archiver.run())
    while archiver.progress.position is None:  # noqa: ASYNC110 - what is measured should have no hook for it
        await asyncio.sleep(0.01)
    begin: EntryId = archiver.progress.position.id
    print("caught up", flush=True)
    lags: list[float] = []
    batches, quiet_since_s = 0, time.monotonic()
    while not lags or time.monotonic() < quiet_since_s + 2:
        progress = archiver.progress
        if progress.batches != batches and progress.position and progress.position.id > begin:
            batches, quiet_since_s = progress.batches, time.monotonic()
            lags.append(progress.lag_s)
        await asyncio.sleep(0.005)
    await end_tasks(working)
    print(*lags)


if __name__ == "__main__":
    asked, its_redis, its_database = sys.argv[1:]
    collect_seldom()  # as the program does
    given = Settings(redis_url=its_redis, stream=STREAM, database_url=its_database)
    asyncio.run({"catch-up": _caught_up, "follow": _followed}[asked](given))
