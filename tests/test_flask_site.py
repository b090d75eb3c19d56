"""examples/flask_site as its README says: the site, a bridge with a secret, nginx in front of both, a browser."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.bridges import ROOT, BridgeProcess, serving
from tests.pages import Watch
from tests.proxies import MISSING, TEMPORARY, nginx_binary
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.browser

FOLDER: Final = ROOT / "examples" / "flask_site"
SECRET: Final = "of this test, and long enough for it"
PASSWORD: Final = "open-sesame"
HOSTILE: Final = "<img src=x onerror=alert(1)>"
LIVE: Final = "You see the mind live."
GONE: Final = "The mind is gone: this is the last of it."
PATIENCE_S: Final = 30.0


@contextlib.contextmanager
def running(command: list[str], log: Path, *, answers: str = "", **environment: str) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=FOLDER, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while status(answers) == 0:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def nginx_of(folder: Path, *, port: int, site: int, bridge: int) -> Path:
    server = (FOLDER / "nginx.conf").read_text()
    for old, new in (("listen 80;", f"listen 127.0.0.1:{port};"), (":5001/", f":{bridge}/"), (":5000;", f":{site};")):
        assert 1 == server.count(old)
        server = server.replace(old, new)
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    config = folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log {folder}/access.log;\n{paths}\n{server}\n}}\n"
    )
    return config


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with shared_server.client() as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("bridge")
    with serving(shared_server.url, folder, constants=None, BROADCAST_SECRET=SECRET) as process:
        yield process


@pytest.fixture(scope="module")
def site(bridge: BridgeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = nginx_binary()
    if binary is None:
        pytest.skip(MISSING)
    folder, port, front = tmp_path_factory.mktemp("site"), free_port(), free_port()
    config = nginx_of(folder, port=front, site=port, bridge=bridge.port)
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "app:app"]
    nginx = [binary, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config), "-g", "daemon off;"]
    mine = {"SITE_PASSWORD": PASSWORD, "SITE_KEY": "k" * 32, "SITE_WITHOUT_TLS": "1", "BROADCAST_SECRET": SECRET}
    with (
        running(gunicorn, folder / "site.log", answers=f"http://127.0.0.1:{port}/", **mine),
        running(nginx, folder / "nginx.log", answers=f"http://127.0.0.1:{front}/"),
    ):
        yield f"http://127.0.0.1:{front}"
    assert SECRET not in (folder / "access.log").read_text()
    assert "token=" not in (folder / "access.log").read_text()


@pytest.fixture
def mind(bridge: BridgeProcess) -> Iterator[Broadcaster]:
    broadcaster = Broadcaster(settings=Settings(redis_url=bridge.redis_url))
    yield broadcaster
    broadcaster.close(2)


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page()
    watch = Watch(page)
    page.goto(site)
    yield page
    page.close()
    assert not watch.problems, watch.problems


def log_in(page: Page) -> None:
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    # The mind of the test before is gone by now, and may have been spoken of.
    expect(page.locator("#state")).to_have_text(re.compile(f"{LIVE}|{GONE}"), timeout=PATIENCE_S * 1000)


def test_who_has_logged_in_sees_what_the_mind_feels_senses_and_decides(page: Page, mind: Broadcaster) -> None:
    log_in(page)
    mind.set_cycle(7, 3)
    mind.emit("sense.project", {"sense": "pain", "projection": HOSTILE})
    mind.emit("state.mood", {"old": "calm", "new": "curious"})
    mind.emit("decision", {"intention": "answer", "target": "Egor", "rationale": "he asked"})

    expect(page.locator("#decision")).to_have_text("answer: he asked")
    expect(page.locator("#mood")).to_have_text("curious")
    expect(page.locator("#cycle")).to_have_text("7")
    expect(page.locator("#senses li").first).to_have_text(HOSTILE)


def test_a_mood_and_a_decision_of_long_ago_are_shown_when_the_page_comes(page: Page, mind: Broadcaster) -> None:
    mind.emit("state.mood", {"old": "curious", "new": "wistful"})
    mind.emit("decision", {"intention": "wait", "rationale": "it rains"})
    for i in range(300):
        mind.emit("sense.project", {"sense": "wind", "projection": f"gust {i}"})
    assert mind.flush(10)
    log_in(page)

    expect(page.locator("#senses li").first).to_have_text("gust 299")
    expect(page.locator("#mood")).to_have_text("wistful")
    expect(page.locator("#decision")).to_have_text("wait: it rains")


def test_a_mind_that_is_gone_is_not_called_live(page: Page, mind: Broadcaster) -> None:
    log_in(page)
    mind.set_cycle(8, 3)
    mind.emit("cycle.start", {"day": 3})
    mind.emit("daemon.stop", {"reason": "told to"})
    expect(page.locator("#state")).to_have_text(GONE)
    page.reload()
    expect(page.locator("#state")).to_have_text(GONE)
    mind.emit("cycle.start", {"day": 3})
    expect(page.locator("#state")).to_have_text(LIVE)
    # A process that is killed says nothing; the bridges do.
    mind.emit("broadcast.producer", {"producer": "another", "state": "down"})
    mind.emit("state.mood", {"old": "wistful", "new": "calm"})
    expect(page.locator("#mood")).to_have_text("calm")
    expect(page.locator("#state")).to_have_text(LIVE)
    mind.emit("broadcast.producer", {"producer": mind.stats().producer, "state": "down"})
    expect(page.locator("#state")).to_have_text(GONE)
    mind.emit("daemon.start", {"mode": "endless"})
    expect(page.locator("#state")).to_have_text(LIVE)


def test_what_the_site_withholds_does_not_reach_the_page(page: Page, mind: Broadcaster, bridge: BridgeProcess) -> None:
    log_in(page)
    mind.emit("context.write", {"context": {"nodes": ["secret"]}})
    mind.emit("state.mood", {"old": "curious", "new": "later than that"})
    expect(page.locator("#mood")).to_have_text("later than that")

    viewer = bridge.get_as_operator("/clients")[1]

    assert "secret" not in page.content()
    assert '"subject":"owner"' in viewer


def test_while_the_bridge_is_down_the_page_says_so_and_comes_by_itself(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.route("**/client.js*", lambda route: route.abort())  # as nginx answers while there is no bridge
    page.goto(site)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#state")).to_have_text("The bridge cannot be reached. Trying again…")
    page.unroute("**/client.js*")

    expect(page.locator("#state")).to_have_text(re.compile(f"{LIVE}|{GONE}"))
    page.close()


def test_a_stranger_gets_no_token_and_without_one_no_event(page: Page, site: str) -> None:
    assert 401 == status(f"{site}/mind-token")
    assert 401 == status(f"{site}/mind/events")
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_wrong_password_is_told(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(site)
    page.get_by_label("Password").fill("guessed")
    page.get_by_role("button", name="Log in").click()

    expect(page.get_by_role("alert")).to_have_text("That is not it.")
    page.close()


def test_a_token_is_for_its_owner_for_minutes_and_kept_by_no_cache(browser: Browser, site: str) -> None:
    import jwt

    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    log_in(page)

    answer = context.request.get(f"{site}/mind-token")

    claims = jwt.decode(answer.json()["token"], SECRET, algorithms=["HS256"], audience="broadcast")
    assert ("owner", ["*", "-context.*"]) == (claims["sub"], claims["types"])
    assert 0 < claims["exp"] - time.time() <= 300
    assert "no-store" == answer.headers["cache-control"]
    cookie = next(cookie for cookie in context.cookies() if cookie["name"] == "session")
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert 401 == context.request.get(f"{site}/mind-token").status
    context.close()


def test_the_ten_lines_are_ten() -> None:
    text = (FOLDER / "app.py").read_text()
    part = text.partition("# --- the mind: ten lines\n")[2].partition("# --- the site")[0]
    assert 10 >= len([line for line in part.splitlines() if line.strip()])


def test_a_password_is_not_guessed_and_the_cookie_is_for_https(site: str) -> None:
    """The last one here: nobody logs in for a while after it."""
    answers = [status(f"{site}/login") for _ in range(20)]
    assert 429 in answers and 429 == answers[-1]
    command = [sys.executable, "-c", "import app; print(app.app.config['SESSION_COOKIE_SECURE'])"]
    given = {**os.environ, "SITE_PASSWORD": PASSWORD, "BROADCAST_SECRET": SECRET}
    done = subprocess.run(command, cwd=FOLDER, env=given, capture_output=True, text=True, check=True, timeout=60)
    assert "True" == done.stdout.strip()
