"""The page in a real browser, on a real bridge and a real Valkey: what a person sees, also when parts are down."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from broadcast import Broadcaster
from broadcast.bridge.access import issue_token
from broadcast.settings import Settings
from tests.pages import (
    Bridge,
    Watch,
    digests,
    emit_numbers,
    expect_state,
    moods,
    serving,
    settle,
    until,
)
from tests.servers import RedisServer

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "test-artifacts"
SECRET = "s" * 32


@pytest.fixture
def bridge(own_server: RedisServer, tmp_path: Path) -> Iterator[Bridge]:
    with serving(own_server.url, tmp_path / "bridge.log") as bridge:
        yield bridge


@pytest.fixture
def mind(own_server: RedisServer) -> Iterator[Broadcaster]:
    broadcaster = Broadcaster(settings=Settings(redis_url=own_server.url))
    yield broadcaster
    broadcaster.close(1)


@pytest.fixture
def page(browser: Browser, bridge: Bridge) -> Iterator[Page]:
    """The page, connected; at the end of the test it must have complained of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    watch = Watch(page)
    page.goto(bridge.url)
    expect_state(page, "no event yet")
    yield page
    problems = watch.problems
    context.close()
    assert problems == []


# --- what is shown


def test_events_appear_with_their_digest_cycle_and_counts(page: Page, mind: Broadcaster) -> None:
    expect(page.get_by_text("Waiting for the first event")).to_be_visible()
    mind.set_cycle(42, 1551)
    mind.emit("sense.project", {"sense": "pain", "projection": "what am I for?"})
    mind.emit("weather.note", {"sky": "clear"})

    expect(page.locator("#seen")).to_have_text("2")
    assert digests(page) == ["pain: what am I for?", '{"sky":"clear"}']
    assert page.locator(".row[data-family='sense'] .cycle").inner_text() == "42"
    assert [page.locator(id).inner_text() for id in ("#cycle", "#day", "#gaps")] == ["42", "1551", "none"]
    expect(page.get_by_text("Waiting for the first event")).to_be_hidden()


def test_paused_nothing_moves_and_what_waits_is_counted(page: Page, mind: Broadcaster) -> None:
    emit_numbers(mind, range(2))
    expect(page.locator("#seen")).to_have_text("2")
    page.keyboard.press("Space")
    emit_numbers(mind, range(2, 5))

    expect(page.locator("#fresh")).to_have_text("3 new ↓")
    assert digests(page) == moods(range(2))
    page.keyboard.press("Space")
    until(lambda: digests(page) == moods(range(5)))


def test_ten_thousand_events_stay_few_rows_and_the_end_is_followed(page: Page, mind: Broadcaster) -> None:
    emit_numbers(mind, range(10_000))
    expect(page.locator("#seen")).to_have_text("10,000", timeout=60_000)
    expect(page.locator("#gaps")).to_have_text("none")

    until(lambda: digests(page)[-1:] == moods(range(9_999, 10_000)))
    assert page.locator(".row").count() <= 200
    assert page.locator("#list").get_attribute("aria-rowcount") == "10000"
    page.locator("#list").hover()
    page.mouse.wheel(0, -4000)
    until(lambda: digests(page)[-1:] != moods(range(9_999, 10_000)))
    settle(page)
    before = digests(page)
    emit_numbers(mind, range(5))
    expect(page.locator("#fresh")).to_have_text("5 new ↓")
    assert digests(page) == before
    page.locator("#fresh").click()
    until(lambda: digests(page)[-5:] == moods(range(5)))


