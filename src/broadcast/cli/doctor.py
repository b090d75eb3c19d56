"""`broadcast doctor`: what a person would look at first when no event arrives."""

from __future__ import annotations

import os
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import broadcast
from broadcast.addresses import parse_address
from broadcast.cli.archive_findings import archive_findings
from broadcast.cli.finding import Finding, Verdict, ago
from broadcast.cli.reach import ask_bridge, bridge_url
from broadcast.digest import printable
from broadcast.discovery import locate
from broadcast.emitter.connection import PRODUCER_TTL_MS
from broadcast.log.archiving import MAXLEN_FIELD, TRIMMED_FIELD, count_of, maxlen_of
from broadcast.settings import Settings

__all__ = ["Finding", "examine", "ready"]

PRODUCERS_SHOWN: Final = 20
MARK_S: Final = 15
"""A producer that has nothing to say renews its mark every 10 s."""


def examine(settings: Settings) -> int:
    """Look at everything and print it.

    Returns:
        1 if something is wrong, else 0.
    """
    findings = [*package_findings(Path.cwd(), os.environ.get("PYTHONPATH", "")), *redis_findings(settings)]
    marks = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}
    for finding in findings:
        # Producers and connections give themselves their names.
        sys.stdout.write(f"{marks[finding.verdict]}  {finding.about:<9} {printable(finding.text)}\n")
    return int(any(finding.verdict == "wrong" for finding in findings))


def ready(settings: Settings) -> int:
    """Ask the bridge on this machine whether it is ready; for health checks of containers.

    Returns:
        0 if it is, else 1.
    """
    url = bridge_url(settings)
    try:
        with ask_bridge(settings, "/readyz", timeout_s=3) as answer:
            sys.stdout.write(answer.read().decode() + "\n")
            return 0
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode("utf-8", "replace") + "\n")
    except OSError as error:
        sys.stderr.write(f"broadcast: no bridge answers on {url} ({error})\n")
    return 1


def package_findings(folder: Path, python_path: str) -> Iterator[Finding]:
    """Which package is used, and whether a file of the mind's own would be imported in its place."""
    here = Path(broadcast.__file__).parent
    yield Finding("ok", "package", str(here))
    for place in [folder, *(Path(part) for part in python_path.split(os.pathsep) if part)]:
        shadow = place / "broadcast.py"
        if shadow.is_file():
            yield Finding(
                "wrong",
                "package",
                f"{shadow} shadows it: a program started in that folder imports that file. Rename or remove it",
            )


def redis_findings(settings: Settings) -> Iterator[Finding]:
    """Is Redis there, what is in the log, who emits, who reads."""
    address = parse_address(settings.redis_url)
    shown = address.shown()
    fix = "start it, set REDIS_URL, or run `broadcast up`, which brings its own"
    try:
        url = locate(address, settings.stream)
    except (redis.RedisError, OSError) as error:
        yield Finding("wrong", "redis", f"{shown} names no server that takes the log: {error}; {fix}")
        return
    if address.kind != "server":
        shown = f"{parse_address(url).shown()}, by {shown}"
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_connect_timeout": 3}
    client: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        socket_timeout=3,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        **options,
    )
    try:
        info: dict[str, Any] = client.info()
        name = "Valkey" if "valkey_version" in info else "Redis"
        yield Finding("ok", "redis", f"{name} {info.get('valkey_version', info['redis_version'])} at {shown}")
        yield from _server_findings(info)
        yield from _log_findings(client, settings)
        yield from _reader_findings(client)
    except (redis.RedisError, OSError) as error:
        yield Finding("wrong", "redis", f"{shown} does not answer as it should: {error}; {fix}")
    finally:
        client.close()


