"""The page under load, in a real Chromium: what a thousand events a second cost it, and what it costs while hidden."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.lives import life
from tests.pages import Bridge, digests, emit_numbers, expect_state, launched, moods, serving, until
from tests.servers import RedisServer

pytestmark = pytest.mark.browser

PER_SECOND: Final = 1_000
DOM_NODES_MAX: Final = 2_500
WATCH_TASKS: Final = """
    window.tasks = [];
    new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((each) => each.duration)))
        .observe({ type: "longtask", buffered: true });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched("--enable-precise-memory-info", "--js-flags=--expose-gc") as browser:
        yield browser


@pytest.fixture
def bridge(own_server: RedisServer, tmp_path: Path) -> Iterator[Bridge]:
    with serving(own_server.url, tmp_path / "bridge.log") as bridge:
        yield bridge


@contextmanager
def living(redis_url: str, per_second: int = PER_SECOND) -> Iterator[list[int]]:
    """A mind that lives fast; how many events it has emitted is the list's only element."""
    count, ending = [0], threading.Event()
    mind = Broadcaster(settings=Settings(redis_url=redis_url))
    events = life(0)

    def live() -> None:
        began = time.monotonic()
        while not ending.is_set():
            for _ in range(max(0, int((time.monotonic() - began) * per_second) - count[0])):
                event = events[count[0] % len(events)]
                mind.set_cycle(event["cycle"] + 10 * (count[0] // len(events)) if event["cycle"] else 0, 1)
                mind.emit(event["type"], event["data"])
                count[0] += 1
            ending.wait(0.01)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield count
    finally:
        ending.set()
        thread.join()
        assert mind.flush(10)
        mind.close(1)


def measure(cdp: CDPSession) -> dict[str, float]:
    return {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}


def tasks_ms(trace: bytes) -> list[float]:
    """How much processor time each task of the page's main thread took, the longest last.

    The clock's time would tell of whatever else the machine does.
    """
    events = json.loads(trace)["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tasks = [e for e in events if e["name"] == "ThreadControllerImpl::RunTask" or e["name"] == "RunTask"]
    return sorted(
        e["tdur"] / 1000 for e in tasks if names.get((e["pid"], e["tid"])) == "CrRendererMain" and "tdur" in e
    )


def heap_bytes(page: Page) -> int:
    page.evaluate("gc()")
    return int(page.evaluate("performance.memory.usedJSHeapSize"))


def seen(page: Page) -> int:
    return int(page.locator("#seen").inner_text().replace(",", ""))


def logged(server: RedisServer) -> int:
    """How many events the log has had, those of the bridge itself with them."""
    with server.client() as client:
        return int(client.xinfo_stream("v5:stream")["entries-added"])


def opened(browser: Browser, bridge: Bridge) -> tuple[Page, CDPSession]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(WATCH_TASKS)
    page.goto(bridge.url)
    expect_state(page, "no event yet")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    return page, cdp


def hide(page: Page, hidden: bool) -> None:
    """Tell the page that nobody sees it; a headless browser never hides one by itself."""
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def viewers(bridge: Bridge) -> int:
    with urllib.request.urlopen(f"{bridge.url}clients", timeout=5) as answer:
        return len(json.load(answer)["clients"])


def test_a_hidden_page_writes_nothing_then_lets_go_and_comes_back_complete(
    browser: Browser, bridge: Bridge, own_server: RedisServer
) -> None:
    mind = Broadcaster(settings=Settings(redis_url=own_server.url))
    page = browser.new_page()
    page.clock.install()
    page.goto(bridge.url)
    expect_state(page, "no event yet")
    emit_numbers(mind, range(10))
    expect(page.locator("#seen")).to_have_text("10")

    hide(page, True)
    writes = "window.writes = 0; new MutationObserver((all) => (window.writes += all.length)).observe(document, %s)"
    page.evaluate(writes % "{ subtree: true, childList: true, attributes: true, characterData: true }")
    emit_numbers(mind, range(10, 500))
    assert mind.flush(5)
    time.sleep(0.5)  # until the page has them: nothing that is seen could tell
    page.clock.run_for(20_000)
    assert page.evaluate("window.writes") == 0
    assert viewers(bridge) == 1
    page.clock.run_for(45_000)
    until(lambda: viewers(bridge) == 0)
    for _ in range(12):  # and does not come back by itself, as it does where it was only cut
        page.clock.run_for(1_500)
        time.sleep(0.1)
        assert viewers(bridge) == 0
    emit_numbers(mind, range(500, 3_000))
    assert mind.flush(5)

    hide(page, False)
    page.clock.resume()
    expect_state(page, "live")
    expect(page.locator("#seen")).to_have_text("3,000")
    expect(page.locator("#gaps")).to_have_text("none")
    until(lambda: digests(page)[-3:] == moods(range(2_997, 3_000)))
    mind.close(1)
    page.close()


def test_large_events_do_not_outgrow_the_memory_of_the_page_not_even_searched(
    browser: Browser, bridge: Bridge, own_server: RedisServer
) -> None:
    page, _ = opened(browser, bridge)
    with own_server.client() as client:
        for number in range(2_000):
            told = {"type": "weather.large", "ts": "2026-02-14T19:01:23.456Z", "cycle": 0, "day": 1}
            client.xadd("v5:stream", {"event": json.dumps(told | {"data": {"text": f"{number} " + "x" * 30_000}})})
    expect(page.locator("#seen")).to_have_text("2,000")
    for word in ("1999", "rain"):
        page.fill("#filter", word)
        expect(page.locator("#filter-note")).to_contain_text("match")
    heap = heap_bytes(page)
    print(f"{heap >> 20} MiB")
    assert heap < 60 * 2**20
    page.close()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_ten_minutes_at_a_thousand_a_second_leave_memory_flat(
    browser: Browser, bridge: Bridge, own_server: RedisServer
) -> None:
    page, _ = opened(browser, bridge)
    heaps: list[int] = []
    with living(own_server.url):
        until(lambda: seen(page) > 15_000)  # the list is full, and so is everything else
        page.evaluate("window.tasks.length = 0")
        ends_s = time.monotonic() + float(os.environ.get("PAGE_LOAD_S", "600"))
        while time.monotonic() < ends_s:
            page.wait_for_timeout(5_000)
            heaps.append(heap_bytes(page))
        tasks = [float(each) for each in page.evaluate("window.tasks")]
    expect(page.locator("#seen")).to_have_text(f"{logged(own_server):,}")
    expect(page.locator("#gaps")).to_have_text("none")
    third = len(heaps) // 3
    print(
        f"heaps {[heap >> 20 for heap in heaps]} MiB, tasks over 50 ms: {len(tasks)}, longest {max(tasks, default=0)}"
    )
    assert max(heaps[-third:]) < 1.15 * max(heaps[:third])
    assert max(heaps) < 60 * 2**20
    page.close()


def test_a_thousand_events_a_second_are_shown_without_a_stutter(
    browser: Browser, bridge: Bridge, own_server: RedisServer
) -> None:
    page, cdp = opened(browser, bridge)
    with living(own_server.url) as count:
        until(lambda: seen(page) > 2_000)
        browser.start_tracing(page=page, categories=["toplevel"])
        before, from_s = measure(cdp), time.monotonic()
        page.wait_for_timeout(6_000)
        after, took_s = measure(cdp), time.monotonic() - from_s
        until(lambda: count[0] - seen(page) < PER_SECOND)  # no further behind than a moment
    tasks = tasks_ms(browser.stop_tracing())
    expect(page.locator("#seen")).to_have_text(f"{logged(own_server):,}")
    expect(page.locator("#gaps")).to_have_text("none")
    share = (after["TaskDuration"] - before["TaskDuration"]) / took_s
    print(f"{share:.2f} of a core; {len(tasks)} tasks, the longest {tasks[-5:]} ms")
    assert len(tasks) > 100
    assert max(tasks) < 50, tasks[-10:]
    assert share < 0.7, share
    assert page.evaluate("document.querySelectorAll('*').length") < DOM_NODES_MAX
    page.close()
