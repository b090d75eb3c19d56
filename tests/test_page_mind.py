"""The page as a person uses it: what the mind feels, decides and why it failed, by mouse, by keys, by address."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from broadcast import Broadcaster
from broadcast.settings import Settings
from tests.pages import Bridge, Watch, digests, expect_state, serving, settle, until
from tests.servers import RedisServer, running, valkey_binary
from tests.story import FAILED_CYCLE, LAST_CYCLE, RATIONALE, TRACEBACK, Story

pytestmark = pytest.mark.browser

ROOT: Final = Path(__file__).parent.parent
ARTIFACTS: Final = ROOT / "test-artifacts"
PICTURE: Final = ROOT / "docs" / "dashboard.png"
AXE: Final = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE: Final = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
    "\u202eevil\u2066\u200f",
    "\x1b[31mred\x07\x00\x9b",
    "{{7*7}}${7*7}<!--?lit$1$-->",
    '" onmouseover="alert(4)',
    "a" * 3_000,
)


class Living(NamedTuple):
    """A bridge whose log holds the story."""

    server: RedisServer
    bridge: Bridge
    story: Story


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    folder = tmp_path_factory.mktemp("story")
    with running(valkey_binary(), folder / "valkey") as server:
        story = Story(time.time())
        with server.client() as client:
            story.pour_into(client)
        with serving(server.url, folder / "bridge.log") as bridge:
            yield Living(server, bridge, story)


@pytest.fixture
def page(browser: Browser, living: Living) -> Iterator[Page]:
    """The page, with the story in it; at the end of the test it must have complained of nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    watch = Watch(page)
    page.goto(living.bridge.url)
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")
    yield page
    problems = watch.problems
    context.close()
    assert problems == []


def hold_only(page: Page, count: int) -> None:
    """As if the page were given only so many of the newest events when it comes."""
    script = """window.WebSocket = class extends WebSocket {
        send(text) { super.send(typeof text === "string" ? text.replace('"catchup":1000', '"catchup":COUNT') : text); }
    }"""
    page.add_init_script(script.replace("COUNT", str(count)))


def card(page: Page, name: str) -> str:
    return str(page.get_by_role("region", name=name, exact=True).inner_text())


# --- first, while the story is fresh: what the README shows