def _server_findings(info: dict[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    what = {
        "allkeys": "the whole stream",
        # They are what carries a time to live, and the only keys that do.
        "volatile": "producers' seqs, by which an event that is sent again is recognised: it would be there twice",
    }.get(policy.partition("-")[0])
    if what is not None:
        # Without a bound of memory nothing is evicted yet.
        verdict: Verdict = "wrong" if info.get("maxmemory") else "note"
        yield Finding(verdict, "redis", f"maxmemory-policy {policy} may evict {what}; use noeviction")
    if int(str(info["redis_version"]).partition(".")[0]) < 7:
        yield Finding("wrong", "redis", "older than 7.0: ordinals (n), and so the size of gaps, are not known")
    if not info.get("aof_enabled"):
        yield Finding("note", "redis", "appendonly is off: a restart may lose minutes of the log")


def _log_findings(client: Any, settings: Settings) -> Iterator[Finding]:
    try:
        log: dict[str, str] = client.hgetall(f"{{{settings.stream}}}:log")
        stream: dict[str, Any] = client.xinfo_stream(settings.stream)
    except redis.ResponseError as error:
        if "WRONGTYPE" in str(error):
            what = f"another program keeps something else under {settings.stream}; set BROADCAST_STREAM to another name"
            yield Finding("wrong", "log", what)
            return
        if "no such key" not in str(error):
            raise
        yield Finding("note", "log", f"{settings.stream} is empty: nobody has emitted yet")
        return
    added, length = stream.get("entries-added"), stream["length"]
    text = f"{settings.stream}: {length:,} events, {added:,} ever, last id {stream['last-generated-id']}"
    yield Finding("ok", "log", f"{text}, epoch {log.get('epoch', 'none (no emitter of this package yet)')}")
    maxlen = maxlen_of(log, settings.stream_events_max)
    if added and added > maxlen > length + 100 and not _still_grows(log, added - length):
        yield Finding("wrong", "log", f"shorter than its maxlen {maxlen:,}: somebody else trims it")
    if stream.get("max-deleted-entry-id", "0-0") != "0-0":
        yield Finding("note", "log", "entries were removed with XDEL, which is not supported: gaps are counted wrong")
    yield from archive_findings(client, settings, log, stream)
    yield from _producer_findings(client, settings)


def _still_grows(log: dict[str, str], trimmed: int) -> bool:
    """Whether nothing was trimmed since an archiver has made room for more."""
    since = count_of(log.get(TRIMMED_FIELD))
    return log.get("maxlen") == log.get(MAXLEN_FIELD) and since is not None and trimmed <= since


def _producer_findings(client: Any, settings: Settings) -> Iterator[Finding]:
    prefix = f"{{{settings.stream}}}:producer:"
    names = [key.removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=500)]
    foreign = sum("by" not in fields for _, fields in client.xrevrange(settings.stream, count=100))
    for name in sorted(names)[:PRODUCERS_SHOWN]:
        # Its seq is kept for so long from the last append or mark; what is left of that says when it was.
        heard = ago((PRODUCER_TTL_MS - client.pttl(prefix + name)) // 1000)
        seq = client.get(prefix + name)
        yield Finding("ok", "emits", f"{name}, {seq} events, last heard {heard}")
    if len(names) > PRODUCERS_SHOWN:
        yield Finding("note", "emits", f"and {len(names) - PRODUCERS_SHOWN} more in the last 7 days")
    if foreign:
        text = f"{foreign} of the last 100 events come from a producer that is not this package"
        yield Finding("note", "emits", text)


def _reader_findings(client: Any) -> Iterator[Finding]:
    try:
        clients: list[dict[str, str]] = client.client_list()
    except redis.ResponseError:
        yield Finding("note", "reads", "this account may not list connections")
        return
    readers = [c for c in clients if c["name"].startswith("broadcast-") and c["name"].endswith("-tail")]
    for reader in readers:
        kind = reader["name"].removeprefix("broadcast-").removesuffix("-tail")
        yield Finding("ok", "reads", f"{kind} from {reader['addr']}, connected {reader['age']} s ago")
    if not any("bridge" in reader["name"] for reader in readers):
        yield Finding("note", "reads", "no bridge is connected: `broadcast serve` shows the events to browsers")
