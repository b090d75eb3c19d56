"""What README's first screen promises: one command, and a person sees the mind's real events in a browser."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.pages import CHROMIUM_FLAGS, Watch, chromium, digests, expect_state, until
from tests.programs import started
from tests.servers import free_port

pytestmark = pytest.mark.browser

STAGES = ("cycle.start", "sense.project", "wave.send", "observe", "critic.evaluate", "decision", "context.write")


def test_one_command_shows_the_example_minds_events_in_a_browser(tmp_path: Path) -> None:
    port = str(free_port())
    arguments = ("up", "--data", str(tmp_path / "valkey"), "--port", port)
    with (
        started(*arguments, folder=tmp_path, new_group=True, XDG_STATE_HOME=str(tmp_path)) as up,
        sync_playwright() as playwright,
    ):
        until(lambda: "Ctrl-C" in (tmp_path / "out").read_text("utf-8"))
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        watch = Watch(page)
        page.goto(f"http://127.0.0.1:{port}/")
        expect_state(page, "live")
        until(lambda: all(stage in page.locator("body").inner_text() for stage in STAGES))

        assert any("load" in digest and "cores" in digest for digest in digests(page))
        assert [] == watch.problems
        browser.close()
        up.send_signal(signal.SIGINT)
        assert 0 == up.wait(40)
