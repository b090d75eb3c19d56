"""The page goes back in time: to any place of the log, as fast as one likes, and to the present again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.archives import database, fill
from tests.pages import Bridge, Watch, digests, serving, until
from tests.postgresql import PostgresqlServer
from tests.servers import RedisServer, running, valkey_binary
from tests.story import FAILED_CYCLE, LAST_CYCLE, Event, Story

pytestmark = pytest.mark.browser

AGES_S: Final = (400, 200, 0)
STEPS: Final = 10_000


class Living(NamedTuple):
    """A bridge whose log holds some minutes of life, with rests between."""

    server: RedisServer
    bridge: Bridge
    events: list[Event]

    def at(self, share: float) -> tuple[float, list[Event]]:
        """A time so far through the log, and what had happened then."""
        first, last = moment(self.events[0]), moment(self.events[-1])
        then = first + share * (last - first)
        return then, [event for event in self.events if moment(event) <= then]


def moment(event: Event) -> float:
    return datetime.fromisoformat(str(event["ts"])).timestamp()


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgresqlServer) -> Iterator[Living]:
    folder = tmp_path_factory.mktemp("time")
    now = time.time()
    stories = {f"mira-{age_s}": Story(now - age_s) for age_s in AGES_S}
    with running(valkey_binary(), folder / "valkey") as server, database(postgresql_server) as archive:
        with server.client() as client:
            client.hset("{v5:stream}:log", "epoch", "e1")
            for run, story in stories.items():
                story.pour_into(client, run=run)
            # What is older than the last story lies in the archive alone.
            client.xtrim("v5:stream", maxlen=len(story.events), approximate=False)
        with ThreadPoolExecutor(1) as other:  # Playwright's own loop runs in this thread
            other.submit(fill, archive, list(delivered(stories))[: -len(story.events)]).result()
        with serving(server.url, folder / "bridge.log", DATABASE_URL=archive) as bridge:
            yield Living(server, bridge, [event for story in stories.values() for event in story.events])


def delivered(stories: dict[str, Story]) -> Iterator[dict[str, Any]]:
    """The events as readers get them."""
    n = 0
    for run, story in stories.items():
        for seq, event in enumerate(story.events, start=1):
            n += 1
            told = {key: event[key] for key in ("type", "ts", "cycle", "day", "data")}
            yield {**told, "id": event["place"], "by": f"{run}:{seq}", "n": n}


@pytest.fixture
def page(browser: Browser, living: Living) -> Iterator[Page]:
    """The page with its time open."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    watch = Watch(page)
    page.goto(living.bridge.url)
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_visible()
    yield page
    problems = watch.problems
    context.close()
    assert problems == []


def go_to(page: Page, share: float) -> None:
    page.locator("#scrub").fill(str(int(share * STEPS)))
    expect(page.locator("#state-word")).to_have_text("replay")


def newest(events: list[Event], event_type: str) -> dict[str, Any]:
    return next(event["data"] for event in reversed(events) if event["type"] == event_type)


@pytest.mark.parametrize("share", [0.1, 0.47])
def test_a_place_in_the_past_shows_the_mind_as_it_was(page: Page, living: Living, share: float) -> None:
    go_to(page, 0.8)
    go_to(page, share)
    _, happened = living.at(share)
    cycle = next(event["cycle"] for event in reversed(happened) if event["type"] == "cycle.start")

    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {cycle}")
    expect(page.locator("#mood")).to_have_text(newest(happened, "state.mood")["new"])
    expect(page.locator("#state-detail")).to_have_text("paused")
    hunger = page.get_by_role("region", name="Drives").locator("li", has_text="curiosity").locator(".figure")
    expect(hunger).to_have_text(f"{newest(happened, 'state.drive')['hunger']:.2f}")
    until(lambda: page.locator("#cycle").inner_text() == str(cycle))
    # The same place again, from its address alone.
    page.goto(page.url)
    page.reload()
    expect(page.locator("#state-word")).to_have_text("replay")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {cycle}")


