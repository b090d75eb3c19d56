"""`broadcast serve`: the bridge under uvicorn, from its first breath to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, cast

import structlog
import uvicorn

from broadcast.addresses import parse_address
from broadcast.bridge.app import SPARE_CONNECTIONS, Bridge
from broadcast.bridge.certificate import Certificate
from broadcast.bridge.door import make_door
from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["serve"]

STALLED_MS: Final = 30_000
BACKLOG: Final = 4096
"""Connections that the kernel holds for us: everybody comes back at once after a restart."""
TLS_HANDSHAKE_S: Final = 5.0
"""By then TLS has to stand; until it does, a connection is not at the door, where it would be counted and timed."""

_log: Any = structlog.get_logger("broadcast.bridge")


def serve(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the bridge until SIGTERM or SIGINT.

    Args:
        settings: all of them.
        on_ready: called with the address once it accepts connections.

    Raises:
        SettingError: the address cannot be bound, or would be open to others without anybody having said so.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(settings, on_ready))


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it: the kernel ends one whose other side takes nothing for so long, whatever it carries.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "set BROADCAST_HOST and BROADCAST_PORT to an address that is free"
        ) from None
    return listener


def _raise_descriptor_limit(settings: Settings) -> None:
    """Each viewer is a descriptor, and a shell's limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard not in (resource.RLIM_INFINITY, -1) and hard < settings.connections_max + SPARE_CONNECTIONS:
        _log.warning(
            "fewer descriptors than connections may be", descriptors=hard, connections=settings.connections_max
        )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    kind: Any = asyncio.SelectorEventLoop
    with contextlib.suppress(ImportError):
        import uvloop

        kind = uvloop.Loop

    class Hasty(kind):
        """uvicorn gives no way to say how long a TLS handshake may take; asyncio's own limit is a minute."""

        async def create_server(self, *arguments: Any, **options: Any) -> Any:
            if options.get("ssl") is not None:
                options.setdefault("ssl_handshake_timeout", TLS_HANDSHAKE_S)
            return await kind.create_server(self, *arguments, **options)

    return Hasty


async def _run(settings: Settings, on_ready: Callable[[str], None] | None) -> None:
    _raise_descriptor_limit(settings)
    certificate = Certificate(settings)
    bridge = Bridge(settings)  # before anything is bound: it may find that nobody has said who may read
    listener = _bind(settings)
    config = uvicorn.Config(
        bridge.app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        http=make_door(bridge.admission, bridge.refusals.count),
        backlog=BACKLOG,
        interface="asgi3",
        ws=cast("Any", bridge.socket),  # a WebSocket per call, as its own classes are
        proxy_headers=False,
        ssl_context_factory=certificate.context_factory,
        timeout_graceful_shutdown=max(1, int(settings.grace_s)),
    )
    server = _Server(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _renew, certificate)
    await bridge.start()
    address = _address(settings, listener)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    if await _first_of(serving, server.is_up.wait()):
        _log.info("serving", address=address, redis=parse_address(settings.redis_url).shown(), stream=settings.stream)
        if on_ready is not None:
            on_ready(address)
        await _first_of(serving, stop.wait())
    _log.info("stopping", viewers=len(bridge.fanout.viewers))
    await bridge.stop()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=settings.grace_s / 4)
    server.abort_connections()
    await serving


def _renew(certificate: Certificate) -> None:
    if certificate.context_factory is None:
        return
    try:
        certificate.renew()
        _log.info("the certificate was read again")
    except SettingError as error:
        _log.error("the certificate stays as it was", error=str(error))


async def _first_of(serving: asyncio.Task[None], moment: Coroutine[Any, Any, Any]) -> bool:
    """Wait for a moment; False if serving has ended before it."""
    waiting = asyncio.create_task(moment)
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return not serving.done()


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{listener.getsockname()[1]}/"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: our end comes first, its own after that."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    def abort_connections(self) -> None:
        """Leave whoever takes nothing: a transport that is closed waits for its buffer to empty."""
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            if transport is not None:
                transport.abort()
