"""`broadcast serve --tls-cert --tls-key`: https and wss without a proxy; a renewed certificate without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from broadcast import Broadcaster
from broadcast.bridge.certificate import Certificate
from broadcast.cli import doctor
from broadcast.errors import SettingError
from broadcast.settings import Settings
from tests.bridges import BridgeProcess
from tests.certificates import make_certificate
from tests.servers import RedisServer

PATIENCE_S: Final = 20.0
HANDSHAKE: Final = "/socket.io/?EIO=4&transport=websocket"


class TlsBridge(BridgeProcess):
    """A bridge that speaks TLS; whoever asks it knows its certificate."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        return Path(self.environment["BROADCAST_TLS_CERT"]).parent

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "cert.pem"))

    def get(self, path: str, headers: Any = None) -> tuple[int, str]:
        return asyncio.run(self._get(path))

    async def _get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path, ssl=self.trust()) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    def certificate_name(self) -> str:
        """Whose certificate a new connection is shown."""
        shown = ssl.get_server_certificate(("127.0.0.1", self.port))
        return "renewed" if shown == (self.folder / "cert.pem").read_text() else "other"


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[TlsBridge]:
    make_certificate(tmp_path)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    log = tmp_path / "bridge.log"
    hasty = {"serve.TLS_HANDSHAKE_S": 1.0}
    bridge = TlsBridge(valkey_server.url, log, constants=hasty, BROADCAST_TLS_CERT=cert, BROADCAST_TLS_KEY=key)
    bridge.start()
    yield bridge
    bridge.stop(signal.SIGKILL)
    assert "Traceback" not in bridge.log.read_text()


def settings_of(bridge: TlsBridge) -> Settings:
    return Settings(port=bridge.port, tls_cert=str(bridge.folder / "cert.pem"), tls_key=str(bridge.folder / "key.pem"))


async def test_who_begins_no_tls_is_let_go(bridge: TlsBridge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert b"" == await reader.read()
    writer.close()


def test_events_come_by_wss_across_a_renewal_that_only_the_next_connection_sees(
    bridge: TlsBridge, broadcaster: Broadcaster
) -> None:
    asyncio.run(_across_a_renewal(bridge, broadcaster))

    assert 0 == doctor.ready(settings_of(bridge))


async def _across_a_renewal(bridge: TlsBridge, broadcaster: Broadcaster) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(bridge.url + HANDSHAKE, ssl=bridge.trust()) as ws:
        await ws.receive_str()
        await ws.send_str("40")
        broadcaster.emit("count", {"i": 1})
        await _until(ws, '"i":1')
        make_certificate(bridge.folder, "the next one")
        assert "other" == await asyncio.to_thread(bridge.certificate_name)
        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE_S
        while await asyncio.to_thread(bridge.certificate_name) != "renewed":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        broadcaster.emit("count", {"i": 2})
        await _until(ws, '"i":2')


async def _until(ws: aiohttp.ClientWebSocketResponse, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while text not in await ws.receive_str():
            pass


def test_a_renewal_that_cannot_be_read_leaves_the_certificate_as_it_was(bridge: TlsBridge) -> None:
    trusted = bridge.trust()
    (bridge.folder / "key.pem").write_text("no key")
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE_S
    while "stays as it was" not in bridge.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    async def ask() -> int:
        async with aiohttp.ClientSession() as session, session.get(bridge.url + "/healthz", ssl=trusted) as answer:
            return answer.status

    assert 200 == asyncio.run(ask())


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert.pem", "", "expected both"),
        ("", "key.pem", "expected both"),
        ("none.pem", "key.pem", "No such file"),
        ("key.pem", "cert.pem", "expected a certificate"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, cert: str, key: str, said: str) -> None:
    make_certificate(tmp_path)
    settings = Settings(tls_cert=cert and str(tmp_path / cert), tls_key=key and str(tmp_path / key))

    with pytest.raises(SettingError, match=said):
        Certificate(settings)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    locked = (
        "-aes128",
        "-passout",
        "pass:secret",
        "-in",
        str(tmp_path / "key.pem"),
        "-out",
        str(tmp_path / "locked.pem"),
    )
    subprocess.run(["openssl", "pkey", *locked], check=True, capture_output=True)
    settings = Settings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "locked.pem"))

    with pytest.raises(SettingError, match=r"BROADCAST_TLS_KEY=.*locked.pem: it is encrypted; expected a key without"):
        Certificate(settings)
