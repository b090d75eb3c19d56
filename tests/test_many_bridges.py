"""Three bridges on one log behind a real nginx on `deploy/nginx.conf`: viewers go to any, and move between them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import aiohttp
import pytest

from broadcast.bridge.engine.session import Limits
from broadcast.bridge.sse import HEARTBEAT_S
from broadcast.settings import VARIABLES
from tests.bridges import IGNORE_CLIENT, PATIENCE_S, BridgeProcess, Client, EventStream
from tests.proxies import CONFIG, MISSING, NAMES, Cluster, cluster, nginx_binary
from tests.servers import running, valkey_binary
from tests.test_node_client import NodeClient, watching
from tests.test_recovery import page
from tests.test_restarts import TRANSPORTS, Emission, ResumingViewer

LOG_EVENTS_MAX: Final = 9_000
"""Above this the log is trimmed, and whoever begins at its beginning gets a gap."""
UNKNOWN: Final = (400, {"code": 1, "message": "Session ID unknown"})

pytestmark = [IGNORE_CLIENT, pytest.mark.skipif(nginx_binary() is None, reason=MISSING)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("many")
    with running(valkey_binary(), folder / "valkey") as server, cluster(server, folder) as bridges:
        yield bridges


@pytest.fixture(scope="module")
def counter(many: Cluster) -> Iterator[Emission]:
    """Goes on counting from test to test: in the log stands 0, 1, 2, …"""
    emission = Emission(many.server.url)
    yield emission
    emission.close()
    assert emission.count < LOG_EVENTS_MAX


@contextlib.asynccontextmanager
async def counting(counter: Emission) -> AsyncIterator[None]:
    """Numbers are emitted meanwhile."""
    counter.is_over = False
    task = asyncio.create_task(counter.run())
    try:
        yield
    finally:
        counter.is_over = True
        await task


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["i"] for event in events if "i" in event["data"]]


def counted(node: NodeClient) -> list[int]:
    """A page without filter gets more than the numbers."""
    return numbers([event for event in node.all("event") if event["type"] == "count"])


def assert_one_run(seen: list[int]) -> None:
    """Nothing is missing, nothing comes twice, nothing overtakes anything."""
    assert seen
    assert list(range(seen[0], seen[0] + len(seen))) == seen


def viewers_by_bridge(many: Cluster) -> dict[str, list[dict[str, Any]]]:
    return {name: many.viewers_of(name) for name in NAMES}


class Newcomers:
    """Who is connected, except those who were here before: a page that was killed between two polls stays a while."""

    def __init__(self, many: Cluster) -> None:
        self._many = many
        self._before = [viewer["id"] for viewers in viewers_by_bridge(many).values() for viewer in viewers]

    async def until(self, count: int) -> dict[str, list[dict[str, Any]]]:
        """Wait until there are so many; by bridge."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                all_of = await asyncio.to_thread(viewers_by_bridge, self._many)
                found = {name: [each for each in all_of[name] if each["id"] not in self._before] for name in NAMES}
                if count == sum(map(len, found.values())):
                    return found
                await asyncio.sleep(0.05)


# --- through nginx


async def test_each_transport_sees_one_run_whichever_bridge_it_came_to(many: Cluster, counter: Emission) -> None:
    newcomers = Newcomers(many)
    async with counting(counter), contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []

        async def come(transports: list[str]) -> dict[str, list[dict[str, Any]]]:
            client = Client(many.url, transports, types="count", catchup=0)
            clients.append(await stack.enter_async_context(client))
            return await newcomers.until(len(clients))

        # Where a poll goes matters for every bridge, and each comes to one as it happens.
        found = await come(["polling"])
        while not all(found.values()):
            assert len(clients) < 12
            found = await come(["polling"])
        polling = len(clients)
        for transports in (*TRANSPORTS, *TRANSPORTS[::2]):
            await come(transports)
        stream = await stack.enter_async_context(EventStream(many.url, path="/events?types=count&catchup=0"))
        streamed = await stream.messages(60)
        for client in clients:
            await client.until_got("event", 60)
        found = await newcomers.until(len(clients) + 1)
    kinds = [viewer["transport"] for viewers in found.values() for viewer in viewers]
    assert (polling + 1, 4, 1) == tuple(map(kinds.count, ("polling", "websocket", "sse")))
    for client in clients:
        assert_one_run(numbers(client.events))
        assert [] == client.all("gap")
    assert_one_run(numbers(streamed))


