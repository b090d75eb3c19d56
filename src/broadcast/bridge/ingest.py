"""`POST /events`: events of producers that are not Python, with the limits and the sanitizing of `emit()`.

What is answered is in the log. A request with an Idempotency-Key may be sent again, to any bridge, for ten minutes: it
gets the same answer, and nothing comes twice. Its events carry an identity made of the key, so that readers know them
again, too, should Redis lose them and the producer send them once more.
"""

from __future__ import annotations

import asyncio
import os
import time
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from broadcast.bridge.grant import Grant
from broadcast.bridge.posted import Posted, PostedError, parse_events, parse_key
from broadcast.emitter.cutting import TYPE_CHARS_MAX, bounded_size, cut_to_size
from broadcast.emitter.screen import screen_of
from broadcast.errors import RequestError, UnreachableError
from broadcast.event import Event, timestamp
from broadcast.log.servers import Server, Servers
from broadcast.sanitize import sanitize_text
from broadcast.settings import Settings

__all__ = ["Ingest"]

BODY_BYTES_MAX: Final = 1024 * 1024
ANSWER_TTL_MS: Final = 10 * 60 * 1000
TIMEOUT_S: Final = 5.0
EVENTS_AT_ONCE: Final = 8
"""So many are made ready before others have their turn."""


class Ingest:
    """Takes events in.

    Args:
        settings: where the log is, and what holds for events.

    Raises:
        SettingError: what is to be redacted, or limited, cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self._screen = screen_of(settings, None, None, None)
        self._servers = Servers(settings.redis_url, settings.stream, name="ingest", timeout_s=TIMEOUT_S)
        self._script = (files("broadcast.bridge") / "ingest.lua").read_text("utf-8")
        self._bytes_max = bounded_size(settings.event_bytes_max)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def answer(self, request: Request, grant: Grant) -> Response:
        """Take in one request's events.

        Args:
            request: what was posted.
            grant: what its token allows.

        Raises:
            RequestError: it is refused; nothing of it is in the log then, but for `unavailable`: that may be, and a
                repeat under the same key tells.
        """
        if grant.emits is None:
            code = "unauthorized" if grant.token_id is None else "forbidden"
            raise RequestError(code, "to emit, a token is needed that may: `broadcast token issue --emit`")
        key = parse_key(request.headers.get("idempotency-key"))
        body = await _body(request)
        content_type = request.headers.get("content-type", "")
        payloads = await self._payloads(parse_events(body, content_type), grant)
        digest = sha256(content_type.encode() + b"\n" + body).hexdigest()
        ids = await self._append(payloads, _producer(grant, key), digest)
        return JSONResponse({"ids": ids}, status_code=202, headers={"Cache-Control": "no-store"})

    async def _payloads(self, events: list[Posted], grant: Grant) -> list[bytes | None]:
        """Their JSON as the log holds it; None for what a limit withholds."""
        made: list[bytes | None] = []
        cleaned = [self._clean(index, posted, grant) for index, posted in enumerate(events)]
        for index, (posted, clean) in enumerate(zip(events, cleaned, strict=True)):
            made.append(self._payload(posted, clean))
            if index % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return made

    def _clean(self, index: int, posted: Posted, grant: Grant) -> Event:
        event_type = sanitize_text(posted.type, chars_max=TYPE_CHARS_MAX)
        if grant.emits is None or not grant.emits.matches(event_type):
            raise PostedError("forbidden", index, "type", "this token may not emit events of this type")
        ts = posted.ts or timestamp(time.time_ns())
        return {"type": event_type, "ts": ts, "cycle": posted.cycle, "day": posted.day, "data": None}

    def _payload(self, posted: Posted, clean: Event) -> bytes | None:
        screen = self._screen
        limiter = screen.limiter if screen else None
        if limiter is not None and not limiter.takes(clean["type"], clean["ts"], time.monotonic_ns()):
            return None
        redactor = screen.redaction if screen else None
        return cut_to_size(clean, posted.data, bytes_max=self._bytes_max, redactor=redactor)

    async def _append(self, payloads: list[bytes | None], producer: str, digest: str) -> list[str | None]:
        stream, settings = self.settings.stream, self.settings
        keys = [stream, f"{{{stream}}}:log"]
        if producer:
            keys.append(f"{{{stream}}}:ingest:{producer}")
        passes = "".join("0" if payload is None else "1" for payload in payloads)
        kept = [payload for payload in payloads if payload is not None]
        arguments = (settings.channel, settings.stream_events_max, os.urandom(8).hex(), digest, ANSWER_TTL_MS, producer)
        outcome, had, ids = await self._run(keys, [*arguments, passes, *kept])
        if outcome == b"conflict":
            raise RequestError("conflict", "Idempotency-Key: it came with another body before")
        if outcome != b"appended":
            raise _unavailable(outcome.decode("utf-8", "replace"))
        told = iter(ids)
        return [next(told).decode() if passed == "1" else None for passed in had.decode()]

    async def _run(self, keys: list[str], arguments: list[Any]) -> tuple[bytes, bytes, list[bytes]]:
        server: Server | None = None
        try:
            server = await self._servers.located()
            reply: Any = await server.client.eval(self._script, len(keys), *keys, *arguments)
        except (UnreachableError, RedisError, OSError) as error:
            if server is not None:
                await self._servers.leave(server)
            raise _unavailable(f"{type(error).__name__}: {error}") from None
        return reply[0], reply[1], reply[2]


def _unavailable(reason: str) -> RequestError:
    return RequestError("unavailable", f"the log cannot be written: {reason}"[:200])


def _producer(grant: Grant, key: str | None) -> str:
    """Who says what comes under this key: the same name for the same subject, whatever its token; empty without key."""
    if key is None:
        return ""
    named = sha256(f"{grant.subject}\n{key}".encode()).hexdigest()
    return f"http-{named[:32]}"


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RequestError("bad_request", "Content-Encoding: expected none")
    too_large = RequestError("too_large", f"body: at most {BODY_BYTES_MAX} bytes")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 12 or int(length) > BODY_BYTES_MAX):
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise too_large
    except ClientDisconnect:
        raise RequestError("bad_request", "body: it ended before it was whole") from None
    return bytes(body)
