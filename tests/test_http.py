"""The bridge's plain routes: what a browser is told about them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broadcast.errors import CODES
from tests.bridges import BridgeProcess, serving
from tests.servers import RedisServer

POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as bridge:
        yield bridge


@pytest.mark.parametrize("path", ["/", "/client.js", "/static/app.js", "/static/style.css"])
async def test_the_pages_files_are_strict_and_never_of_the_last_version(bridge: BridgeProcess, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{bridge.url.rstrip('/')}{path}") as answer:
        headers = answer.headers
        assert 200 == answer.status

    assert "no-cache" == headers["Cache-Control"]
    assert "nosniff" == headers["X-Content-Type-Options"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/healthz", "/history", "/events?since=nonsense", "/nothing", f"{POLL}", "/metrics"])
async def test_whatever_is_answered_is_what_it_says_and_tells_nobody_where_it_came_from(
    bridge: BridgeProcess, path: str
) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{bridge.url}{path}") as answer:
        assert ["nosniff"] == answer.headers.getall("X-Content-Type-Options")
        assert ["no-referrer"] == answer.headers.getall("Referrer-Policy")


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/nothing"])
async def test_nothing_else_is_served(bridge: BridgeProcess, path: str) -> None:
    raw = URL(f"{bridge.url.rstrip('/')}{path}", encoded=True)  # as it is: no client tidies it up
    async with aiohttp.ClientSession() as session, session.get(raw) as answer:
        assert 404 == answer.status


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/static/nothing.js", 404, "not_found"),
        ("GET", "/static/", 404, "not_found"),
        ("POST", "/static/app.js", 405, "method_not_allowed"),
        ("PUT", "/events", 405, "method_not_allowed"),
        ("POST", "/history", 405, "method_not_allowed"),
        ("GET", "/session", 405, "method_not_allowed"),
        ("GET", "/history?limit=many", 400, "bad_request"),
    ],
)
async def test_every_refusal_has_a_code_of_the_table(
    bridge: BridgeProcess, method: str, path: str, status: int, code: str
) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, bridge.url + path) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (status, code, status) == (answer.status, problem["code"], problem["status"])
    assert CODES[code].http_status == status
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: y\r\n\r\n", b"400 Bad Request", "bad_request"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431 Request Header Fields Too Large", "head_too_large"),
    ],
    ids=["nonsense", "length", "head"],
)
async def test_so_has_what_is_refused_before_there_is_a_request(
    bridge: BridgeProcess, request_: bytes, status: bytes, code: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    writer.write(request_)
    answered = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # it was closed with something of ours unread
            while chunk := await reader.read(4096):
                answered += chunk
    writer.close()
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"HTTP/1.1 " + status == head.partition(b"\r\n")[0]
    assert b"content-type: application/problem+json" in head and b"retry-after" not in head
    assert code == json.loads(body)["code"]
