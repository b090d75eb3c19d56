"""socket.io-client 4 and 3 under Node, and 4 in Chromium: over every transport, cut, and with half an upgrade."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from playwright.async_api import Page, async_playwright

from broadcast import Broadcaster
from tests.bridges import ROOT, BridgeProcess, serving
from tests.half_upgrades import STAGES, HalfUpgrades, Stage, half_upgrades
from tests.pages import CHROMIUM_FLAGS, chromium
from tests.servers import RedisServer
from tests.test_node_client import watching

TRANSPORTS: Final = ("polling,websocket", "polling", "websocket")
OLD: Final = "socket.io-client-3"
NEW: Final = "socket.io-client"
BUNDLE: Final = ROOT / "web/node_modules/socket.io-client/dist/socket.io.js"
CUTS: Final = 3
PATIENCE_S: Final = 30
pause: Final = Random(4)
PLAIN_PAGE: Final = """transports => {
    window.got = {numbers: [], connects: [], answers: [], gaps: 0};
    window.socket = io(location.origin, {transports, reconnectionDelay: 50, reconnectionDelayMax: 200});
    socket.on("event", event => event.type === "count" && got.numbers.push(event.data.i));
    socket.on("gap", () => got.gaps++);
    socket.on("connect", () => got.connects.push(socket.recovered));
}"""


@pytest.fixture
def bridge(valkey_server: RedisServer, tmp_path: Path) -> Iterator[BridgeProcess]:
    with serving(valkey_server.url, tmp_path) as process:
        yield process


@pytest.fixture
async def proxy(bridge: BridgeProcess) -> AsyncIterator[HalfUpgrades]:
    async with half_upgrades(bridge.port) as between:
        yield between


@contextlib.asynccontextmanager
async def steady(broadcaster: Broadcaster) -> AsyncIterator[None]:
    """A counter that goes on all the time."""

    async def emit_for_ever() -> None:
        for i in count():
            broadcaster.emit("count", {"i": i})
            await asyncio.sleep(0.005)

    emission = asyncio.create_task(emit_for_ever())
    try:
        yield
    finally:
        emission.cancel()
        await asyncio.gather(emission, return_exceptions=True)


def holes(numbers: list[int]) -> list[tuple[int, int]]:
    """Where a number is not followed by the next."""
    return [pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1]


# --- under Node


@pytest.mark.parametrize("package", [OLD, NEW])
@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_client_under_node_sees_one_run_through_cuts_and_its_replay_is_acknowledged(
    proxy: HalfUpgrades, broadcaster: Broadcaster, transports: str, package: str
) -> None:
    async with watching(proxy, transports, package=package, types="count") as node, steady(broadcaster):
        await node.until_got("event", 100)
        if node.all("connect")[0] != transports.rsplit(",", maxsplit=1)[-1]:  # else it had been upgraded by then
            assert "websocket" == await node.until_got("upgrade")
        for cut in range(CUTS):
            while len(node.all("connect")) < cut + 2:  # between two polls, there is nothing to cut
                await asyncio.sleep(pause.uniform(0, 0.02))
                proxy.cut_all()
                await node.until_got("event", len(node.numbers) + 20)
            await node.until_got("event", len(node.numbers) + 100)
        assert [] == holes(node.numbers)
        assert [] == node.all("gap")
        had = len(node.numbers)
        answer = await node.ask("replay", {"count": 20})
        assert 20 == answer["count"]
        ids = [event["id"] for event in node.all("event")[had:]]
        assert {answer["first"], answer["last"]} <= set(ids)


@pytest.mark.parametrize("package", [OLD, NEW])
@pytest.mark.parametrize("stage", STAGES)
async def test_an_upgrade_that_ends_half_way_costs_a_client_under_node_nothing(
    proxy: HalfUpgrades, broadcaster: Broadcaster, stage: Stage, package: str
) -> None:
    proxy.next_stage = stage
    async with (
        steady(broadcaster),
        watching(proxy, "polling,websocket", package=package, types="count", catchup=0) as node,
    ):
        await node.until_got("event", 100)
        async with asyncio.timeout(PATIENCE_S):
            while not proxy.cuts:
                await node.until_got("event", len(node.numbers) + 1)
        await node.until_got("event", len(node.numbers) + 300)
    assert [] == holes(node.numbers)
    assert [] == node.all("gap")
    # Before its last word, the client goes on polling; behind it, it has to come back.
    # Told by its sessions: one cut on a busy machine may end before it has connected its namespace.
    assert (stage in ("probed", "upgraded")) is (len(node.all("open")) > 1)


# --- in Chromium, a page as the specification has it


@pytest.fixture
async def page(proxy: HalfUpgrades) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        page = await browser.new_page()
        await page.goto(f"{proxy.url}/healthz")  # of the bridge's own origin, and nothing on it
        await page.add_script_tag(path=BUNDLE)
        yield page
        await browser.close()


async def until(page: Page, condition: str) -> dict[str, Any]:
    """Wait until something holds of what the page has got; what it then has got."""
    await page.wait_for_function(f"() => {condition}", timeout=PATIENCE_S * 1000)
    got: dict[str, Any] = await page.evaluate("() => got")
    return got


@pytest.mark.browser
@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_page_in_chromium_sees_one_run_through_cuts_and_its_replay_is_acknowledged(
    proxy: HalfUpgrades, page: Page, broadcaster: Broadcaster, transports: str
) -> None:
    async with steady(broadcaster):
        await page.evaluate(PLAIN_PAGE, transports.split(","))
        got = await until(page, "got.numbers.length > 100")
        for cut in range(CUTS):
            if "," in transports and not cut:
                await until(page, "socket.io.engine.transport.name == 'websocket'")
            while len(got["connects"]) < cut + 2:  # between two polls, there is nothing to cut
                await asyncio.sleep(pause.uniform(0, 0.02))
                proxy.cut_all()
                got = await until(page, f"got.numbers.length > {len(got['numbers']) + 20}")
            got = await until(page, f"got.numbers.length > {len(got['numbers']) + 100}")
    assert [] == holes(got["numbers"])
    assert 0 == got["gaps"]
    assert [False, *[True] * (len(got["connects"]) - 1)] == got["connects"]
    await page.evaluate("() => socket.emit('replay', {count: 20}, answer => got.answers.push(answer))")
    got = await until(page, "got.answers.length")
    assert 20 == got["answers"][0]["count"]


@pytest.mark.browser
@pytest.mark.parametrize("stage", STAGES)
async def test_an_upgrade_that_ends_half_way_costs_a_page_in_chromium_nothing(
    proxy: HalfUpgrades, page: Page, broadcaster: Broadcaster, stage: Stage
) -> None:
    proxy.next_stage = stage
    async with steady(broadcaster):
        await page.evaluate(PLAIN_PAGE, ["polling", "websocket"])
        async with asyncio.timeout(PATIENCE_S):
            while not proxy.cuts:
                await asyncio.sleep(0.02)
        got = await until(page, "got.numbers.length")
        got = await until(page, f"got.numbers.length > {len(got['numbers']) + 300}")
    assert [] == holes(got["numbers"])
    assert 0 == got["gaps"]
