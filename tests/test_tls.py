"""`rediss://`: events travel through TLS, and nowhere if the server's certificate is not to be trusted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.programs import wait_until
from tests.sentinels import PATIENCE_S, assert_whole, emit_steadily, emitting_to, listening
from tests.servers import RedisServer


class TlsFront:
    """Speaks TLS in front of a server that does not (the Valkey of the wheel is built without)."""

    def __init__(self, upstream: int, certificate: Path) -> None:
        self.upstream = upstream
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.upstream)) as server,
            self.context.wrap_socket(client, server_side=True) as spoken,
        ):
            threading.Thread(target=pump, args=(server, spoken), daemon=True).start()
            pump(spoken, server)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1 and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def front(valkey_server: RedisServer, certificate: Path) -> Iterator[TlsFront]:
    front = TlsFront(valkey_server.port, certificate)
    yield front
    front.close()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_events_are_emitted_and_read_through_tls(
    scheme: str, front: TlsFront, valkey_server: RedisServer, certificate: Path
) -> None:
    url = f"{scheme}://127.0.0.1:{front.port}/0?ssl_ca_certs={certificate / 'cert.pem'}"
    with emitting_to(url) as emitter:
        async with listening(url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.2)
            await reading.until_has(emitted - 1)
            assert emitter.flush(PATIENCE_S)
    assert_whole(valkey_server, emitted)


def test_a_server_that_nobody_vouches_for_gets_no_event_and_the_reason_is_told(
    front: TlsFront, valkey_server: RedisServer
) -> None:
    with emitting_to(f"rediss://127.0.0.1:{front.port}/0") as emitter:
        emitter.emit("x", {"i": 0})
        wait_until(lambda: "certificate verify failed" in str(emitter.stats().last_error))
        assert (emitter.stats().connects, emitter.stats().buffered) == (0, 1)
    with valkey_server.client() as client:
        assert client.xlen("v5:stream") == 0
