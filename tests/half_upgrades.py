"""A TCP proxy in front of a bridge that ends the connections of clients in the middle of their upgrade to WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

__all__ = ["STAGES", "HalfUpgrades", "half_upgrades"]

Stage = Literal["asked", "accepted", "probed", "upgraded"]
STAGES: Final[tuple[Stage, ...]] = ("asked", "accepted", "probed", "upgraded")
"""How far the next upgrade comes: its request does not arrive; it is answered; its probe is, but the client's last word
does not arrive; that arrives, and then the connection ends."""
PROBED: Final = b"3probe"


class HalfUpgrades:
    """Relays faithfully, except for the next upgrade where one is to be cut.

    Args:
        upstream: the bridge's port.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.next_stage: Stage | None = None
        """Where the next upgrade is to end; None lets it pass."""
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """End every connection there is, without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        upstream: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                stage: Stage | None = None
                if b"upgrade: websocket" in head.lower() and b"sid=" in head:
                    stage, self.next_stage = self.next_stage, None
                if stage == "asked":
                    self.cuts += 1
                    return
                answers, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
                upstream.write(head)
                await self._relay_both(_Upgrade(stage), (reader, upstream), (answers, writer))
        finally:
            self._writers.discard(writer)
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()

    async def _relay_both(
        self,
        upgrade: _Upgrade,
        requests: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        answers: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        relays = [
            asyncio.create_task(_relay(*requests, upgrade.requested)),
            asyncio.create_task(_relay(*answers, upgrade.answered)),
        ]
        await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        self.cuts += upgrade.is_cut


class _Upgrade:
    """How far one upgrade has come; both methods give what is to be relayed, and whether the connection ends then."""

    def __init__(self, stage: Stage | None) -> None:
        self.stage = stage
        self.is_cut = False
        self.is_probed = False

    def requested(self, data: bytes) -> tuple[bytes, bool]:
        if self.stage not in ("probed", "upgraded") or not self.is_probed:
            return data, False
        self.is_cut = True
        return data if self.stage == "upgraded" else b"", True

    def answered(self, data: bytes) -> tuple[bytes, bool]:
        self.is_probed = self.is_probed or PROBED in data
        self.is_cut = self.is_cut or self.stage == "accepted"
        return data, self.stage == "accepted"


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], tuple[bytes, bool]]
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            data, ends = look(data)
            writer.write(data)
            await writer.drain()
            if ends:
                await asyncio.sleep(0.05)  # what was written arrives
                return


@contextlib.asynccontextmanager
async def half_upgrades(upstream: int) -> AsyncIterator[HalfUpgrades]:
    proxy = HalfUpgrades(upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        await asyncio.sleep(0.1)  # the handlers of those that were cut end
