"""The answer that carries an export: it ends with its client, and cuts the connection where it cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broadcast.bridge.door import CUT
from broadcast.bridge.exports import Export
from broadcast.errors import RequestError, UnreachableError

__all__ = ["NDJSON", "ExportResponse"]

_log: Any = structlog.get_logger("broadcast.bridge")
NDJSON: Final = "application/x-ndjson"
STALLED_S: Final = 30.0
"""Whoever takes nothing for so long is cut."""


class ExportResponse(Response):
    """Lines of JSON, as many as there are.

    Args:
        export: where they come from; ended with the answer.
        headers: of the answer.
    """

    def __init__(self, export: Export, headers: Mapping[str, str]) -> None:
        super().__init__(None, 200, {**headers, "X-Accel-Buffering": "no"}, NDJSON)
        del self.headers["content-length"]
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        sending = asyncio.create_task(self._send(send), name="send an export")
        leaving = asyncio.create_task(_left(receive), name="watch an export's client")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except (UnreachableError, RequestError, TimeoutError) as error:
            # A part of the answer is gone already: that it is not whole can only be told by not ending it.
            _log.warning("an export was cut short", reason=str(error) or "its client took nothing")
            cut = scope.get(CUT)
            if cut is not None:
                cut()
        finally:
            for task in (sending, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await self._export.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._export.chunks()) as chunks:
            async for chunk in chunks:
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