def test_a_large_event_is_shown_in_few_elements(page: Page, mind: Broadcaster) -> None:
    page.evaluate("""() => { window.nodes = () => document.querySelectorAll("*").length; }""")
    mind.emit("weather.large", {f"key {i}": {"value": i, "text": "x" * 20} for i in range(900)})
    mind.emit("weather.long", {"text": "y" * 30_000})
    mind.emit("weather.list", {"figures": [*range(300)], "words": ["rain"] * 300, "behind it": 1})
    expect(page.locator("#seen")).to_have_text("3")
    page.fill("#filter", "weather.large")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)  # it is applied in the next frame
    page.locator(".row:not([hidden])").click()
    for tab in ("Fields", "JSON"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("nodes()") < 1_500, tab
    page.get_by_role("button", name="all of it").click()
    whole = json.loads(page.locator("#detail-json").inner_text())
    assert len(whole["data"]) == 900
    page.get_by_role("tab", name="Fields").click()
    page.get_by_role("button", name="100 more").click()
    expect(page.locator(".fields li")).to_have_count(200)
    page.keyboard.press("Escape")
    page.fill("#filter", "weather.list")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)
    page.locator(".row:not([hidden])").click()
    expect(page.locator(".fields li").last).to_contain_text("behind it")
    expect(page.locator(".fields li").last).to_be_in_viewport()
    expect(page.locator(".fields li", has_text="figures")).to_contain_text("6, 7, 8, 9 … and 290 more")
    page.get_by_role("button", name="and 290 more").first.click()
    expect(page.locator(".fields li", has_text="figures")).to_contain_text("298, 299")
    expect(page.locator("#detail-age")).to_have_text(re.compile(r"^\(\d+ s ago\)$"))
    age = page.locator("#detail-age").inner_text()
    expect(page.locator("#detail-age")).not_to_have_text(age)
    page.keyboard.press("Escape")
    page.fill("#filter", "weather.long")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)  # it is applied in the next frame
    page.locator(".row:not([hidden])").click()
    page.get_by_role("button", name="all of it: 30,000 characters").click()
    assert "y" * 30_000 in page.locator("#detail").inner_text()


def test_a_stretch_drawn_over_the_chart_becomes_a_filter(page: Page, mind: Broadcaster) -> None:
    mind.emit("before.it", {})
    expect(page.locator("#seen")).to_have_text("1")
    page.wait_for_timeout(10_000)
    for _ in range(3):
        mind.emit("in.it", {})
    expect(page.locator("#seen")).to_have_text("4")
    expect(page.locator("#chart .most")).to_have_text("peak 3/s")  # that second is over
    box = page.locator("#chart").bounding_box()
    assert box is not None
    y, right = box["y"] + box["height"] / 2, box["x"] + box["width"] - 1
    six_seconds = (right - box["width"] / 50, right)
    for begin, end in (six_seconds, six_seconds[::-1]):
        page.mouse.move(begin, y)
        page.mouse.down()
        page.mouse.move(end, y)
        expect(page.locator("#chart rect")).to_have_count(1)
        page.mouse.up()
        expect(page.locator("#chart rect")).to_have_count(0)
        expect(page.locator("#filter")).to_have_value(
            re.compile(r"^ts:\d{4}-\d\d-\d\dT[\d:]{8}\.\.\d{4}-\d\d-\d\dT[\d:]{8}$")
        )
        expect(page.locator("#filter-note")).to_have_text(re.compile("^3 of . match$"))
    page.fill("#filter", "-rain ts:2026 " + page.locator("#filter").input_value())
    page.mouse.move(right - box["width"] / 60, y)
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#filter")).to_have_value(re.compile(r"^-rain ts:[^ ]+$"))


# --- the three silences


