"""Addresses at which a Redis is missing, each in its own way."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

WAIT_S = 0.3


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
