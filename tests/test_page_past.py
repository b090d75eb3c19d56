"""The page's past under hard conditions: beyond what is loaded, without a bridge, behind a page of events."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from broadcast import Broadcaster
from tests.archives import database, fill
from tests.pages import Bridge, Watch, digests, serving, until
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer
from tests.story import Story

pytestmark = pytest.mark.browser

CYCLES = 140
CYCLE_EVENTS = 20
STEPS = 10_000


@pytest.fixture
def bridge(broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path) -> Iterator[Bridge]:
    """Its log holds more than two pages of cycles."""
    for number in range(1, CYCLES + 1):
        live_through(broadcaster, number)
    assert broadcaster.flush(10)
    time.sleep(0.2)
    broadcaster.emit("state.mood", {"old": "calm", "new": "glad"})  # so that behind the last cycle is not the present
    assert broadcaster.flush(10)
    with serving(valkey_server.url, tmp_path / "bridge.log") as bridge:
        yield bridge


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    watch = Watch(page)
    yield page
    # What a bridge that is killed, or has just begun, says besides what `Watch` knows.
    problems = [each for each in watch.problems if not re.search(r"net::ERR_| 503 ", each)]
    context.close()
    assert problems == []


def live_through(mind: Broadcaster, number: int, events: int = CYCLE_EVENTS) -> None:
    mind.set_cycle(number, 1)
    mind.emit("cycle.start", {"day": 1})
    for i in range(events - 2):
        mind.emit("sense.project", {"sense": "wind", "projection": f"gust {number}.{i}"})
    mind.emit("cycle.end", {"duration_ms": 5})


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def go_behind_the_last_cycle(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#cycle")).to_have_text(str(CYCLES))
    asked = "fetch('/history?types=cycle.end&order=desc&limit=1').then((answer) => answer.json())"
    page.goto(f"{address}?at={quote(page.evaluate(asked)['events'][0]['ts'])}")
    expect(page.locator("#state-word")).to_have_text("replay")
    expect(page.locator("#state-detail")).to_have_text("paused")
    expect(page.locator("#cycle")).to_have_text(str(CYCLES))


def open_past(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#cycle")).to_have_text(str(CYCLES))
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_visible()


# --- steps


def test_steps_back_lead_beyond_what_is_loaded_to_the_beginning_of_the_log(page: Page, bridge: Bridge) -> None:
    go_behind_the_last_cycle(page, bridge.url)
    back = page.locator("#cycle-back")
    for before in range(CYCLES, 1, -1):
        expect(back).to_be_enabled()
        page.keyboard.press("[")
        expect(page.locator("#cycle-title")).to_have_text(f"Cycle {before - 1}")
        expect(page.locator("#cycle-body")).to_contain_text(f"{CYCLE_EVENTS} events")
    expect(back).to_be_disabled()
    for _ in range(CYCLE_EVENTS):
        expect(page.locator("#step-back")).to_be_enabled()
        page.keyboard.press(",")
    expect(page.locator("#step-back")).to_be_disabled()


def test_a_step_back_leads_beyond_what_is_loaded_event_by_event(page: Page, bridge: Bridge) -> None:
    go_behind_the_last_cycle(page, bridge.url)
    cycle = CYCLES - 48  # within the thousand events that are loaded; the rest are single steps
    for _ in range(CYCLES - cycle + 1):
        page.keyboard.press("[")
    expect(page.locator("#cycle")).to_have_text(str(cycle - 1))
    expect_newest(page, "5 ms")
    for back in (1, 2, 3):
        expect(page.locator("#cycle")).to_have_text(str(cycle - back))
        for event in range(CYCLE_EVENTS - 3, -1, -1):
            page.keyboard.press(",")
            expect_newest(page, f"wind: gust {cycle - back}.{event}")
        page.keyboard.press(",")
        expect_newest(page, "day 1")
        page.keyboard.press(",")
        expect_newest(page, "5 ms")


def expect_newest(page: Page, digest: str) -> None:
    until(lambda: digests(page)[-1:] == [digest], 5)


# --- from the present


def test_who_opens_the_past_can_step_back_play_and_close_it_without_a_key(page: Page, bridge: Bridge) -> None:
    page.goto(bridge.url)
    expect(page.locator("#cycle")).to_have_text(str(CYCLES))
    page.locator("#help-button").click()
    page.get_by_label("Show the chart").uncheck()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#throughput")).to_be_hidden()
    page.locator("#past").click()
    expect(page.locator("#timeline .hint")).to_be_visible()
    expect(page.locator("#step-on")).to_be_disabled()
    page.locator("#step-back").click()
    expect(page.locator("#state-word")).to_have_text("replay")
    expect(page.locator("#state-detail")).to_have_text("paused")
    expect_newest(page, "5 ms")
    page.locator("#live").click()
    expect(page.locator("#state-word")).not_to_have_text("replay")
    page.locator("#cycle-back").click()
    expect(page.locator("#state-word")).to_have_text("replay")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {CYCLES - 1}")
    expect_newest(page, "5 ms")
    page.locator("#cycle-on").click()  # where the last cycle is over lies the present
    expect(page.locator("#state-word")).not_to_have_text("replay")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {CYCLES}")
    page.locator("#speed").select_option("0.5")
    page.locator("#play").click()
    expect(page.locator("#state-detail")).to_contain_text("at 0.5×")
    page.locator("#past-close").click()
    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.locator("#past")).to_be_focused()
    expect(page.locator("#throughput")).to_be_hidden()
    expect(page.locator("#mood")).to_have_text("glad")


def test_the_map_grows_with_the_log_and_tells_of_a_place_and_its_cycles(
    page: Page, bridge: Bridge, broadcaster: Broadcaster
) -> None:
    open_past(page, bridge.url)
    expect(page.locator(".map .mark[data-family=life]")).to_have_count(0)  # too many to be told apart
    end = page.locator(".map .to")
    before = end.inner_text()
    time.sleep(1.1)
    live_through(broadcaster, CYCLES + 1)
    expect(end).not_to_have_text(before)
    box = page.locator("#scrub").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 3, box["y"] + 20)
    expect(page.locator(".map .tip")).to_contain_text("events in")
    page.mouse.move(0, 0)
    expect(page.locator(".map .tip")).to_have_count(0)


def test_a_pinned_cycle_does_not_stay_when_one_goes_elsewhere(page: Page, bridge: Bridge) -> None:
    go_behind_the_last_cycle(page, bridge.url)
    page.get_by_role("button", name="Cycle before").click()
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {CYCLES - 1}")
    for _ in range(3):
        page.keyboard.press("[")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {CYCLES - 3}")
    assert "#cycle" not in page.url


def test_a_place_in_the_address_has_its_speed_and_figures_of_the_present_are_marked(page: Page, bridge: Bridge) -> None:
    go_behind_the_last_cycle(page, bridge.url)
    expect(page.locator("#figures")).to_have_class("figures past")
    page.locator("#speed").select_option("8")
    until(lambda: "speed=8" in page.url)
    page.reload()
    expect(page.locator("#state-word")).to_have_text("replay")
    expect(page.locator("#speed")).to_have_value("8")
    page.locator("#live").click()
    expect(page.locator("#figures")).to_have_class("figures")
    until(lambda: "speed=" not in page.url)


# --- behind a page of events


def test_what_was_decided_and_failed_before_a_page_of_events_is_known(
    page: Page, broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    """Also where the bridge was too busy to say so at first."""
    broadcaster.set_cycle(1, 1)
    broadcaster.emit("cycle.start", {"day": 1})
    broadcaster.emit("critic.evaluate", {"agent": "logic", "verdict": "approve", "confidence": 0.9})
    broadcaster.emit("decision", {"intention": "wait", "target": "the rain", "rationale": "it ends"})
    broadcaster.emit("cycle.end", {"duration_ms": 7})
    broadcaster.set_cycle(2, 1)
    broadcaster.emit("cycle.start", {"day": 1})
    broadcaster.emit("error", {"source": "tongue", "message": "cannot speak"})
    for i in range(1_200):
        broadcaster.emit("sense.project", {"sense": "wind", "projection": f"gust {i}"})
    assert broadcaster.flush(10)
    with serving(valkey_server.url, tmp_path / "bridge.log") as bridge:
        refused: list[str] = []

        def refuse(route: Route) -> None:
            if refused:
                route.fallback()
                return
            refused.append(route.request.url)
            route.fulfill(status=503, json={"detail": "busy"})

        page.route("**/history?*", refuse)
        page.goto(bridge.url)
        decided = page.get_by_role("region", name="Last decision")
        expect(decided).to_contain_text("wait")
        expect(decided).to_contain_text("logic")
        expect(page.locator("#errors")).to_have_text("1")
        expect(page.locator("#errors-body")).to_contain_text("cannot speak")
        expect(page.locator("#cycle-title")).to_have_text("Cycle 2")
        expect(page.locator("#cycle-body")).to_contain_text("1202 events")
        assert len(refused) == 1


# --- a bridge that is down


def test_a_replay_waits_for_a_bridge_that_is_down_and_goes_on(page: Page, bridge: Bridge) -> None:
    open_past(page, bridge.url)
    page.locator("#scrub").fill("0")
    expect(page.locator("#state-detail")).to_have_text("paused")
    page.locator("#play").click()
    asked: list[float] = []
    page.on("request", lambda request: asked.append(time.monotonic()) if "/history" in request.url else None)
    bridge.stop(signal.SIGKILL)
    page.locator("#speed").select_option("64")
    said = page.locator("#timeline .said")
    expect(said).to_contain_text("the bridge cannot be reached")
    expect(said).not_to_contain_text("TypeError")
    expect(page.locator("#state-word")).to_contain_text("replay")
    expect(page.locator("#state-word")).to_contain_text("bridge down")
    del asked[:]
    page.wait_for_timeout(4_000)
    assert len(asked) <= 6
    bridge.start()
    expect(said).to_have_text("")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")  # it has come to its end


@pytest.mark.parametrize("kind", ["event", "cycle"])
def test_what_could_not_be_asked_is_not_said_to_be_gone(page: Page, bridge: Bridge, kind: str) -> None:
    open_past(page, bridge.url)
    start = page.evaluate(
        "fetch('/history?types=cycle.start&limit=1').then((answer) => answer.json()).then(({ events }) => events[0].id)"
    )
    bridge.stop(signal.SIGKILL)
    page.evaluate("(hash) => { location.hash = hash; }", f"#{kind}={start}")
    place = page.locator("#notice" if kind == "event" else "#cycle-body")
    expect(place).to_contain_text("the bridge cannot be reached")
    expect(place).not_to_contain_text("in the log")
    bridge.start()
    if kind == "event":
        expect(page.locator("#detail-title")).to_have_text("cycle.start")
        expect(place).to_have_text("")
    else:
        expect(page.locator("#cycle-title")).to_have_text("Cycle 1")


# --- another log's events


def test_an_event_that_lies_in_the_archive_under_another_epoch_is_found(
    page: Page, valkey_server: RedisServer, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    """As after `broadcast import`: the stream itself never held it."""
    old, new = Story(time.time() - 400), Story(time.time())
    with valkey_server.client() as client:
        client.hset("{v5:stream}:log", "epoch", "e2")
        new.pour_into(client)
    told = [
        {**{key: event[key] for key in ("type", "ts", "cycle", "day", "data")}, "id": event["place"], "by": f"old:{n}"}
        for n, event in enumerate(old.events, start=1)
    ]
    with database(postgresql_server) as archive:
        with ThreadPoolExecutor(1) as other:  # Playwright's own loop runs in this thread
            other.submit(fill, archive, told).result()
        with serving(valkey_server.url, tmp_path / "bridge.log", DATABASE_URL=archive) as bridge:
            start = next(event for event in old.events if event["type"] == "cycle.start")
            page.goto(f"{bridge.url}#cycle={start['place']}")
            expect(page.locator("#cycle-title")).to_have_text(f"Cycle {start['cycle']}")
            page.goto(f"{bridge.url}#event={start['place']}")
            expect(page.locator("#detail-title")).to_have_text("cycle.start")
            expect(page.locator("#notice")).to_have_text("")