def test_the_picture_in_the_readme_is_of_this_page(page: Page) -> None:
    """`WRITE_PICTURE=1` takes it anew."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_timeout(1_200)  # until the chart has been drawn
    taken = page.screenshot(path=ARTIFACTS / PICTURE.name)
    if os.environ.get("WRITE_PICTURE") == "1":
        PICTURE.write_bytes(taken)

    assert PICTURE.stat().st_size <= 200_000
    assert taken[:24] == PICTURE.read_bytes()[:24]  # a picture of this kind and size
    assert f"docs/{PICTURE.name}" in (ROOT / "README.md").read_text(encoding="utf-8")


# --- the three walks of somebody who has never seen the project


def test_walk_what_is_the_mind_feeling(page: Page) -> None:
    expect(page.locator("#mood")).to_have_text("curious")
    assert "calm" in card(page, "Mood").split("curious", 1)[1]  # what it was before
    assert "the letter" in card(page, "Focus")
    pain = card(page, "Pain")
    assert "cold" in pain
    assert "the window does not close" in pain
    assert "numb.memory" in pain and "eased" in pain
    drives = card(page, "Drives").splitlines()
    assert drives.index("curiosity") < drives.index("company") < drives.index("rest")  # the hungriest first


def test_walk_what_did_it_just_decide(page: Page) -> None:
    decision = card(page, "Last decision")

    assert "ask about the letter" in decision
    assert "Egor" in decision
    assert RATIONALE in decision
    for agent, verdict in (("logic", "approve"), ("care", "veto"), ("taste", "unsure")):
        assert agent in decision and verdict in decision
    assert "He was tired an hour ago." in decision
    assert f"cycle {LAST_CYCLE}" in decision


def test_walk_why_did_a_cycle_fail(page: Page) -> None:
    page.locator("#errors").click()
    page.get_by_role("region", name="Errors").get_by_role("link", name=f"cycle {FAILED_CYCLE}").click()

    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {FAILED_CYCLE}")
    expect(page.locator("#cycle-outcome")).to_contain_text("1 error")
    why = page.get_by_role("region", name=f"Why cycle {FAILED_CYCLE} failed")
    expect(why).to_contain_text("retriever")
    expect(why).to_contain_text("StoreTimeoutError: no answer in 0.8 s")
    expect(why).to_contain_text(re.compile(r"in wave, at \d\.\d s"))
    expect(page.locator(".lane[data-lane='wave'] .fact")).to_have_text("✗ retriever · 4 contexts")
    expect(page.locator(".lane .fact", has_text="✗ retriever")).to_have_count(1)
    expect(why.get_by_label("Traceback")).to_be_visible()
    expect(why.get_by_label("Traceback")).to_contain_text('File "mind/store.py", line 41, in nearest')


def test_walk_why_did_a_cycle_fail_of_a_mind_that_began_again(browser: Browser, tmp_path: Path) -> None:
    """Numbers begin again with every run: what leads to a cycle leads to that of its own run."""
    story = Story(time.time())
    failed = next(event for event in story.events if event["type"] == "error")
    start = next(e for e in story.events if e["type"] == "cycle.start" and e["cycle"] == FAILED_CYCLE)
    with running(valkey_binary(), tmp_path / "valkey") as server:
        with server.client() as client:
            story.pour_into(client)
        mind = Broadcaster(settings=Settings(redis_url=server.url))
        for number in range(FAILED_CYCLE, FAILED_CYCLE + 2):
            mind.set_cycle(number, 13)
            for event_type in ("cycle.start", "sense.all", "cycle.end"):
                mind.emit(event_type, {})
        assert mind.flush(5)
        mind.close(1)
        with serving(server.url, tmp_path / "bridge.log") as bridge:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(bridge.url)
            page.get_by_role("region", name="Errors").get_by_role("link", name=f"cycle {FAILED_CYCLE}").click()
            expect(page.locator("#cycle-outcome")).to_contain_text("1 error")
            assert page.url.endswith(f"#cycle={start['place']}")
            page.get_by_role("button", name="Filter", exact=True).click()
            of_cycle = [event["type"] for event in story.events if event["cycle"] == FAILED_CYCLE]
            expect(page.locator("#filter-note")).to_contain_text(f"{len(of_cycle)} of ")
            page.get_by_role("button", name="Newest").click()
            page.keyboard.press("e")
            page.locator("#detail-facts").get_by_role("button", name=str(FAILED_CYCLE)).click()
            expect(page.locator("#cycle-outcome")).to_contain_text("1 error")
            page.goto(f"{bridge.url}#cycle={failed['place']}")  # by any of its events
            page.reload()
            expect(page.locator("#cycle-outcome")).to_contain_text("1 error")
            page.close()


# --- the cycle


def test_the_waterfall_has_every_stage_and_the_one_that_runs_grows(page: Page) -> None:
    lanes = page.locator(".lane")
    assert lanes.evaluate_all("lanes => lanes.map(lane => lane.dataset.lane)") == [
        "sense", "wave", "observe", "decide", "critics", "act", "write",
    ]  # fmt: skip
    expect(page.locator("#cycle-outcome")).to_contain_text("running")
    running = page.locator(".lane[data-lane='act'] .stage.running")
    expect(running).to_have_count(1)
    share = "bar => bar.offsetWidth / bar.parentElement.offsetWidth"
    before = running.evaluate(share)
    until(lambda: running.evaluate(share) > before)
    assert "ask → Egor" in page.locator(".lane[data-lane='act'] .fact").inner_text()


def test_cycles_are_stepped_through_and_the_newest_is_come_back_to(page: Page) -> None:
    page.keyboard.press("[")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE - 1}")
    expect(page.locator(".stage.running")).to_have_count(0)
    assert f"#cycle={page.url.rpartition('=')[2]}" in page.url
    page.keyboard.press("[")
    page.get_by_role("button", name="Newest").click()
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE}")
    assert "#cycle" not in page.url
    page.locator(".lane[data-lane='decide'] .stage").first.click()
    expect(page.locator("#detail-title")).to_have_text("decision")


# --- the list


def test_chips_count_what_is_held_and_show_only_theirs(page: Page, living: Living) -> None:
    chips = page.locator("#chips")
    expect(chips.get_by_role("button", name="critics")).to_contain_text(str(living.story.count("critic.")))
    expect(chips.get_by_role("button", name="sense")).to_contain_text(str(living.story.count("sense.")))
    chips.get_by_role("button", name="decide").click()

    expect(page.locator("#filter-note")).to_contain_text(f"{living.story.count('decision')} of ")
    until(lambda: all("→" in line for line in digests(page)))
    page.reload()
    expect(chips.get_by_role("button", name="decide")).to_have_attribute("aria-pressed", "true")
    chips.get_by_role("button", name="All").click()
    chips.get_by_role("button", name="sense").click(modifiers=["Alt"])
    total = len(living.story.events)
    expect(page.locator("#filter-note")).to_contain_text(f"{total - living.story.count('sense.')} of {total}")


def test_a_value_in_an_event_becomes_a_filter(page: Page, living: Living) -> None:
    page.fill("#filter", "agent:care")
    expect(page.locator("#filter-note")).to_contain_text("1 of")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)
    page.locator(".row:not([hidden])").click()
    page.get_by_role("button", name="Leave out agent care").click()

    expect(page.locator("#filter")).to_have_value("agent:care -agent:care")
    expect(page.get_by_text(f"0 of {len(living.story.events)} match", exact=True).first).to_be_visible()
    page.fill("#filter", "st**")
    expect(page.locator("#filter-note")).to_contain_text("is no pattern")
    page.fill("#filter", "zebra")
    page.get_by_role("button", name="Clear filter").click()
    until(lambda: len(digests(page)) > 10)
    page.fill("#filter", 'sense.* "rattles the shutters"')
    expect(page.locator("#filter-note")).to_contain_text(f"{len(range(1818, LAST_CYCLE + 1)) * 2} of")


def test_what_the_list_shows_is_downloaded_as_json_lines(page: Page, living: Living) -> None:
    page.fill("#filter", "decision")
    count = living.story.count("decision")
    expect(page.locator("#filter-note")).to_contain_text(f"{count} of ")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download what the list shows").click()
    lines = coming.value.path().read_text(encoding="utf-8").splitlines()

    assert coming.value.suggested_filename.endswith(".jsonl")
    assert ["decision"] * count == [json.loads(line)["type"] for line in lines]
    assert {"type", "ts", "cycle", "day", "data", "id", "by", "n"} == set(json.loads(lines[0]))


def test_what_is_related_to_an_event_is_its_cycle(page: Page, living: Living) -> None:
    page.fill("#filter", f"cycle:{FAILED_CYCLE} error")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)
    page.locator(".row:not([hidden])").click()
    page.get_by_role("tab", name="Related").click()

    of_cycle = [event["type"] for event in living.story.events if event["cycle"] == FAILED_CYCLE]
    expect(page.locator(".related li")).to_have_count(len(of_cycle))
    assert page.locator(".related .type").all_inner_texts() == of_cycle
    page.locator(".related button", has_text="observe").click()
    expect(page.locator("#detail-title")).to_have_text("observe")
    page.locator("#detail-link").click()
    expect(page.locator("#detail-said")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_what_is_related_to_an_event_that_is_not_held_is_asked_of_the_log(page: Page, living: Living) -> None:
    first, following = [event for event in living.story.events if event["type"] == "observe"][:2]
    page.goto("about:blank")
    hold_only(page, 5)
    page.goto(f"{living.bridge.url}#event={first['place']}")
    expect(page.locator("#detail-title")).to_have_text("observe")
    expect(page.locator("#seen")).to_have_text("5")
    page.get_by_role("tab", name="Related").click()

    of_cycle = [event["type"] for event in living.story.events if event["cycle"] == first["cycle"]]
    expect(page.locator(".related li")).to_have_count(len(of_cycle))
    assert page.locator(".related .type").all_inner_texts() == of_cycle
    assert page.locator(".related [aria-current]").count() == 1
    expect(page.get_by_role("button", name="before of this type")).to_be_disabled()
    page.get_by_role("button", name="next of this type").click()
    expect(page.locator("#detail-facts")).to_contain_text(following["place"])
    expect(page.get_by_role("heading", name=f"Cycle {following['cycle']}")).to_be_visible()


def test_where_what_is_held_ends_is_said_and_leads_into_the_past(browser: Browser, living: Living) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    hold_only(page, 60)
    page.goto(living.bridge.url)
    expect(page.locator("#seen")).to_have_text("60")
    page.keyboard.press("Home")
    lead = page.get_by_role("button", name=f"The last 60 of {len(living.story.events)}; older: Past")
    expect(lead).to_be_in_viewport()
    lead.click()
    expect(page.locator("#place")).to_contain_text("paused")
    expect(page.locator("#cycle")).to_have_text(str(living.story.events[-60]["cycle"]))
    page.close()


# --- addresses


def test_addresses_of_an_event_and_of_a_cycle_open_them(page: Page, living: Living) -> None:
    first = living.story.events[0]
    page.goto(f"{living.bridge.url}#event={first['place']}")
    expect(page.locator("#detail-title")).to_have_text("daemon.start")
    page.goto(f"{living.bridge.url}#cycle={FAILED_CYCLE}")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {FAILED_CYCLE}")
    expect(page.locator("#detail")).to_be_hidden()
    page.goto(f"{living.bridge.url}#cycle=7")
    expect(page.get_by_text("There is no cycle 7 in the log")).to_be_visible()
    page.goto(f"{living.bridge.url}#event=7-0")
    expect(page.locator("#notice")).to_contain_text("is not in the log any more")


# --- for everyone


def test_everything_is_reached_by_keys(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("error")
    expect(page.locator("#filter-note")).to_contain_text("1 of")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_have_text("error")
    page.get_by_role("tab", name="JSON").click()
    shown = json.loads(page.locator("#detail-json").inner_text())
    assert (shown["data"]["source"], shown["data"]["traceback"]) == ("retriever", TRACEBACK)
    assert {"type", "ts", "cycle", "day", "data", "id", "by", "n"} == set(shown)  # as it is on the wire
    page.keyboard.press("c")
    expect(page.locator("#detail-said")).to_have_text("JSON copied")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("E")
    expect(page.locator("#detail-title")).to_have_text("error")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog")
    expect(help_).to_contain_text("error before")
    help_.get_by_label("Letters alone are keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(help_).to_be_hidden()
    page.keyboard.press("Space")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_keys_act_on_the_list_and_not_on_what_was_pressed_before(page: Page) -> None:
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_hidden()
    page.keyboard.press("k")
    page.keyboard.press("k")
    page.keyboard.press("c")
    expect(page.locator("#notice")).to_have_text("JSON copied")
    copied = json.loads(str(page.evaluate("navigator.clipboard.readText()")))
    page.keyboard.press("y")
    expect(page.locator("#notice")).to_have_text("Link copied")
    assert str(page.evaluate("navigator.clipboard.readText()")).endswith(f"#event={copied['id']}")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_have_text(copied["type"])
    expect(page.locator("#detail-facts")).to_contain_text(copied["id"])
    expect(page.locator("#scrub")).to_be_hidden()


def test_whatever_can_be_clicked_is_reached_and_pressed_by_keys(page: Page) -> None:
    page.locator(".row:not([hidden])").last.click()
    page.locator("#detail-close").click()
    cdp: Any = page.context.new_cdp_session(page)
    found = cdp.send("Runtime.evaluate", {"expression": "[...document.querySelectorAll('main *, header *, footer *')]"})
    listed = cdp.send("Runtime.getProperties", {"objectId": found["result"]["objectId"], "ownProperties": True})
    wrong: list[str] = []
    for entry in listed["result"]:
        if not entry["name"].isdigit():
            continue
        handle = {"objectId": entry["value"]["objectId"]}
        if not any(each["type"] == "click" for each in cdp.send("DOMDebugger.getEventListeners", handle)["listeners"]):
            continue
        script = """function() {
            // One of a group has the tab stop of all; the list is moved through by its own keys.
            const group = this.closest("[data-keys]")?.querySelectorAll("button") ?? [this];
            const stops = [...group].some((each) => each.tabIndex === 0);
            return (this.matches("button, a, summary, #list") && stops) ? "" : this.outerHTML.slice(0, 200);
        }"""
        wrong.append(cdp.send("Runtime.callFunctionOn", {**handle, "functionDeclaration": script})["result"]["value"])
    assert len(wrong) > 30  # there is much to click
    assert [each for each in wrong if each] == []

    page.locator(".strip [tabindex='0']").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("#cycle-title")).to_have_text(f"Cycle {LAST_CYCLE - 1}")
    page.locator(".waterfall [tabindex='0']").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_have_text("execute")


def test_every_control_is_in_the_tab_order_and_named(page: Page) -> None:
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            str(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"))
        )
    for control in ("filter", "pause", "list", "help-button", "errors", "mind-body"):
        assert control in reached, (control, reached)


def test_axe_finds_nothing(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.locator(".row:not([hidden])").last.click()
    page.emulate_media(color_scheme="light")
    for tab in ("Fields", "JSON", "Related"):
        page.get_by_role("tab", name=tab).click()
        check(page, tab)
    page.keyboard.press("Escape")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        check(page, scheme)
    page.keyboard.press("t")
    expect(page.locator("#scrub")).to_be_visible()
    check(page, "time")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".row:not([hidden])").last.click()
    for part in ("Cycle", "Mind", "Events"):
        page.get_by_role("button", name=part, exact=True).click()
        expect(page.locator("#detail")).to_be_hidden()
        check(page, f"narrow {part}")
    page.locator("#help-button").click()
    check(page, "help")


def check(page: Page, where: str) -> None:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
            .map(({ id, nodes }) => ({ id, nodes: nodes.map(n => [n.html.slice(0, 200), n.failureSummary]) }))"""
    )
    assert found == [], (where, json.dumps(found, indent=1)[:3000])