def test_it_is_stepped_through_by_event_and_by_cycle(page: Page, living: Living) -> None:
    go_to(page, 0.47)
    expect(page.locator("#state-detail")).to_have_text("paused")
    number = int(page.locator("#cycle-title").inner_text().split()[1])
    for key, shown in (("[", number - 1), ("[", number - 2), ("]", number - 1)):
        page.keyboard.press(key)
        expect(page.locator("#cycle-title")).to_have_text(f"Cycle {shown}")
        expect(page.locator("#cycle-outcome")).to_have_text(re.compile(r"\d\.\d s$"))
        until(lambda: re.fullmatch(r"[\d.]+ m?s", digests(page)[-1]))  # its `cycle.end`
    page.keyboard.press(".")
    until(lambda: digests(page)[-1] == "day 12, session evening")
    page.keyboard.press(".")
    until(lambda: digests(page)[-1].startswith("wind: "))
    page.keyboard.press(",")
    until(lambda: digests(page)[-1] == "day 12, session evening")


def test_a_cycle_that_is_stepped_to_is_whole_and_so_is_what_its_link_opens(page: Page) -> None:
    for number in range(LAST_CYCLE - 1, FAILED_CYCLE - 1, -1):
        page.locator("#cycle-back").click()
        expect(page.locator("#cycle-title")).to_have_text(f"Cycle {number}")
    expect_the_failed_cycle(page)
    page.get_by_text("Link to this cycle").click()
    until(lambda: "at=" in page.url and "#cycle=" in page.url)
    open_again(page)
    expect_the_failed_cycle(page)
    # A link that was made in the middle of it opens the whole of it, too.
    page.get_by_role("button", name="Newest").click()
    for _ in range(8):
        page.locator("#step-back").click()
    expect(page.locator("#cycle-outcome")).to_contain_text("running")
    page.get_by_text("Link to this cycle").click()
    until(lambda: "#cycle=" in page.url)
    open_again(page)
    expect_the_failed_cycle(page)


def open_again(page: Page) -> None:
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#state-word")).to_have_text("replay")


def expect_the_failed_cycle(page: Page) -> None:
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {FAILED_CYCLE}")
    expect(page.locator("#cycle-outcome")).to_have_text(re.compile(r"✗ 1 error, \d\.\d s"))
    expect(page.locator(".failures")).to_contain_text("StoreTimeoutError")
    expect(page.locator(".lane .stage")).to_have_count(7)
    expect(page.get_by_role("region", name="Pain")).to_contain_text("numb.memory")  # the mind as it left it


def test_a_click_on_the_map_stands_there_and_plays_on_only_where_it_played(page: Page) -> None:
    page.locator("#speed").select_option("64")
    click_map(page, 0.3)
    expect(page.locator("#state-detail")).to_have_text("paused")
    until(lambda: "at=" in page.url and "speed=64" in page.url)
    page.locator("#speed").select_option("1")
    page.locator("#play").click()
    expect(page.locator("#state-detail")).to_have_text("at 1×")
    click_map(page, 0.1)
    expect(page.locator("#state-detail")).to_have_text("at 1×")
    until(lambda: "at=" not in page.url)


def test_arrow_keys_move_the_slider_so_that_it_is_seen_also_where_nothing_happened(page: Page) -> None:
    page.locator("#scrub").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#state-detail")).to_have_text("paused")
    expect(page.locator("#scrub")).to_have_value(str(STEPS - 100))
    go_to(page, 0.3)  # between two lives
    page.locator("#scrub").focus()
    for steps in (100, 200, 300):
        page.keyboard.press("ArrowRight")
        expect(page.locator("#scrub")).to_have_value(str(3000 + steps))
    expect(page.locator("#state-detail")).to_have_text("paused")
    page.locator("#scrub").fill(str(STEPS - 50))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")


def click_map(page: Page, share: float) -> None:
    box = page.locator("#scrub").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    expect(page.locator("#state-word")).to_have_text("replay")


def test_the_tip_covers_neither_the_place_nor_the_hint(page: Page) -> None:
    box = page.locator("#scrub").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    tip, player = page.locator(".map .tip").bounding_box(), page.locator(".player").bounding_box()
    marks = page.locator(".map svg").bounding_box()
    assert tip is not None and player is not None and marks is not None
    assert tip["y"] >= player["y"] + player["height"]
    assert tip["y"] >= marks["y"] + marks["height"] - 1
    assert tip["y"] + tip["height"] <= 900


