"""A TCP proxy between an emitter and a real server, which can do to a connection what networks do."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["request", "reply"]

# Closing with this set sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Cut:
    """End one connection, once.

    Args:
        direction: whose bytes are counted, from the next one on.
        after: so many of them still get through.
        reset: with RST rather than FIN.
    """

    direction: Direction
    after: int
    reset: bool = False


class _EndedError(Exception):
    """The connection is to be ended, with RST or without."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class FaultProxy:
    """Listens on 127.0.0.1 and relays to a server there, healthy until it is told otherwise.

    Each connection has one thread for both directions, so that a cut falls exactly where it is asked for.

    Args:
        upstream: the server's port.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.cuts = 0
        """Cuts that were made."""
        self.garbled = 0
        """Replies that were replaced."""
        self.swallowed = 0
        """Bytes that a black hole took."""
        self.passed: dict[Direction, int] = {"request": 0, "reply": 0}
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._garbage: bytes | None = None
        self._holding = False
        self._held: bytes | None = None
        self._release_before: bytes | None = None
        self._black_hole = False
        self._drip: dict[Direction, float] = {}
        self._delay_s = 0.0
        self._closing = threading.Event()
        self._generation = 0
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._listen()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # --- what can be done to connections

    def heal(self) -> None:
        """Relay faithfully from here on; connections in a black hole are reset."""
        with self._lock:
            was_hole, self._black_hole = self._black_hole, False
            self._cut = self._garbage = None
            self._drip = {}
            self._delay_s = 0.0
        if was_hole:
            self.reset_all()
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listen()

    def refuse(self) -> None:
        """Nobody listens on the port any more, and what was connected is reset."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()

    def swallow(self) -> None:
        """Accept, take every byte, answer nothing: on connections old and new."""
        self._black_hole = True

    def cut(self, direction: Direction, after: int, *, reset: bool = False) -> None:
        with self._lock:
            self._cut = Cut(direction, after, reset)

    def garble(self, garbage: bytes) -> None:
        """Replace the next piece of a reply."""
        with self._lock:
            self._garbage = garbage

    def hold(self, *, release_before: bytes | None = None) -> None:
        """Keep the next piece of a request back, and reset its connection: the copy that arrives late.

        Args:
            release_before: deliver it right before the next piece of a request with these bytes; else `release` does.
        """
        with self._lock:
            self._holding, self._release_before = True, release_before

    def release(self) -> bytes:
        """Deliver what was held; gives the server's reply, empty where nothing was held."""
        held, self._held = self._held, None
        if held is None:
            return b""
        with socket.create_connection(("127.0.0.1", self.upstream)) as late:
            late.sendall(held)
            return late.recv(65536)

    def drip(self, direction: Direction, pause_s: float) -> None:
        """Pass one byte at a time."""
        self._drip = {**self._drip, direction: pause_s}

    def delay(self, pause_s: float) -> None:
        """Hold up every piece, both ways."""
        self._delay_s = pause_s

    def reset_all(self) -> None:
        """Reset every connection there is."""
        self._generation += 1

    @property
    def is_armed(self) -> bool:
        """Whether a cut, garbage or a hold still waits for its bytes."""
        return self._cut is not None or self._garbage is not None or self._holding

    def close(self) -> None:
        self._closing.set()
        self.refuse()
        for thread in self._threads:
            thread.join(10)

    # --- how it is done

    def _start(self, thread: threading.Thread) -> None:
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _listen(self) -> None:
        self._start(threading.Thread(target=self._accept, args=(self._listener,), daemon=True))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start(threading.Thread(target=self._serve, args=(client,), daemon=True))

    def _serve(self, client: socket.socket) -> None:
        generation = self._generation
        reset = False
        server: socket.socket | None = None
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while generation == self._generation:
                readable, _, _ = select.select([client, server], [], [], 0.01)
                for source in readable:
                    if not (chunk := source.recv(65536)):
                        return
                    if source is client:
                        self._relay(chunk, server, "request")
                    else:
                        self._relay(chunk, client, "reply")
            reset = True
        except _EndedError as end:
            reset = end.reset
        except OSError:  # no server behind us, or either end went away in its own manner
            reset = True
        finally:
            for each in (client, server):
                if each is not None:
                    if reset:
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    each.close()

    def _relay(self, chunk: bytes, target: socket.socket, direction: Direction) -> None:
        if self._black_hole:
            self.swallowed += len(chunk)
            return
        ending = None
        if direction == "request":
            self._hold_or_release(chunk)
        with self._lock:
            if direction == "reply" and self._garbage is not None:
                chunk, self._garbage = self._garbage, None
                self.garbled += 1
            if (cut := self._cut) is not None and cut.direction == direction:
                if len(chunk) >= cut.after:
                    self._cut, ending = None, _EndedError(reset=cut.reset)
                    self.cuts += 1
                    chunk = chunk[: cut.after]
                else:
                    self._cut = replace(cut, after=cut.after - len(chunk))
        self._closing.wait(self._delay_s)
        self._send(chunk, target, direction)
        if ending is not None:
            raise ending

    def _hold_or_release(self, chunk: bytes) -> None:
        with self._lock:
            if self._holding:
                self._holding, self._held = False, chunk
                raise _EndedError(reset=True)
        if self._release_before is not None and self._release_before in chunk:
            self.release()

    def _send(self, chunk: bytes, target: socket.socket, direction: Direction) -> None:
        generation = self._generation
        at = 0
        while at < len(chunk):
            # Asked for at every byte: whoever heals the proxy does not wait for the rest of the drops.
            pause_s = self._drip.get(direction)
            piece = chunk[at:] if pause_s is None else chunk[at : at + 1]
            target.sendall(piece)
            at += len(piece)
            self.passed[direction] += len(piece)
            if pause_s is not None:
                self._closing.wait(pause_s)
            if generation != self._generation:
                raise _EndedError(reset=True)
