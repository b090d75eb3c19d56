"""What tests of the page need: a bridge process, a Chromium, and what a page complains of and shows."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from broadcast import Broadcaster
from tests.servers import free_port

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


class Bridge:
    """A bridge process on a port of its own, to be killed and started again by the test."""

    def __init__(self, redis_url: str, log: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = log
        self.environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "BROADCAST_PORT": str(self.port),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        with self.log.open("ab") as log:
            arguments = [sys.executable, "-m", "broadcast", "serve"]
            self.process = subprocess.Popen(
                arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until(self._answers)

    def stop(self, number: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(30)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}healthz", timeout=1) as answer:
            return bool(answer.status == 200)
        return False


class Watch:
    """Everything a page complains of."""

    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []
        page.on("console", lambda message: self.note(message.type, f"{message.text} {message.location['url']}"))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", self.dismiss)

    def note(self, kind: str, text: str) -> None:
        # A browser reports every refused connection; while the bridge is down that is what should happen. And so is 404
        # for a cycle that there is not, and 503 of a bridge that has just begun.
        if kind in ("error", "warning") and not re.search(
            "ERR_CONNECTION_(REFUSED|RESET)|404 .*/cycles|503 .*/history", text
        ):
            self.problems.append(text)

    def dismiss(self, dialog: Dialog) -> None:
        self.problems.append(dialog.message)
        dialog.dismiss()


@contextlib.contextmanager
def serving(redis_url: str, log: Path, **environment: str) -> Iterator[Bridge]:
    bridge = Bridge(redis_url, log, **environment)
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop(signal.SIGKILL)


PATIENCE_S = 30.0
expect.set_options(timeout=PATIENCE_S * 1000)


def until(holds: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)


@contextlib.contextmanager
def launched(*more_flags: str) -> Iterator[Browser]:
    """A Chromium of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*CHROMIUM_FLAGS, *more_flags])
        yield browser
        browser.close()


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def expect_state(page: Page, word: str) -> None:
    expect(page.locator("#state-word")).to_have_text(word)


def settle(page: Page) -> None:
    """Wait until the list neither scrolls nor changes its size any more."""
    page.evaluate("""() => new Promise((done) => {
        const list = document.querySelector("#list");
        let before = "", still = 0;
        const look = () => {
            const now = `${list.scrollTop} ${list.scrollHeight} ${list.clientHeight} ${list.clientWidth}`;
            still = now === before ? still + 1 : 0;
            before = now;
            still < 10 ? requestAnimationFrame(look) : done();
        };
        look();
    })""")


def digests(page: Page) -> list[str]:
    """The texts of the rows in sight, oldest first, without rows that tell of gaps."""
    script = """rows => rows.filter(row => !row.hidden && row.dataset.family !== "gap")
        .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map(row => row.querySelector(".digest").textContent)"""
    return list(page.locator(".row").evaluate_all(script))


def emit_numbers(mind: Broadcaster, numbers: range) -> None:
    for number in numbers:
        mind.emit("state.mood", {"old": number, "new": number + 1})


def moods(numbers: range) -> list[str]:
    return [f"{number} → {number + 1}" for number in numbers]
