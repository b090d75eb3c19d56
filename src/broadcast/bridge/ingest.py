"""`POST /events`: events of producers that are not Python, with the limits and the sanitizing of `emit()`.

What is answered is in the log. A request with an Idempotency-Key may be sent again, to any bridge, for ten minutes: it
gets the same answer, nothing comes twice, and limits count it once. Its events carry an identity made of key and body,
so that readers know them again, too, should Redis lose them and the producer send them once more; another body under an
old key is news to them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from weakref import WeakValueDictionary

from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from broadcast.bridge.grant import Grant
from broadcast.bridge.outage import Outage
from broadcast.bridge.posted import EVENTS_MAX, Posted, PostedError, parse_events, parse_key
from broadcast.bridge.quotas import Quotas
from broadcast.bridge.withholding import Withholding
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
TURN_S: Final = 0.002
"""For so long events are made ready before others have their turn."""
AT_ONCE_MAX: Final = 16
"""Requests with one token that are worked on at a time; the others wait, their bodies with them."""


class _Choice:
    """Which of a request's events pass: found once, for it and for those of its repeats that are under way with it."""

    __slots__ = ("__weakref__", "passes")

    def __init__(self, passes: str | None = None) -> None:
        self.passes = passes
        """A digit for each event, 1 or 0; None while that is not known."""


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
        rate = settings.emit_events_per_minute
        self._quotas = Quotas(rate, burst=max(rate, float(EVENTS_MAX)))
        self._outage = Outage("the log cannot be written just now")
        self._limiter = self._screen.limiter if self._screen else None
        self._withholding = Withholding(settings, self._limiter) if self._limiter else None
        self.appended = 0
        """How many events were appended; repeats count for nothing."""
        self._turns: MutableMapping[str, asyncio.Semaphore] = WeakValueDictionary()
        self._choices: MutableMapping[tuple[str, str], _Choice] = WeakValueDictionary()

    @property
    def withheld(self) -> int:
        """How many events limits have held back; repeats count for nothing."""
        return self._limiter.withheld if self._limiter else 0

    async def aclose(self) -> None:
        """Have it told in the log what limits withheld, and close the connections."""
        if self._withholding is not None:
            await self._withholding.aclose()
        await self._servers.aclose()

    async def answer(self, request: Request, grant: Grant, refuse_ended: Callable[[Grant], None]) -> Response:
        """Take in one request's events.

        Args:
            request: what was posted.
            grant: what its token allows.
            refuse_ended: looks whether it does so still, once the body is there and it is its turn.

        Raises:
            RequestError: it is refused; nothing of it is in the log then, but for `unavailable`: that may be, and a
                repeat under the same key tells.
        """
        if not grant.may_emit or grant.token_id is None:
            code = "unauthorized" if grant.token_id is None else "forbidden"
            raise RequestError(code, "to emit, a token is needed that may: `broadcast token issue --emit`")
        key = parse_key(request.headers.get("idempotency-key"))
        async with self._turns.setdefault(grant.token_id, asyncio.Semaphore(AT_ONCE_MAX)):
            body = await _body(request)
            content_type = request.headers.get("content-type", "")
            events = parse_events(body, content_type)
            self._refuse_flood(grant.token_id, len(events))
            cleaned = [self._clean(index, posted, grant) for index, posted in enumerate(events)]
            payloads = await self._payloads(events, cleaned)
            digest = sha256(content_type.encode() + b"\n" + body).hexdigest()
            name = _answer_name(grant, key)
            choice = await self._choice(name, digest)
            refuse_ended(grant)
            if choice.passes is None:
                choice.passes = self._passes(cleaned)
            ids = await self._append(payloads, choice.passes, name, digest)
        if self._withholding is not None:
            self._withholding.note()
        return JSONResponse({"ids": ids}, status_code=202, headers={"Cache-Control": "no-store"})

    def _refuse_flood(self, token_id: str, count: int) -> None:
        wait_s = self._quotas.wait_s(token_id, time.monotonic(), cost=count)
        if wait_s > 0:
            told = f"too many events with this token; again in {wait_s:.1f} s"
            raise RequestError("too_many_requests", told, retry_after_s=wait_s)

    async def _payloads(self, events: list[Posted], cleaned: list[Event]) -> list[bytes]:
        """Their JSON as the log holds it.

        What does not pass is made, too: of a repeat, those pass that did so the first time, which the log alone knows.
        """
        made: list[bytes] = []
        turn_ends_s = 0.0
        for posted, clean in zip(events, cleaned, strict=True):
            if time.monotonic() > turn_ends_s:
                await asyncio.sleep(0)
                turn_ends_s = time.monotonic() + TURN_S
            made.append(self._payload(posted, clean))
        return made

    def _clean(self, index: int, posted: Posted, grant: Grant) -> Event:
        event_type = sanitize_text(posted.type, chars_max=TYPE_CHARS_MAX)
        if grant.emits is None or not grant.emits.matches(event_type):
            raise PostedError("forbidden", index, "type", "this token may not emit events of this type")
        ts = posted.ts or timestamp(time.time_ns())
        return {"type": event_type, "ts": ts, "cycle": posted.cycle, "day": posted.day, "data": None}

    async def _choice(self, name: str, digest: str) -> _Choice:
        """What was chosen the first time, or is being chosen: the limits are not asked again, so no other event pays.

        Asked before they are, since what a limiter has let pass cannot be given back: its bucket fills meanwhile.
        """
        if not name or self._limiter is None:
            return _Choice()
        choice = self._choices.setdefault((name, digest), _Choice())
        kept: Any = await self._at_server(lambda client: client.get(self._answer_key(name)))
        if kept is not None:
            was, choice.passes, _ = kept.decode().split("\n")
            if was != digest:
                raise _conflict()
        return choice

    def _passes(self, cleaned: list[Event]) -> str:
        limiter, now_ns = self._limiter, time.monotonic_ns()
        if limiter is None:
            return "1" * len(cleaned)
        return "".join("1" if limiter.takes(clean["type"], clean["ts"], now_ns) else "0" for clean in cleaned)

    def _answer_key(self, name: str) -> str:
        return f"{{{self.settings.stream}}}:ingest:{name}"

    def _payload(self, posted: Posted, clean: Event) -> bytes:
        redactor = self._screen.redaction if self._screen else None
        return cut_to_size(clean, posted.data, bytes_max=self._bytes_max, redactor=redactor)

    async def _append(self, payloads: list[bytes], passes: str, name: str, digest: str) -> list[str | None]:
        stream, settings = self.settings.stream, self.settings
        keys = [stream, f"{{{stream}}}:log"]
        if name:
            keys.append(self._answer_key(name))
        producer = name and f"http-{sha256(f'{name} {digest}'.encode()).hexdigest()[:32]}"
        arguments = (settings.channel, settings.stream_events_max, os.urandom(8).hex(), digest, ANSWER_TTL_MS, producer)
        run = (self._script, len(keys), *keys, *arguments, passes, *payloads)
        outcome, had, ids, new = await self._at_server(lambda client: client.eval(*run))
        self.appended += new
        if outcome == b"conflict":
            raise _conflict()
        if outcome != b"appended":
            raise self._outage.refusal(outcome.decode("utf-8", "replace"))
        told = iter(ids)
        return [next(told).decode() if passed == "1" else None for passed in had.decode()]

    async def _at_server(self, asks: Callable[[Any], Awaitable[Any]]) -> Any:
        server: Server | None = None
        try:
            server = await self._servers.located()
            return await asks(server.client)
        except (UnreachableError, RedisError, OSError) as error:
            if server is not None:
                await self._servers.leave(server)
            raise self._outage.refusal(f"{type(error).__name__}: {error}") from None


def _conflict() -> RequestError:
    return RequestError("conflict", "Idempotency-Key: it came with another body before")


def _answer_name(grant: Grant, key: str | None) -> str:
    """Under what the answer is kept: the same for the same subject, whatever its token; empty without key."""
    return "" if key is None else sha256(f"{grant.subject}\n{key}".encode()).hexdigest()[:32]


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
