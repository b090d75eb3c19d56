"""`broadcast serve`: the bridge under uvicorn, from its first breath to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import structlog
import uvicorn

from broadcast.bridge.app import Bridge
from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["serve"]

_log: Any = structlog.get_logger("broadcast.bridge")


def serve(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the bridge until SIGTERM or SIGINT.

    Args:
        settings: all of them.
        on_ready: called with the address once it accepts connections.

    Raises:
        SettingError: the address cannot be bound, or would be open to others without anybody having said so.
    """
    bridge_settings = settings
    listener = _bind(settings)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    loop_factory = _loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_run(bridge_settings, listener, f"http://{host}:{port}/", on_ready))


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "set BROADCAST_HOST and BROADCAST_PORT to an address that is free"
        ) from None
    return listener


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run(
    settings: Settings, listener: socket.socket, address: str, on_ready: Callable[[str], None] | None
) -> None:
    bridge = Bridge(settings)
    config = uvicorn.Config(
        bridge.app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,  # a compressed frame could not be shared by all viewers
        ws_ping_interval=None,  # Engine.IO has its own heartbeat
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(settings.grace_s / 2)),
    )
    server = _Server(config)
    await bridge.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    _log.info("serving", address=address, redis=_without_password(settings.redis_url), stream=settings.stream)
    if on_ready is not None:
        on_ready(address)
    await asyncio.wait({serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    _log.info("stopping", viewers=len(bridge.fanout.viewers))
    await bridge.stop()
    server.should_exit = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.grace_s):
            await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: our end comes first, its own after that."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url