def test_a_quiet_mind_is_told_from_a_broken_log(
    own_server: RedisServer, browser: Browser, bridge: Bridge, mind: Broadcaster
) -> None:
    a_minute_ago = int((time.time() - 60) * 1000)
    old = {"type": "observe", "ts": "2026-02-14T19:01:23.456Z", "cycle": 1, "day": 1, "data": {"assessment": "old"}}
    with own_server.client() as client:
        client.xadd("v5:stream", {"event": json.dumps(old)}, id=f"{a_minute_ago}-0")
    page = browser.new_page()
    page.clock.install()  # it runs as every clock does, until it is set forward
    page.goto(bridge.url)

    expect_state(page, "mind quiet")
    expect(page.locator("#state-detail")).to_contain_text("1 min ago")
    mind.emit("hello", {})
    expect_state(page, "live")
    page.clock.fast_forward(5_000)
    expect(page.locator("#announcement")).to_have_text(re.compile(r"\b[12] new events?\b"))  # at most every 5 s
    expect_state(page, "live")
    page.clock.fast_forward(6_000)
    expect_state(page, "mind quiet")
    expect(page.locator("#state-detail")).to_contain_text("since ")
    page.close()


def test_redis_down_is_said_and_nothing_is_missing_or_doubled_after(
    page: Page, own_server: RedisServer, mind: Broadcaster
) -> None:
    emit_numbers(mind, range(5))
    expect(page.locator("#seen")).to_have_text("5")
    own_server.stop(signal.SIGKILL)
    expect_state(page, "Redis down")
    emit_numbers(mind, range(5, 10))
    own_server.start()
    expect_state(page, "live")

    until(lambda: len(digests(page)) >= 10)
    page.wait_for_timeout(500)
    assert digests(page) == moods(range(10))
    expect(page.locator("#seen")).to_have_text("10")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_bridge_down_is_said_and_nothing_is_missing_or_doubled_after(
    page: Page, bridge: Bridge, mind: Broadcaster, number: signal.Signals
) -> None:
    emit_numbers(mind, range(5))
    expect(page.locator("#seen")).to_have_text("5")
    bridge.stop(number)
    expect_state(page, "bridge down")
    expect(page.locator("#state-detail")).to_contain_text("retrying")
    retry = page.get_by_role("button", name="Retry now")
    expect(retry).to_be_visible()
    # More than the fifty events that a viewer without a place is given.
    emit_numbers(mind, range(5, 85))
    assert mind.flush(5)
    bridge.start()
    if number is signal.SIGTERM:  # the other one comes back without being asked
        page.locator("#retry").dispatch_event("click")  # whether or not it has come back meanwhile, and hidden it

    expect_state(page, "live")
    expect(page.locator("#seen")).to_have_text("85")
    page.wait_for_timeout(500)
    expect(page.locator("#seen")).to_have_text("85")
    shown = digests(page)
    assert shown == moods(range(85))[-len(shown) :]
    expect(page.locator("#gaps")).to_have_text("none")


def test_what_the_log_no_longer_holds_is_a_row_in_words(
    page: Page, own_server: RedisServer, bridge: Bridge, mind: Broadcaster
) -> None:
    emit_numbers(mind, range(3))
    expect(page.locator("#seen")).to_have_text("3")
    bridge.stop()
    emit_numbers(mind, range(3, 20))
    assert mind.flush(5)
    with own_server.client() as client:
        client.xtrim("v5:stream", maxlen=5, approximate=False)
    bridge.start()

    gap = page.locator(".row[data-family='gap']:not([hidden]) .digest")
    expect(gap).to_have_text("12 events missing: the log no longer holds them")
    expect(page.locator("#gaps")).to_have_text("1 (12 events)")
    assert digests(page) == moods(range(3)) + moods(range(15, 20))
    page.screenshot(path=ARTIFACTS / "page-gap.png")
    page.fill("#filter", "nothing")
    expect(gap).to_be_visible()


def test_a_bridge_that_wants_a_token_is_given_one(browser: Browser, own_server: RedisServer, tmp_path: Path) -> None:
    with serving(own_server.url, tmp_path / "closed.log", BROADCAST_SECRET=SECRET) as bridge:
        page = browser.new_page()
        page.goto(bridge.url)
        expect_state(page, "not connected")
        page.screenshot(path=ARTIFACTS / "page-token.png")
        token = issue_token(SECRET, subject="me", types=None, ttl_s=60)
        page.get_by_label("This bridge wants a token").fill(token)
        page.get_by_role("button", name="Connect").click()

        expect_state(page, "no event yet")
        expect(page.locator("#token-form")).to_be_hidden()
        assert token not in page.url
        page.close()


