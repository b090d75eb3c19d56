"""The bridge's plain routes: what a browser is told about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

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
