"""What the page's panels say of what lies farther back than it holds, of long texts, and of a mind that is gone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.pages import Bridge, Watch, expect_state, serving
from tests.servers import RedisServer, running, valkey_binary

pytestmark = pytest.mark.browser

KINDS: Final = 11
OLD_CYCLES: Final = range(1, 5)
FAILED_CYCLE: Final = 2
LAST_CYCLE: Final = 5
SENTENCE: Final = "The letter has been on the table since the rain began, and nobody has asked. "


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Its log begins with four short cycles, one full of errors; the thousand newest events are of the fifth."""
    folder = tmp_path_factory.mktemp("long-ago")
    with running(valkey_binary(), folder / "valkey") as server:
        with server.client() as client:
            for seq, (ms, payload) in enumerate(long_life(int(time.time() * 1000)), start=1):
                client.xadd("v5:stream", {"event": json.dumps(payload), "by": f"mira-1:{seq}"}, id=f"{ms}-{seq}")
        with serving(server.url, folder / "bridge.log") as bridge:
            yield bridge


def long_life(now_ms: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every event with its time: cycles of a minute ago, and one since."""

    def event(ms: int, event_type: str, cycle: int, **data: Any) -> tuple[int, dict[str, Any]]:
        ts = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return ms, {"type": event_type, "ts": ts, "cycle": cycle, "day": 1, "data": data}

    begin = now_ms - 60_000
    for cycle in OLD_CYCLES:
        at = begin + cycle * 1_000
        yield event(at, "cycle.start", cycle, day=1)
        if cycle == FAILED_CYCLE:
            for i in range(5 * KINDS):
                yield event(at + i, "error", cycle, source=f"part {i % KINDS}", message="x" * 2_000)
        yield event(at + 500, "cycle.end", cycle, duration_ms=500)
    yield event(begin + 10_000, "cycle.start", LAST_CYCLE, day=1)
    for i in range(1_100):
        yield event(begin + 30_000 + i * 20, "sense.project", LAST_CYCLE, sense="wind", projection=f"gust {i}")
    yield event(now_ms, "decision", LAST_CYCLE, intention="ask", target="Egor", rationale=SENTENCE * 12)
    yield event(now_ms, "critic.evaluate", LAST_CYCLE, agent="care", verdict="veto", reasoning=SENTENCE * 6)


@pytest.fixture
def page(browser: Browser, bridge: Bridge) -> Iterator[Page]:
    """The page, connected; at the end of the test it must have complained of nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    watch = Watch(page)
    page.goto(bridge.url)
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")
    expect(page.locator("#errors")).not_to_have_text("none")  # what is older than what is held is recalled
    yield page
    problems = watch.problems
    context.close()
    assert problems == []


# --- cycles that are not held


def test_a_cycle_that_is_not_held_is_offered_where_the_filter_asks_for_it(page: Page) -> None:
    page.fill("#filter", "cycle:3 zebra")
    page.get_by_role("link", name="Cycle 3 is not held here: open it").click()
    expect(page.locator("#cycle-title")).to_have_text("Cycle 3")
    for text in (f"cycle:{LAST_CYCLE} zebra", "-cycle:3 zebra", "cycle:3..4", "cycle:3 cycle:4"):
        page.fill("#filter", text)
        expect(page.locator("#filter-note")).to_contain_text("0 of")
        expect(page.locator("#empty-cycle")).to_be_hidden()


def test_cycles_are_stepped_through_from_what_is_held_into_the_log_and_back(page: Page) -> None:
    before, after = (page.get_by_role("button", name=f"Cycle {where}") for where in ("before", "after"))
    title = page.locator("#cycle-title")
    for number in reversed(OLD_CYCLES):
        before.click()
        expect(title).to_have_text(f"Cycle {number}")
        expect(before).to_be_focused()
    page.keyboard.press("[")
    expect(page.locator("#notice")).to_have_text("The log has no cycle before this one.")
    expect(title).to_have_text("Cycle 1")
    for number in OLD_CYCLES[1:]:
        page.keyboard.press("]")
        expect(title).to_have_text(f"Cycle {number}")
    expect(page.locator("#notice")).to_have_text("")
    after.click()
    expect(title).to_have_text(f"Cycle {LAST_CYCLE}")
    expect(after).to_be_disabled()
    assert "#cycle" not in page.url


# --- errors that are not held


def test_errors_that_are_not_held_are_counted_shown_and_opened(page: Page) -> None:
    expect(page.locator("#errors")).to_have_text("50+")  # no more are recalled
    errors = page.get_by_role("region", name="Errors")
    expect(errors.get_by_role("heading")).to_have_text("Errors 50+")
    expect(errors.locator(".failure")).to_have_count(8)
    errors.get_by_role("button", name=f"{KINDS - 8} more kinds").click()
    expect(errors.locator(".failure")).to_have_count(KINDS)
    expect(errors.get_by_role("button", name="more kinds")).to_have_count(0)
    page.keyboard.press("e")
    expect(page.locator("#detail-title")).to_have_text("error")
    expect(page.locator("#detail")).to_contain_text(f"part {KINDS - 1}")  # the last of all


def test_where_no_error_is_known_the_keys_say_so(browser: Browser, own_server: RedisServer, tmp_path: Path) -> None:
    with serving(own_server.url, tmp_path / "bridge.log") as bridge:
        page = browser.new_page()
        page.goto(bridge.url)
        expect_state(page, "no event yet")
        page.keyboard.press("e")
        expect(page.locator("#notice")).to_have_text("No error is known.")
        page.close()


# --- long texts


def test_long_texts_are_cut_and_whole_where_the_pointer_rests(page: Page) -> None:
    decided = page.get_by_role("region", name="Last decision")
    rationale, reason = decided.locator(".why"), decided.locator(".reason")
    assert [len(rationale.inner_text()), len(reason.inner_text())] == [200, 90]
    assert SENTENCE * 12 == rationale.get_attribute("title")
    assert SENTENCE * 6 == reason.get_attribute("title")
    message = page.get_by_role("region", name="Errors").locator(".failure .message").first
    assert len(message.inner_text()) == 240
    assert message.get_attribute("title") == "x" * 2_000
    names = page.locator("#mind-body .card").evaluate_all("cards => cards.map((card) => card.ariaLabel)")
    assert names == ["Mood", "Focus", "Pain", "Drives", "Last decision", "Window"]
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.get_by_role("region", name="Window", exact=True)).to_be_in_viewport()


