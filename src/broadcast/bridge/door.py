"""The door of the server: counts connections, and lets nobody stand in it who does not say what he wants.

uvicorn's own HTTP protocol knows no limit for a request that is never finished, nor for one that is all headers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broadcast.bridge.admission import Admission
from broadcast.bridge.problem import MEDIA_TYPE, problem_of, refusal_headers
from broadcast.errors import CODES, Code

__all__ = ["CUT", "HttpDoor", "make_door"]

CUT: Final = "broadcast.cut"
"""Where a request's scope holds what cuts its connection: ASGI knows no way."""

REQUEST_TIMEOUT_S: Final = 15.0
"""By then a request has to be there, body and all."""
LINGER_S: Final = 1.0
"""So long whoever is refused may take to ask, so that he hears why."""
HEAD_BYTES_MAX: Final = 32 * 1024
PIPELINED_MAX: Final = 16
"""So many requests may stand on one connection, unanswered; no browser sends a second one."""


class HttpDoor(HttpToolsProtocol):
    """One connection, until it is a WebSocket's."""

    admission: Admission
    on_refused: Callable[[Code], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._refusal: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._leave: Callable[[], None] | None = None
        """Gives back the place that it has; a WebSocket takes it along."""
        self._unanswered: deque[Any] = deque()

    def connection_made(self, transport: Any) -> None:
        """Somebody knocks."""
        super().connection_made(transport)
        self._refusal = self.admission.enter(self._address, self.loop.time())
        if self._refusal is None:
            self._leave = partial(self.admission.leave, self._address)
            self._arm()
        elif self.admission.linger():
            self._leave = self.admission.stop_lingering
            self._arm(LINGER_S)
        else:
            self._cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """He is gone."""
        self._disarm()
        if self._leave is not None:
            self._leave()
            self._leave = None
        self._drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._refusal is not None:
            # Only now: whoever is answered before he has asked sees a connection that breaks.
            self._refuse("too_many_connections", self._refusal)
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse("head_too_large", f"the request's head: at most {HEAD_BYTES_MAX} bytes")

    def on_message_begin(self) -> None:
        """A request begins; another one, on a connection that is kept."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[CUT] = self._cut
        self._arm()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._head_bytes = 0
        super().on_headers_complete()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        cycle = cast("Any", self.cycle)  # None where the first request is a WebSocket's
        if cycle is not None and cycle not in self._unanswered:
            self._unanswered.append(cycle)
        if len(self._unanswered) > PIPELINED_MAX:
            self._cut()
            raise ConnectionAbortedError  # the parser stops at this; what else came at once is not read

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._head_bytes = 0
        self._disarm()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """From here on the connection is a WebSocket's; nothing of this door stays with it."""
        self._disarm()
        self.connections.discard(self)
        make: Any = self.ws_protocol_class
        socket = make(config=self.config, server_state=self.server_state, app_state=self.app_state)
        socket.on_lost, self._leave = self._leave, None
        self.transport.set_protocol(socket)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
        socket.upgrade(self.transport, self.scope["method"], self.url.decode("latin-1"), headers)
        self.parser = None  # type: ignore[assignment]  # it holds us, as uvicorn knows where a connection ends

    def send_400_response(self, msg: str) -> None:
        """It cannot be read; who has been cut hears nothing of it."""
        self._refuse("bad_request", msg)

    def _cut(self) -> None:
        self._drop()
        self.transport.abort()

    def _drop(self) -> None:
        """Tell all that are at work that nobody listens; uvicorn tells the last one alone."""
        self.pipeline.clear()
        while self._unanswered:
            cycle = self._unanswered.popleft()
            cycle.disconnected = True
            cycle.message_event.set()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _arm(self, within_s: float | None = None) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(within_s or REQUEST_TIMEOUT_S, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._cut()

    def _refuse(self, name: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        code = CODES[name]
        self.on_refused(code)
        body = problem_of(code, detail)
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {code.http_status} {HTTPStatus(code.http_status).phrase}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **refusal_headers(code)}.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def make_door(admission: Admission, on_refused: Callable[[Code], None] = lambda _: None) -> type[HttpDoor]:
    """The class that uvicorn makes one of for each connection: its `http` setting.

    Args:
        admission: counts connections.
        on_refused: told of each refusal.
    """
    return type("HttpDoor", (HttpDoor,), {"admission": admission, "on_refused": staticmethod(on_refused)})