WORDS = """() => {
    window.words = [];
    const word = document.querySelector("#state-word");
    new MutationObserver(() => window.words.push(word.textContent)).observe(word, { childList: true });
}"""


def test_while_it_catches_up_the_page_says_so_and_not_what_was_before(
    page: Page, bridge: Bridge, mind: Broadcaster, own_server: RedisServer
) -> None:
    emit_numbers(mind, range(3))
    expect(page.locator("#seen")).to_have_text("3")
    page.evaluate(WORDS)
    bridge.stop()
    emit_numbers(mind, range(3, 9_000))
    assert mind.flush(20)
    bridge.start()

    until(lambda: "8999 → 9000" in digests(page))
    emit_numbers(mind, range(9_000, 9_001))
    expect_state(page, "live")
    words = page.evaluate("window.words")
    assert "catching up" in words, words
    assert not {"live", "mind quiet"} & set(words[: words.index("catching up")]), words
    expect(page.locator("#gaps")).to_have_text("none")


def test_more_than_the_page_can_hold_is_passed_over_and_a_row_says_so(
    page: Page, bridge: Bridge, mind: Broadcaster, own_server: RedisServer
) -> None:
    mind.emit("state.focus", {"old": "", "new": "the letter"})
    emit_numbers(mind, range(2))
    asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/history')).length"
    until(lambda: page.evaluate(asked) >= 9)  # what the mind felt and did before is asked for when the page comes
    bridge.stop()
    with own_server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(12_000):
            told = {"type": "state.mood", "ts": "2026-02-14T19:01:23.456Z", "cycle": 0, "day": 1}
            pipe.xadd("v5:stream", {"event": json.dumps(told | {"data": {"old": number, "new": number + 1}})})
        pipe.execute()
    bridge.start()

    until(lambda: "11999 → 12000" in digests(page))
    page.fill("#filter", "nothing.like.it")
    passed = page.locator(".row[data-family='gap']:not([hidden]) .digest")
    expect(passed).to_have_text(re.compile("^11,00[0-3] events passed over, to be with the newest: Past has them$"))
    expect(page.locator("#gaps")).to_have_text("none")
    expect(page.locator("#focus")).to_have_text("the letter")  # it was told before what is held
    expect(page.locator("#mood")).to_have_text("12000")


def test_before_it_is_connected_the_page_says_nothing_of_the_mind(
    browser: Browser, own_server: RedisServer, tmp_path: Path
) -> None:
    with serving(own_server.url, tmp_path / "closed.log", BROADCAST_SECRET=SECRET) as bridge:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(bridge.url)
        expect(page.locator("#empty-title")).to_have_text("Not connected: nothing can be shown")
        for part in ("#cycle-body", "#mind-body"):
            expect(page.locator(part)).to_have_text("Not connected: nothing is known")
        expect(page.locator("#errors-body")).to_be_empty()
        expect(page.locator("#errors")).to_have_text("–")
        page.get_by_label("This bridge wants a token").fill(issue_token(SECRET, subject="me", types=None, ttl_s=60))
        page.get_by_role("button", name="Connect").click()
        expect_state(page, "no event yet")
        expect(page.locator("#cycle-body")).to_contain_text("No cycle yet")
        expect(page.locator("#mind-body")).to_contain_text("Nothing hurts, as far as was told.")
        page.close()


