"""The page over a life of a hundred thousand events, all but the last minute of it in the archive alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.archives import database, fill
from tests.pages import Bridge, Watch, digests, serving, until
from tests.postgresql import PostgresqlServer
from tests.servers import running, valkey_binary
from tests.story import LAST_CYCLE, Event, Story

pytestmark = pytest.mark.browser

EVENTS: Final = 100_000
APART_S: Final = 90
STEPS: Final = 10_000


class Living(NamedTuple):
    bridge: Bridge
    events: list[Event]


def moment(event: Event) -> float:
    return datetime.fromisoformat(str(event["ts"])).timestamp()


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgresqlServer) -> Iterator[Living]:
    folder, now = tmp_path_factory.mktemp("long"), time.time()
    last = Story(now)
    stories = [Story(now - age * APART_S) for age in range(-(-EVENTS // len(last.events)), 0, -1)]
    with running(valkey_binary(), folder / "valkey") as server, database(postgresql_server) as archive:
        with server.client() as client:
            client.hset("{v5:stream}:log", "epoch", "e1")
            last.pour_into(client, run="now")
        with ThreadPoolExecutor(1) as other:  # Playwright's own loop runs in this thread
            other.submit(fill, archive, list(delivered(stories))).result()
        with serving(server.url, folder / "bridge.log", DATABASE_URL=archive) as bridge:
            yield Living(bridge, [event for story in [*stories, last] for event in story.events])


def delivered(stories: list[Story]) -> Iterator[dict[str, Any]]:
    for number, story in enumerate(stories):
        for seq, event in enumerate(story.events, start=1):
            told = {key: event[key] for key in ("type", "ts", "cycle", "day", "data")}
            yield {**told, "id": event["place"], "by": f"run-{number}:{seq}"}


@pytest.fixture
def page(browser: Browser, living: Living) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    watch = Watch(page)
    page.goto(living.bridge.url)
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_visible()
    yield page
    page.close()
    assert [] == watch.problems


def newest(events: list[Event], event_type: str) -> dict[str, Any]:
    return next(event["data"] for event in reversed(events) if event["type"] == event_type)


def test_whatever_was_emitted_is_counted_and_shown_as_it_was_at_any_place(page: Page, living: Living) -> None:
    assert len(living.events) > EVENTS
    first, last = moment(living.events[0]), moment(living.events[-1])
    counted = page.evaluate(
        "fetch('/history?bucket=auto').then((answer) => answer.json())"
        ".then(({ buckets }) => buckets.reduce((sum, { count }) => sum + count, 0))"
    )
    assert len(living.events) == counted
    for share in (0.03, 0.5, 0.97):
        page.locator("#scrub").fill(str(int(share * STEPS)))
        expect(page.locator("#state-word")).to_have_text("replay")
        then = first + share * (last - first)
        happened = [event for event in living.events if moment(event) <= then]
        cycle = next(event["cycle"] for event in reversed(happened) if event["type"] == "cycle.start")
        expect(page.locator("#cycle-title")).to_have_text(f"Cycle {cycle}")
        expect(page.locator("#mood")).to_have_text(newest(happened, "state.mood")["new"])
        expect(page.locator("#focus")).to_contain_text(newest(happened, "state.focus")["new"])
    page.keyboard.press("t")
    expect(page.locator("#timeline")).to_be_hidden()
    until(lambda: len(digests(page)) > 5)
