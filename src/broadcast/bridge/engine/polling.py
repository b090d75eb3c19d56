"""HTTP long-polling: `GET` fetches what waits, `POST` brings what the client has to say."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from broadcast.bridge.engine.allowance import Allowance
from broadcast.bridge.engine.client import Client
from broadcast.bridge.engine.packets import SEPARATOR, PacketError, joined
from broadcast.errors import CODES

__all__ = ["Refusal", "Sessions", "answer"]

Refusal = tuple[int, int, str]
"""A refusal as Engine.IO's own server words it: HTTP status, code, message."""

UNKNOWN_TRANSPORT: Final[Refusal] = (400, 0, "Transport unknown")
UNKNOWN_SESSION: Final[Refusal] = (400, 1, "Session ID unknown")
BAD_METHOD: Final[Refusal] = (400, 2, "Bad handshake method")
BAD_REQUEST: Final[Refusal] = (400, 3, "Bad request")
TOO_LARGE: Final[Refusal] = (413, 3, f"too_large: {CODES['too_large'].meaning}")
UNSUPPORTED_VERSION: Final[Refusal] = (400, 5, "Unsupported protocol version")
PACKET_BYTES: Final = 64
"""What a packet counts besides its bytes, as a frame does."""
POST_BYTES: Final = 512
"""What a post counts besides: it is a whole request."""
RETRY_AFTER: Final = "5"
LATER: Final = frozenset({429, 503})
"""Refusals after which another try may succeed."""


class Sessions(Protocol):
    """Where the clients are."""

    clients: dict[str, Client]

    def begin(self, request: Request) -> Client | Refusal:
        """Make a client that polls."""
        ...


def refusal_of(query: Any, *, transport: str) -> Refusal | None:
    """What is wrong with a request's query; None if nothing is."""
    if query.get("transport") != transport:
        return UNKNOWN_TRANSPORT
    return None if query.get("EIO") == "4" else UNSUPPORTED_VERSION


async def answer(request: Request, sessions: Sessions) -> Response:
    """Answer one request of a polling client."""
    refusal = refusal_of(request.query_params, transport="polling")
    if refusal is not None:
        return _refused(refusal)
    sid = request.query_params.get("sid")
    if sid is None:
        return _begun(request, sessions)
    client = sessions.clients.get(sid)
    if client is not None:
        client.tick()  # it may be too late, and the timer not yet have looked
    if client is None or client.is_closed:
        return _refused(UNKNOWN_SESSION)
    if request.method == "GET":
        return await _poll(request, client)
    if request.method == "POST":
        return await _post_alone(request, client)
    return _refused(BAD_METHOD)


def _begun(request: Request, sessions: Sessions) -> Response:
    if request.method != "GET":
        return _refused(BAD_METHOD)
    client = sessions.begin(request)
    if isinstance(client, tuple):
        return _refused(client)
    return PlainTextResponse(joined([client.session.opening()]))


async def _poll(request: Request, client: Client) -> Response:
    # Each poll of a client is marked, so that no cache answers it. Browsers send a request again, unseen by the page,
    # when a connection that was kept breaks: the same mark means that the answer has not arrived.
    mark = request.query_params.get("t", "")
    if mark and client.answered is not None and client.answered[0] == mark:
        return PlainTextResponse(client.answered[1])
    # Made before the session is asked: it may answer at once.
    poll: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    if not client.begin_poll(poll, mark):
        return _refused(BAD_REQUEST)
    lost = asyncio.ensure_future(_lost(request))
    try:
        await asyncio.wait({poll, lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost.cancel()
    if not poll.done():
        client.lose_poll()
    answer = poll.result() if poll.done() else None
    return Response(status_code=400) if answer is None else PlainTextResponse(answer)


async def _lost(request: Request) -> None:
    while not await request.is_disconnected():
        await request.receive()


async def _post_alone(request: Request, client: Client) -> Response:
    """One post at a time, as in Engine.IO's own server: so one that is held back holds its client back."""
    if client.is_posting:
        client.fail("two posts at once")
        return _refused(BAD_REQUEST)
    client.is_posting = True
    try:
        return await _post(request, client)
    finally:
        client.is_posting = False


async def _post(request: Request, client: Client) -> Response:
    bytes_max = client.session.limits.payload_bytes_max
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                client.fail("payload too large")
                return _refused(TOO_LARGE)
    except ClientDisconnect:
        return Response(status_code=400)
    try:
        client.posted(bytes(body))
    except PacketError:
        if client.session.state != "websocket":
            client.fail("parse error")
        return _refused(BAD_REQUEST)
    await asyncio.sleep(_held_s(client, body))
    return PlainTextResponse("ok")


def _held_s(client: Client, body: bytearray) -> float:
    """How long the answer is held back, seconds: nobody posts again before he has it."""
    if client.intake is None:
        limits = client.session.limits
        client.intake = Allowance(rate=limits.intake_bytes_per_s, burst=limits.intake_bytes_burst)
    packets = body.count(SEPARATOR.encode()) + 1
    cost = POST_BYTES + len(body) + packets * PACKET_BYTES
    return client.intake.take(cost, asyncio.get_running_loop().time())


def _refused(refusal: Refusal) -> Response:
    status, code, message = refusal
    headers = {"Retry-After": RETRY_AFTER} if status in LATER else None
    return JSONResponse({"code": code, "message": message}, status_code=status, headers=headers)
