"""Who may speak to the bridge at all."""

from __future__ import annotations

from typing import Any

import pytest

from broadcast.bridge.guard import Guard, GuardPolicy

CLOSED = GuardPolicy(frozenset(), frozenset({"127.0.0.1"}))
LISTED = GuardPolicy(frozenset({"https://kai.example"}), frozenset({"bridge.internal"}))
OPEN = GuardPolicy(frozenset({"*"}))


@pytest.mark.parametrize(
    ("policy", "host", "origin", "code"),
    [
        (CLOSED, "127.0.0.1:5001", None, None),
        (CLOSED, "localhost:5001", None, None),
        (CLOSED, "LOCALHOST", None, None),
        (CLOSED, "[::1]:5001", None, None),
        (CLOSED, "192.168.1.7:5001", None, None),
        (CLOSED, "127.0.0.1:5001", "http://127.0.0.1:5001", None),
        (CLOSED, None, None, "forbidden_host"),
        (CLOSED, "", None, "forbidden_host"),
        (CLOSED, "[::1", None, "forbidden_host"),
        (CLOSED, "evil.example@127.0.0.1", None, "forbidden_host"),
        (CLOSED, "127.0.0.1/evil.example", None, "forbidden_host"),
        (CLOSED, "evil.example:5001", None, "forbidden_host"),
        (CLOSED, "evil.example:5001", "http://evil.example:5001", "forbidden_host"),
        (CLOSED, "localhost.evil.example", None, "forbidden_host"),
        (CLOSED, "127.0.0.1.evil.example", None, "forbidden_host"),
        (CLOSED, "127.0.0.1:5001", "http://127.0.0.1:5002", "forbidden_origin"),
        (CLOSED, "127.0.0.1:5001", "null", "forbidden_origin"),
        (CLOSED, "127.0.0.1:5001", "", "forbidden_origin"),
        (CLOSED, "127.0.0.1:5001", "http://[::1", "forbidden_origin"),
        (LISTED, "kai.example", "https://kai.example", None),
        (LISTED, "kai.example:5001", None, None),
        (LISTED, "bridge.internal", "https://kai.example", None),
        (LISTED, "127.0.0.1:5001", "https://kai.example", None),
        (LISTED, "127.0.0.1:5001", "http://kai.example", "forbidden_origin"),
        (LISTED, "127.0.0.1:5001", "https://kai.example.evil", "forbidden_origin"),
        (LISTED, "other.example", "https://kai.example", "forbidden_host"),
        (OPEN, "any.example", "https://other.example", None),
        (OPEN, None, "https://other.example", "forbidden_host"),
    ],
)
def test_host_and_origin_decide(policy: GuardPolicy, host: str | None, origin: str | None, code: str | None) -> None:
    refusal = policy.refusal(host=host, origin=origin)
    assert code == (refusal.name if refusal else None)


def test_over_tls_a_page_of_the_same_name_without_tls_is_another_origin() -> None:
    for origin, code in (("https://127.0.0.1:5001", None), ("http://127.0.0.1:5001", "forbidden_origin")):
        refusal = CLOSED.refusal(host="127.0.0.1:5001", origin=origin, is_secure=True)
        assert code == (refusal.name if refusal else None)
    # A proxy may end TLS without a word.
    assert CLOSED.refusal(host="127.0.0.1:5001", origin="https://127.0.0.1:5001") is None


@pytest.mark.parametrize(
    ("ends_tls", "host", "is_sent"),
    [
        (True, "mind.example", True),
        (True, "mind.example:5001", False),  # another server may have another port of that host
        (True, "localhost", False),
        (True, "127.0.0.1", False),
        (False, "mind.example", False),  # a proxy that ends TLS says it by itself
    ],
)
async def test_a_browser_is_told_to_come_by_tls_alone_where_it_is_this_servers_own(
    ends_tls: bool, host: str, is_sent: bool
) -> None:
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def note(message: Any) -> None:
        sent.append(message)

    policy = GuardPolicy(frozenset({"https://mind.example"}))
    scope = {"type": "http", "scheme": "https", "headers": [(b"host", host.encode())]}
    await Guard(app, policy, ends_tls=ends_tls)(scope, None, note)
    assert is_sent == ((b"strict-transport-security", b"max-age=31536000") in sent[0]["headers"])