def test_played_fast_it_comes_to_the_present_and_what_came_meanwhile_is_there(page: Page, living: Living) -> None:
    mind = Broadcaster(settings=Settings(redis_url=living.server.url))
    go_to(page, 0.97)
    expect(page.locator("#state-detail")).to_have_text("paused")
    mind.emit("state.mood", {"old": "curious", "new": "glad"})
    assert mind.flush(5)
    mind.close(1)
    page.locator("#speed").select_option("64")
    page.locator("#play").click()

    expect(page.locator("#state-word")).not_to_have_text("replay")
    expect(page.locator("#mood")).to_have_text("glad")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")
    assert "at=" not in page.url
    go_to(page, 0.2)
    expect(page.locator("#mood")).not_to_have_text("glad")
    page.keyboard.press("t")
    expect(page.locator("#mood")).to_have_text("glad")
    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.locator("#past")).to_be_focused()


def test_the_map_is_zoomed_and_moved(page: Page, living: Living) -> None:
    go_to(page, 0.5)
    begin = page.locator(".map .from")
    whole = begin.inner_text()
    page.keyboard.press("+")
    expect(begin).not_to_have_text(whole)
    # Half of what is seen each time.
    earlier = page.get_by_role("button", name="Earlier")
    for _ in range(4):
        if earlier.is_enabled():
            earlier.click()
    expect(begin).to_have_text(whole)
    expect(earlier).to_be_disabled()
    page.keyboard.press("-")
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()


def test_a_cycle_of_long_ago_is_found_by_its_address(page: Page, living: Living) -> None:
    start = next(event for event in living.events if event["type"] == "cycle.start")  # it is in the archive alone
    page.goto(f"{living.bridge.url}#cycle={start['place']}")

    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {start['cycle']}")
    took_ms = next(event["data"]["duration_ms"] for event in living.events if event["type"] == "cycle.end")
    expect(page.locator("#cycle-outcome")).to_have_text(f"{took_ms / 1000:.1f} s")
    expect(page.locator(".lane .stage")).to_have_count(7)
    page.get_by_role("button", name="Cycle after").click()
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {start['cycle'] + 1}")
    page.get_by_role("button", name="Newest").click()
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")


def test_a_mood_of_long_ago_is_known_now_and_then(
    browser: Browser, broadcaster: Broadcaster, valkey_server: RedisServer, tmp_path: Path
) -> None:
    """It was told of farther back than the page holds events."""
    feelings: tuple[tuple[str, dict[str, Any]], ...] = (
        ("state.mood", {"old": "calm", "new": "wistful"}),
        ("state.focus", {"old": "", "new": "the rain"}),
        ("state.drive", {"drive": "curiosity", "hunger": 0.77}),
        ("state.pain", {"type": "grief", "intensity": 0.4, "context": "the letter"}),
    )
    for event_type, data in feelings:
        broadcaster.emit(event_type, data)
    for i in range(1_500):
        broadcaster.emit("sense.project", {"sense": "wind", "projection": f"gust {i}"})
    assert broadcaster.flush(5)
    time.sleep(0.2)
    then = datetime.now(UTC).isoformat(timespec="milliseconds")
    time.sleep(0.2)
    for i in range(1_200):
        broadcaster.emit("sense.project", {"sense": "light", "projection": f"ray {i}"})
    assert broadcaster.flush(5)
    with serving(valkey_server.url, tmp_path / "bridge.log") as bridge:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        watch = Watch(page)
        for address, newest_row in ((bridge.url, "ray 1199"), (f"{bridge.url}?at={quote(then)}", "gust 1499")):
            page.goto(address)
            expect(page.locator("#list")).to_contain_text(newest_row)
            expect(page.locator("#mood")).to_have_text("wistful")
            expect(page.locator("#focus")).to_have_text("the rain")
            drives = page.get_by_role("region", name="Drives")
            expect(drives.locator("li", has_text="curiosity").locator(".figure")).to_have_text("0.77")
            expect(page.get_by_role("region", name="Pain")).to_contain_text("grief")
        page.close()
        assert [] == watch.problems