def test_without_a_script_there_is_a_page_with_the_newest_events(browser: Browser, living: Living) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(living.bridge.url)
    page.get_by_role("link", name="/plain").click()

    expect(page.get_by_role("heading", name="The newest events")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(50)
    assert page.locator("tbody tr").first.locator("td").nth(1).inner_text() == living.story.events[-1]["type"]
    context.close()


# --- what it looks like


class Look(NamedTuple):
    width: int
    scheme: Literal["light", "dark"]


LOOKS: Final = [Look(width, scheme) for width in (1440, 900, 390) for scheme in ("light", "dark")]
GROUNDS: Final = {"light": "rgb(251, 251, 250)", "dark": "rgb(20, 22, 25)"}


def test_the_page_fits_at_every_width_in_light_and_dark(page: Page) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    for look in LOOKS:
        page.set_viewport_size({"width": look.width, "height": 844 if look.width < 760 else 900})
        page.emulate_media(color_scheme=look.scheme)
        settle(page)
        page.screenshot(path=ARTIFACTS / f"page-{look.width}-{look.scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight"), look
        assert GROUNDS[look.scheme] == page.evaluate("getComputedStyle(document.body).backgroundColor")


# --- last, since it fills the log with them


def test_hostile_texts_are_shown_and_not_obeyed_wherever_they_stand(page: Page, living: Living) -> None:
    mind = Broadcaster(settings=Settings(redis_url=living.server.url))
    mind.set_cycle(2000, 1)
    fields = [
        "old",
        "new",
        "drive",
        "type",
        "context",
        "intention",
        "target",
        "rationale",
        "agent",
        "verdict",
        "reasoning",
        "source",
        "message",
        "traceback",
        "assessment",
        "action",
        "reason",
        "satisfied_by",
    ]
    types = [
        "state.mood",
        "state.focus",
        "state.drive",
        "state.pain",
        "decision",
        "critic.evaluate",
        "observe",
        "execute",
        "window.update",
        "error",
    ]
    mind.emit("cycle.start", {})
    for text in HOSTILE:
        data: dict[str, Any] = dict.fromkeys(fields, text) | {"hunger": 0.5, "intensity": 0.5, text: [text]}
        data |= {"entered": [text], "left": [{"id": text, "desc": text}], "current": [text, {"id": 1, "desc": text}]}
        for event_type in (*types, text[:100]):
            mind.emit(event_type, data)
    assert mind.flush(5)
    mind.close(1)
    expect(page.locator("#cycle-title")).to_have_text("Cycle 2000")
    expect(page.locator("#seen")).to_have_text(str(len(living.story.events) + 11 * len(HOSTILE) + 1))
    page.locator(".row:not([hidden])").last.click()
    for tab in ("Fields", "JSON", "Related"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(150)
        text = page.locator("body").inner_text()
        assert not any((ord(c) < 32 and c not in "\n\t") or c in "\x9b\u202e\u2066\u200f" for c in text)
        assert page.locator("main img, main script").count() == 0
    page.keyboard.press("Escape")
    page.fill("#filter", "state.mood u202eevil")  # a filter reads what was sent, not what is shown
    expect(page.locator("#filter-note")).to_contain_text("0 of")
    page.fill("#filter", "state.mood 31mred")
    expect(page.locator(".row:not([hidden])")).to_have_count(1)
    page.locator(".row:not([hidden])").click()
    page.get_by_role("tab", name="JSON").click()
    assert "\\u001b[31mred\\u0007\ufffd\\x9b" in page.locator("#detail-json").inner_text()
    page.get_by_role("tab", name="Fields").click()
    assert "\\x1b[31mred\\x07\ufffd\\x9b" in page.locator("#detail").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("#mind-body")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect_state(page, "live")