async def test_an_event_is_not_held_back_on_its_way_to_a_stream(many: Cluster, counter: Emission) -> None:
    async with EventStream(many.url, path="/events?types=single&catchup=0") as stream:
        assert ("1.1", "text/event-stream") == (
            ".".join(map(str, stream.response.version or ())),
            stream.response.content_type,
        )
        while (frame := await stream.next()) is not None and frame["event"] != "position":
            pass
        for i in range(3):
            counter._emitter.emit("single", {"i": i})
            assert [i] == numbers(await stream.messages(1))


async def test_who_comes_through_nginx_is_not_taken_for_this_machine(many: Cluster) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{many.url}/clients") as answer:
        assert (403, "forbidden") == (answer.status, (await answer.json())["code"])
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/client.js", "/healthz", "/readyz"):
            async with session.get(many.url + path) as answer:
                assert 200 == answer.status
        # What producers may post comes through nginx; that they need a token is the bridge's to say.
        async with session.post(f"{many.url}/events", data=io.BytesIO(b" " * 100_000)) as answer:
            assert 401 == answer.status


def test_the_configuration_names_settings_that_exist_and_waits_longer_than_silence_lasts() -> None:
    text = CONFIG.read_text()
    assert set(re.findall(r"BROADCAST_\w+", text)) <= set(VARIABLES)
    limits = Limits()
    silence_s = max(limits.ping_interval_s + limits.ping_timeout_s, HEARTBEAT_S)
    for directive in ("proxy_read_timeout", "proxy_send_timeout"):
        (value,) = re.findall(rf"{directive} (\d+)s;", text)
        assert int(value) > silence_s


# --- from one bridge to another


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_viewer_that_moves_by_since_sees_no_gap_and_no_double(
    many: Cluster, counter: Emission, transports: list[str]
) -> None:
    seen: list[int] = []
    place: dict[str, Any] = {"catchup": 0}
    async with counting(counter):
        for name in ("b5001", "b5002", "b5003", "b5001"):
            async with Client(many.bridges[name].url, transports, types="count", **place) as client:
                await client.until_got("event", 30)
            seen += numbers(client.events)
            assert [] == client.all("gap")
            last, epoch = client.events[-1], client.all("hello")[0]["epoch"]
            place = {"since": {"id": last["id"], "n": last["n"], "epoch": epoch}}
    assert_one_run(seen)


async def test_a_viewer_that_moves_by_recovery_sees_no_gap_and_no_double(many: Cluster, counter: Emission) -> None:
    seen: list[int] = []
    kept: dict[str, Any] = {"catchup": 0}
    async with counting(counter):
        for name in ("b5003", "b5002", "b5001", "b5003"):
            async with Client(many.bridges[name].url, types="count", recovery=True, **kept) as client:
                await client.until_got("event", 30)
            seen += numbers(client.events)
            assert [] == client.all("gap")
            kept = {"pid": client.all("hello")[0]["epoch"], "offset": client.events[-1]["id"]}
    assert_one_run(seen)


@pytest.mark.parametrize("transports", ["polling", "polling,websocket"])
async def test_a_plain_page_goes_on_at_another_bridge_when_its_own_is_killed(
    many: Cluster, counter: Emission, transports: str
) -> None:
    newcomers = Newcomers(many)
    async with counting(counter), page(many.url, transports) as plain:
        await plain.until_got("event", 60)
        (name,) = (name for name, viewers in (await newcomers.until(1)).items() if viewers)
        try:
            await asyncio.to_thread(many.bridges[name].stop, signal.SIGKILL)
            await plain.until_got("connect", 2)
            await until_number(plain, counter.count)
            moved = await newcomers.until(1)
        finally:
            await asyncio.to_thread(many.bridges[name].start)
    assert [] == moved[name]
    assert_one_run(counted(plain))
    assert [] == plain.all("gap")
    assert all(connect["recovered"] for connect in plain.all("connect")[1:])


async def until_number(node: NodeClient, number: int) -> None:
    """Wait until it has seen that number."""
    assert node.process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while line := await node.process.stdout.readline():
            name, data = json.loads(line)
            node.got.append((name, data))
            if name == "event" and data["type"] == "count" and data["data"]["i"] >= number:
                return
    raise AssertionError(f"it ended; got {node.got[-5:]}")


# --- sessions whose bridge is gone