def test_without_a_script_the_page_leads_to_the_plain_one_and_claims_nothing(browser: Browser, bridge: Bridge) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(bridge.url)
    link = page.get_by_role("link", name="/plain")
    box = link.bounding_box()
    assert box is not None and box["y"] < 120  # right behind the bar
    expect(page.locator("#state")).to_be_hidden()
    expect(page.locator("#empty")).to_be_hidden()
    assert set(page.locator("#figures dd").all_inner_texts()) == {"–"}
    link.click()
    page.wait_for_url(f"{bridge.url}plain")
    context.close()


def test_what_a_token_may_not_read_is_said_and_not_taken_for_silence(
    browser: Browser, own_server: RedisServer, tmp_path: Path
) -> None:
    for run in range(3):
        mind = Broadcaster(settings=Settings(redis_url=own_server.url))
        for number in (3, 4 + run):
            mind.set_cycle(number, 1)
            mind.emit("cycle.start", {})
            mind.emit("sense.all", {"projections": [f"run {run}"]})
            mind.emit("cycle.end", {})
        mind.close(5)
    with serving(own_server.url, tmp_path / "closed.log", BROADCAST_SECRET=SECRET) as bridge:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(bridge.url)
        expect(page.locator("#empty-title")).to_have_text("Not connected: nothing can be shown")
        expect(page.locator("#empty-code")).to_be_hidden()
        page.get_by_label("This bridge wants a token").fill(
            issue_token(SECRET, subject="me", types="sense.*, state.focus", ttl_s=60)
        )
        page.get_by_role("button", name="Connect").click()

        expect(page.locator("#seen")).to_have_text("6")
        expect(page.locator(".stick")).to_have_count(6)  # one for each cycle of each run
        expect(page.locator("#cycle-outcome")).to_have_text("0 ms so far")
        for name, hidden in (("Mood", "state.mood"), ("Errors", "error"), ("Drives", "state.drive")):
            text = page.get_by_role("region", name=name, exact=True)
            expect(text).to_contain_text(f"Your token may not read {hidden}.")
        expect(page.get_by_role("region", name="Focus", exact=True)).to_contain_text("Not known yet")
        page.close()


# --- the client for any page


def test_a_page_whose_handlers_throw_is_brought_back_all_the_same(
    browser: Browser, bridge: Bridge, mind: Broadcaster, own_server: RedisServer
) -> None:
    page = browser.new_page()
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(f"{bridge.url}client.js")
    script = """async () => {
        const { connect } = await import("/client.js");
        window.had = [];
        const fault = (name) => () => { throw new Error(name); };
        connect(location.origin, { types: "state.*", onState: fault("onState"), onGap: fault("onGap"),
            onEvent: (event) => { had.push(event.data.old); fault("onEvent")(); } });
    }"""
    page.evaluate(script)
    emit_numbers(mind, range(3))
    until(lambda: page.evaluate("had.length") == 3)
    bridge.stop(signal.SIGKILL)
    emit_numbers(mind, range(3, 20))
    assert mind.flush(5)
    with own_server.client() as client:
        client.xtrim("v5:stream", maxlen=5, approximate=False)
    bridge.start()

    until(lambda: page.evaluate("had.at(-1)") == 19)
    assert page.evaluate("had.slice(0, 3)") == [0, 1, 2]
    assert {"onEvent", "onState", "onGap"} == set(thrown)  # each is told where the page's own faults are
    page.close()


def test_the_client_follows_the_log_from_any_page(page: Page, mind: Broadcaster) -> None:
    emit_numbers(mind, range(3))
    mind.emit("sense.project", {"projection": "not asked for"})
    expect(page.locator("#seen")).to_have_text("4")
    script = """async () => {
        const { connect } = await import("/client.js");
        const had = [];
        return await new Promise((done) => {
            const connection = connect(location.origin, { types: "state.*", catchup: 2, onEvent: (event) => {
                had.push(event.data.old);
                if (had.length === 2) setTimeout(() => { connection.close(); done([had, connection.cursor.n]); }, 300);
            }});
        });
    }"""

    assert page.evaluate(script) == [[1, 2], 4]
