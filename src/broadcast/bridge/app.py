"""The composition root: settings in, an ASGI application out, and the life of everything in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
import structlog

from broadcast.bridge.access import Access
from broadcast.bridge.engine.client import Client
from broadcast.bridge.engine.engine import Engine
from broadcast.bridge.engine.namespaces import Sent
from broadcast.bridge.engine.polling import Refusal
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.guard import Guard, GuardPolicy
from broadcast.bridge.http import bearer_token, make_http_app, with_cors
from broadcast.bridge.presence import Presence
from broadcast.bridge.requests import parse_handshake, utc_now, wants_recovery
from broadcast.bridge.ring import Ring
from broadcast.bridge.viewer import Request, Viewer
from broadcast.errors import CODES, RequestError
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings

__all__ = ["Bridge"]

_log: Any = structlog.get_logger("broadcast.bridge")
LEAVE_S: Final = 1.0
RESTART_S: Final = 1.0


class Bridge:
    """One bridge: give `app` to an ASGI server, between `start` and `stop`.

    Args:
        settings: all of them.

    Raises:
        SettingError: the server would be open to others without anybody having said so.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._access = Access(settings)
        self._reader = StreamReader(settings.redis_url, settings.stream, name="bridge", renews_epoch=True)
        ring = Ring(events_max=settings.ring_events_max, bytes_max=settings.ring_bytes_max)
        self.fanout = Fanout(self._reader, ring)
        self._policy = GuardPolicy(frozenset(settings.origins), frozenset({settings.host}))
        self._engine = Engine(self, refuse=self._refuse)
        self._viewers: dict[Client, Viewer] = {}
        self._tasks: dict[Client, asyncio.Task[None]] = {}
        self._serving: set[asyncio.Task[Any]] = set()
        """Every task that writes to a viewer, whatever the transport."""
        self._presence = Presence(settings)
        self._followers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.app = self._make_app()
        self.socket = self._engine.socket
        """What uvicorn makes of a request to upgrade: its `ws` setting."""

    def _make_app(self) -> Any:
        origins = frozenset(self.settings.origins)
        http = make_http_app(fanout=self.fanout, access=self._access, serve=self._serve)
        sockets: Callable[..., Awaitable[None]] = self._engine.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            is_socket = scope["type"] == "http" and scope["path"].rstrip("/") == "/socket.io"
            await (sockets if is_socket else http)(scope, receive, send)

        return Guard(with_cors(app, origins), self._policy)

    async def start(self) -> None:
        """Begin to follow the log."""
        self._followers = [
            asyncio.create_task(self._follow(), name="follow the log"),
            asyncio.create_task(self._presence.follow(), name="presence of producers"),
        ]

    async def _follow(self) -> None:
        while True:
            try:
                await self.fanout.follow()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave everybody without events
                _log.exception("the log's reader failed; it goes on from where the ring ends")
                self.fanout.lost(f"fault: {type(error).__name__}")
                await asyncio.sleep(RESTART_S)

    async def stop(self) -> None:
        """Say good-bye to every viewer, wait a moment, and leave those who did not listen."""
        self._stopping = True
        for viewer in list(self.fanout.viewers):
            viewer.dismiss("shutdown")
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=min(LEAVE_S, self.settings.grace_s / 4))
            for task in late:
                task.cancel()
        await self._engine.drain(min(LEAVE_S, self.settings.grace_s / 4))
        await self._engine.shutdown()
        for follower in self._followers:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower
        await self._reader.aclose()

    async def _serve(self, viewer: Viewer) -> None:
        """Run one viewer to its end, whatever the transport; its fault ends it alone."""
        if len(self.fanout.viewers) >= (self.settings.connections_max or float("inf")):
            viewer.dismiss("too_many_requests")
        elif self._stopping:
            viewer.dismiss("shutdown")
        self.fanout.viewers.add(viewer)
        self._note_task(asyncio.current_task())
        try:
            await viewer.run()
        except Exception:  # noqa: BLE001 - whatever it was, it ends this viewer alone
            _log.exception("a viewer's cursor failed")
            await viewer.connection.close(may_return=True, abort=True)
        finally:
            self.fanout.viewers.discard(viewer)

    def _note_task(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    # --- what the engine calls

    def _refuse(self, headers: Mapping[str, str], address: str) -> Refusal | None:
        del address
        code = self._policy.refusal(host=headers.get("host"), origin=headers.get("origin"))
        return None if code is None else (code.http_status, 4, code.meaning)

    def exists(self, namespace: str) -> bool:
        """There is the default namespace alone."""
        return namespace == "/"

    def greeting(self, client: Client, auth: object) -> dict[str, str]:
        """The log's epoch as `pid`, for a client that keeps its place by itself."""
        epoch = self.fanout.head.epoch
        client.recovers = epoch is not None and wants_recovery(auth, client.headers)
        return {"pid": epoch} if epoch is not None and client.recovers else {}

    def connected(self, client: Client, namespace: str, auth: object) -> None:
        """A viewer has connected: give it a cursor, or say why not."""
        del namespace
        try:
            handshake = parse_handshake(auth, now=utc_now())
            grant = self._access.grant(handshake.token or bearer_token(client.headers.get("authorization")))
        except RequestError as error:
            self._note_task(asyncio.create_task(_send_away(client, error)))
            return
        viewer = self._viewers[client] = Viewer(client, self.fanout, handshake=handshake, grant=grant)
        task = self._tasks[client] = asyncio.create_task(self._serve(viewer))
        task.add_done_callback(lambda _: self._tasks.pop(client, None))

    def requested(self, client: Client, event: Sent) -> None:
        """A viewer asks for something: it is answered in its turn."""
        viewer = self._viewers.get(client)
        if viewer is None:
            return
        ack_id, arguments = event.ack_id, event.arguments

        async def answer(payload: str) -> None:
            assert ack_id is not None
            await client.acknowledge(ack_id, payload)

        data = arguments[1] if len(arguments) > 1 else None
        viewer.submit(Request(arguments[0], data, None if ack_id is None else answer))

    def disconnected(self, client: Client, namespace: str, reason: str) -> None:
        """A viewer is gone."""
        del namespace
        viewer = self._viewers.pop(client, None)
        task = self._tasks.pop(client, None)
        if task is not None and viewer is not None:
            # One that was told to go closes its connection itself; do not cut its last words.
            if viewer.ended is None:
                task.cancel()
            code = viewer.ended.name if viewer.ended else "left"
            _log.info("viewer gone", id=client.id, how=code, reason=reason, sent=viewer.sent)


async def _send_away(connection: Client, error: RequestError) -> None:
    code = CODES[error.code.name]
    bye = {"code": code.name, "reason": error.message, "reconnect": code.reconnect}
    await connection.send("bye", orjson.dumps(bye).decode())
    await connection.close(may_return=code.reconnect)
