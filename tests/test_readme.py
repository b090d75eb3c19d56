"""What README shows runs as it stands there: its Python, and its page on an origin of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
import redis
from playwright.sync_api import sync_playwright

from tests.pages import CHROMIUM_FLAGS, chromium, serving, until
from tests.programs import environment, wait_until
from tests.servers import RedisServer

README: Final = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def shown(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    return str(block)


def emit_as_shown(redis_url: str) -> None:
    program = shown("python", "import emit")
    subprocess.run([sys.executable, "-c", program], env=environment(redis_url), check=True, timeout=60)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def other_origin(tmp_path: Path) -> Iterator[str]:
    """A web server that knows nothing of the bridge, with README's page on it."""
    (tmp_path / "site").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.browser
def test_its_page_shows_the_event_that_its_program_emits(
    valkey_server: RedisServer, tmp_path: Path, other_origin: str
) -> None:
    assert "A page of another origin has to be let in by name: `BROADCAST_ORIGINS=" in README
    log = tmp_path / "bridge.log"
    with serving(valkey_server.url, log, BROADCAST_ORIGINS=other_origin) as bridge, sync_playwright() as playwright:
        page_text = shown("html", "client.js").replace("http://127.0.0.1:5001", bridge.url.rstrip("/"))
        (tmp_path / "site" / "page.html").write_text(f"<!doctype html><link rel=icon href=data:,>{page_text}")
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        page = browser.new_page()
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.goto(f"{other_origin}/page.html")
        emit_as_shown(valkey_server.url)

        until(lambda: page.evaluate("1") and told)  # asked, so that what it says is heard
        browser.close()
    assert ["sense.project {sense: pain, projection: Egor asked what I'm for.}"] == told


def test_its_program_makes_a_cycle_around_its_event(valkey_server: RedisServer, redis_client: redis.Redis) -> None:
    emit_as_shown(valkey_server.url)

    entries: list[tuple[bytes, dict[bytes, bytes]]] = redis_client.xrange("v5:stream")  # type: ignore[assignment]
    events = [json.loads(fields[b"event"]) for _, fields in entries]
    assert ["cycle.start", "sense.project", "cycle.end"] == [event["type"] for event in events]
    assert {1551} == {event["day"] for event in events}
    assert events[-1]["data"]["duration_ms"] >= 0


def test_its_reader_prints_what_was_emitted(
    valkey_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    event = {"type": "wave.result", "ts": "2026-02-14T19:01:23.456Z", "cycle": 1, "day": 1, "data": {"count": 0}}
    # Its `since` looks at `ts`.
    program = shown("python", "import listen").replace('since="5m"', 'since="2026-02-14"')
    redis_client.xadd("v5:stream", {"event": json.dumps(event)})
    out = tmp_path / "out"
    with out.open("wb") as file:
        command = [sys.executable, "-u", "-c", program]
        reader = subprocess.Popen(command, env=environment(valkey_server.url), stdin=subprocess.DEVNULL, stdout=file)
    try:
        wait_until(lambda: b"\n" in out.read_bytes())
    finally:
        reader.kill()
        reader.wait()
    assert out.read_text("utf-8").startswith("wave.result {'count': 0} ")
