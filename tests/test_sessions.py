"""Where a token may stand: a header, the handshake, for an EventSource a cookie; and never an address."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from playwright.async_api import async_playwright

from broadcast.bridge.access import issue_token
from broadcast.bridge.credentials import cleared_cookies, cookie_of, has_secret_in_address, token_of
from broadcast.errors import RequestError
from tests.bridges import BridgeProcess, emitter_to, serving
from tests.pages import CHROMIUM_FLAGS, chromium
from tests.servers import RedisServer
from tests.viewers import HANDSHAKE, raw_viewer

SECRET: Final = "0123456789abcdef0123456789abcdef"
TOKENLIKE: Final = issue_token(SECRET, subject="x", types=None, ttl_s=1)


def token_for(subject: str = "kai", types: str | None = None, ttl_s: float = 60, **more: Any) -> str:
    return issue_token(SECRET, subject=subject, types=types, ttl_s=ttl_s, **more)


@pytest.fixture(scope="module")
def bridge(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder = tmp_path_factory.mktemp("sessions")
    with serving(shared_server.url, folder, constants=None, BROADCAST_SECRET=SECRET) as process:
        yield process


async def asked(
    bridge: BridgeProcess, method: str, path: str, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(method, bridge.url + path, headers=sent) as answer,
    ):
        is_stream = answer.content_type == "text/event-stream"
        body = b"{}" if is_stream else await answer.read() or b"{}"
        return answer.status, json.loads(body), dict(answer.headers)


# --- the cookie


async def test_a_session_is_a_cookie_that_no_script_reads_and_that_ends_with_its_token(bridge: BridgeProcess) -> None:
    token = token_for(types="sense.*")
    status, told, headers = await asked(bridge, "POST", "/session", Authorization=f"Bearer {token}")
    assert (200, "kai", ["sense.*"]) == (status, told["sub"], told["types"])
    assert 50 < told["exp"] - time.time() <= 60
    name, *attributes = headers["Set-Cookie"].split("; ")
    assert f"broadcast_token={token}" == name
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(attributes)
    assert any(attribute.startswith("Max-Age=5") for attribute in attributes)
    assert 200 == (await asked(bridge, "GET", "/events", Cookie=name))[0]
    status, _, headers = await asked(bridge, "DELETE", "/session")
    assert (204, True) == (status, headers["Set-Cookie"].startswith("broadcast_token=; Max-Age=0;"))
    assert 405 == bridge.get("/session")[0]


async def test_a_token_that_no_browser_would_keep_is_refused(bridge: BridgeProcess) -> None:
    """Of a cookie that is too long it says nothing to the page."""
    token = token_for(types=",".join(f"sense.{'x' * 80}{i}.*" for i in range(50)))
    assert 4_100 < len(token) < 8_000
    assert 200 == (await asked(bridge, "GET", "/events", Authorization=f"Bearer {token}"))[0]
    status, problem, headers = await asked(bridge, "POST", "/session", Authorization=f"Bearer {token}")
    assert (413, "too_large", False) == (status, problem["code"], "Set-Cookie" in headers)


async def test_a_session_wants_a_token_in_the_header_and_a_valid_one(bridge: BridgeProcess) -> None:
    for headers, code in (
        ({}, "unauthorized"),
        ({"Authorization": "Bearer nonsense"}, "unauthorized"),
        ({"Authorization": f"Bearer {token_for(ttl_s=-1)}"}, "expired"),
        ({"Cookie": f"broadcast_token={token_for()}"}, "unauthorized"),
        ({"Authorization": f"Bearer {token_for()}", "Origin": "https://evil.example"}, "forbidden_origin"),
    ):
        status, problem, answered = await asked(bridge, "POST", "/session", **headers)
        assert (True, code, False) == (status in (401, 403), problem["code"], "Set-Cookie" in answered)
        assert ("Bearer" if status == 401 else None) == answered.get("WWW-Authenticate")


async def test_a_cookie_counts_only_where_something_is_read_and_no_other_site_asks(bridge: BridgeProcess) -> None:
    cookie = f"broadcast_token={token_for(is_admin=True, emit=True)}"
    assert 200 == (await asked(bridge, "GET", "/events", Cookie=cookie, Sec_Fetch_Site="same-origin"))[0]
    assert 401 == (await asked(bridge, "GET", "/events", Cookie=cookie, Sec_Fetch_Site="cross-site"))[0]
    assert 403 == (await asked(bridge, "GET", "/events", Cookie=cookie, Origin="https://evil.example"))[0]
    assert 401 == (await asked(bridge, "GET", "/clients", Cookie=cookie, Via="1.1 proxy"))[0]
    assert 401 == (await asked(bridge, "POST", "/events", Cookie=cookie, Content_Type="application/json"))[0]
    twice = f"{cookie}; broadcast_token={token_for()}"
    assert 401 == (await asked(bridge, "GET", "/events", Cookie=twice))[0]


def test_the_secure_name_goes_first_and_the_header_before_any_cookie() -> None:
    cookies = {"cookie": "broadcast_token=near; other=x; __Host-broadcast_token=safe"}
    assert "safe" == token_of(cookies, may_be_cookie=True, is_https=True)
    assert "near" == token_of(cookies, may_be_cookie=True, is_https=False)
    assert None is token_of(cookies, may_be_cookie=False, is_https=True)
    assert "said" == token_of({**cookies, "authorization": "bearer said"}, may_be_cookie=True, is_https=True)
    # A neighbour of the domain can plant this one, over http even.
    assert None is token_of({"cookie": "broadcast_token=planted"}, may_be_cookie=True, is_https=True)
    both = cleared_cookies(is_https=True)
    assert ["__Host-broadcast_token=; Max-Age=0", "broadcast_token=; Max-Age=0"] == [
        c.partition("; Path")[0] for c in both
    ]
    with pytest.raises(RequestError):
        token_of({"cookie": "broadcast_token=a; broadcast_token=b"}, may_be_cookie=True, is_https=False)
    secure = cookie_of("t", max_age_s=7, is_https=True)
    assert secure.startswith("__Host-broadcast_token=t; Max-Age=7; Path=/;") and secure.endswith("; Secure")


async def test_where_every_page_may_connect_there_are_no_cookies(valkey_server: RedisServer, tmp_path: Path) -> None:
    more = {"BROADCAST_SECRET": SECRET, "BROADCAST_ORIGINS": "*", "BROADCAST_TRUSTED_PROXIES": "127.0.0.1"}
    with serving(valkey_server.url, tmp_path, constants=None, **more) as bridge:
        bearer = f"Bearer {token_for()}"
        status, problem, headers = await asked(bridge, "POST", "/session", Authorization=bearer)
        assert (403, "forbidden", False) == (status, problem["code"], "Set-Cookie" in headers)
        assert 401 == (await asked(bridge, "GET", "/events", Cookie=f"broadcast_token={token_for()}"))[0]
        _, _, headers = await asked(bridge, "GET", "/events", Authorization=bearer, Origin="https://any.example")
        assert ("*", None) == (
            headers["Access-Control-Allow-Origin"],
            headers.get("Access-Control-Allow-Credentials"),
        )


async def test_behind_https_the_cookie_is_for_https_alone_and_a_listed_page_may_send_it(
    valkey_server: RedisServer, tmp_path: Path
) -> None:
    page = "https://mind.example"
    more = {"BROADCAST_SECRET": SECRET, "BROADCAST_ORIGINS": page, "BROADCAST_TRUSTED_PROXIES": "127.0.0.1"}
    with serving(valkey_server.url, tmp_path, constants=None, **more) as bridge:
        proxied = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https", "Origin": page}
        _, _, headers = await asked(bridge, "POST", "/session", Authorization=f"Bearer {token_for()}", **proxied)
        assert headers["Set-Cookie"].startswith("__Host-broadcast_token=")
        assert headers["Set-Cookie"].endswith("Secure")
        assert (page, "true") == (
            headers["Access-Control-Allow-Origin"],
            headers["Access-Control-Allow-Credentials"],
        )
        async with raw_viewer(bridge.url, "websocket", token=token_for()) as viewer:
            await viewer.until("position")
            assert ["127.0.0.1 (proxy)"] == [client["address"] for client in bridge.clients()["clients"]]


# --- never in an address


@pytest.mark.parametrize(
    "path",
    [
        "/events?token=x",
        "/events?types=a&access_token=x",
        "/?TOKEN=x",
        "/nothing?%74oken=x",
        f"{HANDSHAKE}polling&token=x",
    ],
)
async def test_a_token_in_an_address_is_refused_with_a_word_of_where_it_belongs(
    bridge: BridgeProcess, path: str
) -> None:
    status, body = bridge.get(path, {"Authorization": f"Bearer {token_for()}"})
    assert (400, True) == (status, "never in an address" in body)


async def test_nor_does_a_websocket_begin_with_one(bridge: BridgeProcess) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{bridge.url}{HANDSHAKE}websocket&token=x")
        assert 400 == refused.value.status
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{bridge.url}{HANDSHAKE}websocket&auth={token_for()}")
        assert 400 == refused.value.status
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:  # a field that stands twice hides nothing
            await session.ws_connect(f"{bridge.url}{HANDSHAKE}websocket&x={token_for()}&x=1")
    assert 400 == refused.value.status


def test_other_words_are_no_tokens() -> None:
    harmless = ["", "types=token.*", "types=a&since=5m", "tokens=1", "%zz", "a=token", "types=eyJ.a.b"]
    assert not any(has_secret_in_address(query) for query in harmless)
    assert all(has_secret_in_address(query) for query in ["token", "token=", "a=b&Access_Token=x", "jwt=x", "%6Awt=x"])
    assert has_secret_in_address(b"token=x")
    assert has_secret_in_address("a=b&Bearer=x") and has_secret_in_address("authorization=x")
    for name in ("auth", "key", "Authorization", "x"):  # what looks like one is one, under any name
        assert has_secret_in_address(f"types=a&{name}={token_for()}")
    assert has_secret_in_address(f"a=Bearer+{token_for()}")
    for hidden in (
        f"t={TOKENLIKE}",
        f"since={TOKENLIKE}x",
        f"q=Bearer+{TOKENLIKE}",
        f"t={TOKENLIKE.replace('.', '%2E')}",
    ):
        assert has_secret_in_address(hidden), hidden
    assert not has_secret_in_address("cursor=eyJhIjoxfQ&q=eyJ.")


# --- who comes through a proxy while nobody has said who may read


def test_without_a_secret_nobody_comes_through_a_proxy_until_somebody_says_who_may_read(
    valkey_server: RedisServer, tmp_path: Path
) -> None:
    with serving(valkey_server.url, tmp_path) as bridge:
        assert 200 == bridge.get("/clients")[0]
        for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
            for path in ("/", "/events", "/clients", "/session", f"{HANDSHAKE}polling"):
                status, body = bridge.get(path, {header: "203.0.113.9"})
                assert (403, True) == (status, "BROADCAST_ANONYMOUS" in body), (header, path)
        bridge.environment["BROADCAST_ANONYMOUS"] = "read"
        bridge.restart()
        assert 200 == bridge.get("/", {"X-Forwarded-For": "203.0.113.9"})[0]


# --- a real browser


@pytest.mark.browser
async def test_a_real_event_source_reads_with_the_cookie_of_its_session_and_the_client_renews_its_token(
    bridge: BridgeProcess, valkey_server: RedisServer
) -> None:
    emitter = emitter_to(valkey_server.url)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        page = await browser.new_page()
        await page.goto(f"{bridge.url}/healthz")
        refused = await page.evaluate(
            "() => new Promise(done => { const s = new EventSource('/events'); s.onerror = () => done(s.readyState); })"
        )
        status = await page.evaluate(
            "token => fetch('/session', {method: 'POST', headers: {Authorization: `Bearer ${token}`}})"
            ".then(answer => answer.status)",
            token_for(types="sense.*"),
        )
        await page.evaluate(
            "() => { window.had = []; window.source = new EventSource('/events?catchup=0');"
            " source.onmessage = message => had.push(JSON.parse(message.data).type);"
            " return new Promise(done => source.addEventListener('position', done)); }"
        )
        for event_type in ("state.mood", "sense.light"):
            emitter.emit(event_type, {})
        await page.wait_for_function("had.length > 0")
        had, script_sees = await page.evaluate("had"), await page.evaluate("document.cookie")
        renewed = await page.evaluate(
            "async tokens => { const { connect } = await import('/client.js'); const types = [];"
            " const mind = connect(location.origin, { token: () => tokens.shift(), catchup: 10,"
            " onEvent: event => types.push(event.type) });"
            " const seen = type => new Promise(done => { const look = () =>"
            " types.includes(type) ? done() : setTimeout(look, 20); look(); });"
            " await seen('sense.light'); await mind.renew();"
            " const refused = await mind.renew().catch(error => error.message);"
            " mind.close(); return [types, refused.split(':')[0]]; }",
            [token_for(types="sense.*"), token_for(types="state.*"), "nonsense"],
        )
        await page.evaluate("source.close(), fetch('/session', {method: 'DELETE'}).then(r => r.status)")
        await asyncio.sleep(0)
        cookies = await page.context.cookies()
        await browser.close()
    emitter.close(2)
    assert (2, 200, ["sense.light"], "", []) == (refused, status, had, script_sees, cookies)
    assert [["sense.light"], "unauthorized"] == renewed
