"""What `broadcast doctor` says of the archive: up to where it is, and how much room is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from broadcast.cli.finding import Finding, ago, span
from broadcast.log.archiving import MAXLEN_FIELD, Archiving, Room, archive_key, maxlen_of, room
from broadcast.log.position import START, Bounds
from broadcast.settings import Settings

__all__ = ["archive_findings"]


def archive_findings(client: Any, settings: Settings, log: dict[str, str], stream: dict[str, Any]) -> Iterator[Finding]:
    """Look at what an archiver last told.

    Args:
        client: of the server that has the log.
        settings: all of them.
        log: the log's hash.
        stream: what Redis says about the stream.
    """
    told = Archiving.of_fields(client.hgetall(archive_key(settings.stream)))
    if told is None:
        if settings.database_url:
            yield Finding("note", "archive", "DATABASE_URL is set, and nobody archives: run `broadcast archive`")
        return
    maxlen = maxlen_of(log, settings.stream_events_max)
    added, length = stream.get("entries-added"), int(stream["length"])
    now_ms = int(time.time() * 1000)
    found = room(told, Bounds(None, START, added, length, log.get("epoch")), maxlen=maxlen, now_ms=now_ms)
    yield _state(told, found)
    if not found.is_heard:
        since = ago((now_ms - told.at_ms) // 1000)
        text = f"its archiver was last heard of {since}; run `broadcast archive`"
        if log.get("maxlen") == log.get(MAXLEN_FIELD):
            back = f"HSET {{{settings.stream}}}:log maxlen {settings.stream_events_max}"
            text += f". It has raised the stream's maxlen to {maxlen:,}; to be rid of that: {back}"
        yield Finding("note", "archive", text)
    elif told.error:
        yield Finding("wrong", "archive", f"its archiver waits: {told.error}")


def _state(told: Archiving, found: Room) -> Finding:
    if found.lag_events is None or found.events is None:
        return Finding("note", "archive", f"up to {told.id or 'nothing'}, in another log than this one")
    text = f"up to {told.id}, {found.lag_events:,} events behind"
    if found.events < 0:
        return Finding("wrong", "archive", f"{text}; {-found.events:,} of them are trimmed already, and lost to it")
    time_left = "" if found.s is None else f", at the present rate for {span(round(found.s))}"
    return Finding("ok", "archive", f"{text}, room for {found.events:,} more{time_left}")
