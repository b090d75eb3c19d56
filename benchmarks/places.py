"""Where Redis is, and where it is missing, each in its own way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from broadcast.embedded import PrivateValkey

WAIT_S = 0.2


class Places(NamedTuple):
    """Every state in which Redis can be."""

    urls: dict[str, str]
    """By name: `up`, `refused`, `dropped`, `silent`, and `own`, a server that may be stopped."""
    own_pid: int

    def let_go_on(self) -> None:
        """End the stop of the server that may be stopped."""
        os.kill(self.own_pid, signal.SIGCONT)


@contextlib.contextmanager
def everywhere(redis_url: str) -> Iterator[Places]:
    """All of them.

    Args:
        redis_url: a Redis that is up; it is left alone.
    """
    with (
        refusing() as refused,
        dropping() as dropped,
        silent() as mute,
        tempfile.TemporaryDirectory() as folder,
    ):
        own = PrivateValkey(Path(folder))
        own.start()
        assert own.pid is not None
        places = Places(
            {"up": redis_url, "refused": refused, "dropped": dropped, "silent": mute, "own": own.url}, own.pid
        )
        try:
            yield places
        finally:
            places.let_go_on()  # a stopped server would not see SIGTERM
            own.stop()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Nobody listens: every connection is refused at once."""
    with socket.socket() as kept:  # bound, so that nobody else takes the port; not listening
        kept.bind(("127.0.0.1", 0))
        yield _url(kept)


@contextlib.contextmanager
def dropping() -> Iterator[str]:
    """Packets go nowhere: the queue of connections to be accepted is full, so the kernel drops every SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.settimeout(WAIT_S)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise OSError("this system goes on taking connections that nobody accepts")
        yield _url(listener)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Connections are accepted and what is sent is taken, but nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield _url(listener)


def _url(listener: socket.socket) -> str:
    return f"redis://127.0.0.1:{listener.getsockname()[1]}"