# --- what is known


def test_the_chart_says_where_what_it_knows_begins(page: Page) -> None:
    first = page.evaluate(
        "fetch('/history?order=desc&limit=1000').then((answer) => answer.json()).then(({ events }) => events.at(-1).ts)"
    )
    at = page.evaluate("(ts) => new Date(ts).toLocaleTimeString('sv')", first)
    expect(page.locator("#throughput .since")).to_have_text(f"not held before {at}")


def test_ages_stand_still_for_a_mind_that_is_gone(browser: Browser, own_server: RedisServer, tmp_path: Path) -> None:
    """And the chart of a page that holds the whole log says nothing of where that begins."""
    mind = Broadcaster(settings=Settings(redis_url=own_server.url))
    mind.set_cycle(1, 1)
    mind.emit("state.mood", {"old": "calm", "new": "glad"})
    mind.emit("decision", {"intention": "stop", "target": "", "rationale": ""})
    mind.emit("daemon.stop", {"reason": "SIGTERM"})
    assert mind.flush(5)
    mind.close(1)
    with serving(own_server.url, tmp_path / "bridge.log") as bridge:
        page = browser.new_page()
        page.goto(bridge.url)
        expect_state(page, "mind gone")
        lasted = page.get_by_role("region", name="Mood").locator(".aside")
        decided = page.get_by_role("region", name="Last decision").locator(".aside")
        expect(decided).to_have_text(re.compile(r"\d m?s ago"))
        before, told = lasted.inner_text(), decided.inner_text()
        expect(decided).not_to_have_text(told)  # it was so long ago, whatever became of the mind
        expect(decided).to_have_text(re.compile(r"\d s ago"))
        assert lasted.inner_text() == before
        expect(page.locator("#throughput .since")).to_have_text("5 min ago")
        page.close()