async def test_a_session_whose_bridge_is_gone_is_told_so_by_another(many: Cluster, counter: Emission) -> None:
    gone = many.bridges["b5001"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        sid = await _begun(session, gone)
        query = f"{many.url}/socket.io/?EIO=4&transport=polling&sid={sid}"
        # As long as it is there, nginx finds it again and again.
        await _conversed(session, query, '40{"catchup":0,"types":"nothing"}', '"position"')
        for _ in range(5):
            await _conversed(session, query, '420["replay",{"count":1}]', "430[")
        waiting = asyncio.create_task(_asked(session, "GET", query))
        try:
            assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
            await asyncio.to_thread(gone.stop, signal.SIGKILL)
            assert UNKNOWN == await waiting
            assert UNKNOWN == await _asked(session, "GET", query)
            assert UNKNOWN == await _asked(session, "POST", query)
            with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
                await session.ws_connect(query.replace("polling", "websocket"))
            assert UNKNOWN == await _asked(session, "GET", query.replace("sid=a-", "sid=z-"))
            assert {"b5002", "b5003"} == {(await _begun(session, many)).partition("-")[0] for _ in range(6)}
        finally:
            await asyncio.to_thread(gone.start)
        assert UNKNOWN == await _asked(session, "GET", query)  # and by the next one of the same name


async def _begun(session: aiohttp.ClientSession, at: BridgeProcess | Cluster) -> str:
    async with session.get(f"{at.url}/socket.io/?EIO=4&transport=polling") as answer:
        return str(json.loads((await answer.text())[1:])["sid"])


async def _conversed(session: aiohttp.ClientSession, address: str, message: str, until: str) -> None:
    async with session.post(address, data=message) as answer:
        assert "ok" == await answer.text()
    text = ""
    while until not in text:
        async with session.get(address) as answer:
            assert 200 == answer.status
            text += await answer.text()


async def _asked(session: aiohttp.ClientSession, method: str, address: str) -> tuple[int, Any]:
    async with session.request(method, address) as answer:
        return answer.status, json.loads(await answer.text())


# --- all of them, one after the other


class ResumingStream:
    """An event stream that comes back with the last id it had, as an EventSource does, until it has all."""

    def __init__(self, many: Cluster, counter: Emission) -> None:
        self.address = many.url
        self.counter = counter
        self.seen: list[int] = []
        self.connects = 0
        self.gaps = 0

    @property
    def has_all(self) -> bool:
        return self.counter.is_over and len(self.seen) >= self.counter.count

    async def run(self) -> None:
        place: dict[str, str] = {}
        while not self.has_all:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with EventStream(self.address, path="/events?types=count&since=0", headers=place) as stream:
                    self.connects += stream.response.status == 200
                    while not self.has_all and (frame := await stream.next()) is not None:
                        place = {"Last-Event-ID": frame["id"]} if frame["id"] else place
                        self.gaps += frame["event"] == "gap"
                        if frame["event"] == "message":
                            self.seen.append(frame["data"]["data"]["i"])
            await asyncio.sleep(0.05)


async def test_a_rolling_restart_of_all_bridges_under_load_costs_nobody_an_event(
    many: Cluster, counter: Emission
) -> None:
    viewers: list[ResumingViewer | ResumingStream] = []
    viewers += [ResumingViewer(many, transports, counter) for transports in TRANSPORTS for _ in range(2)]
    viewers += [ResumingStream(many, counter) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(2 * PATIENCE_S):
        emission = await stack.enter_async_context(contextlib.AsyncExitStack())
        await emission.enter_async_context(counting(counter))
        pages = [await stack.enter_async_context(page(many.url, each)) for each in ("polling", "polling,websocket")]
        pages.append(await stack.enter_async_context(watching(many, "polling,websocket", types="count")))
        for each in pages:
            await each.until_got("event", 50)
        runs = [asyncio.create_task(viewer.run()) for viewer in viewers]
        for run in runs:
            stack.callback(run.cancel)
        while not all(viewer.seen[-1:] > [counter.count - 50] for viewer in viewers):
            await asyncio.sleep(0.02)
        connects = [viewer.connects for viewer in viewers]

        await asyncio.to_thread(many.restart_one_after_the_other)

        await emission.aclose()
        await asyncio.gather(*runs)
        for each in pages:
            await until_number(each, counter.count - 1)
    for before, viewer in zip(connects, viewers, strict=True):
        assert list(range(counter.count)) == viewer.seen
        assert not viewer.gaps
        assert viewer.connects > before
    for each in pages:
        assert_one_run(counted(each))
        assert [] == each.all("gap")
        assert len(each.all("connect")) > 1
    assert {"shutdown"} == {bye["code"] for bye in pages[-1].all("bye")}
