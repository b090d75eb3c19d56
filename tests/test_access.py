"""What a viewer may see: with a token, and without."""

from __future__ import annotations

import time
from typing import Any, cast

import jwt
import pytest

from broadcast.bridge.access import Access, is_loopback, issue_token
from broadcast.errors import FilterError, RequestError, SettingError
from broadcast.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"


def access(**settings: Any) -> Access:
    return Access(Settings(**settings))


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    known = {"sub": "x", "aud": "broadcast", "exp": time.time() + 60}
    kept = {k: v for k, v in {**known, **claims}.items() if v is not None}
    return cast("str", cast("Any", jwt).encode(kept, secret, algorithm=algorithm))


def test_on_this_machine_alone_everybody_reads() -> None:
    assert access().grant(None).filter.patterns == ("*",)
    assert access().grant("whatever").filter.patterns == ("*",)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "bridge.example", ""])
def test_other_machines_are_let_in_only_when_somebody_said_who_may_read(host: str) -> None:
    with pytest.raises(SettingError, match=r"BROADCAST_SECRET.*BROADCAST_ANONYMOUS"):
        access(host=host)
    assert access(host=host, anonymous="read").grant(None).filter.patterns == ("*",)
    with pytest.raises(RequestError):
        access(host=host, secret=SECRET).grant(None)


def test_without_a_token_there_is_what_anonymous_says() -> None:
    both = access(host="0.0.0.0", secret=SECRET, anonymous="sense.*")
    assert both.grant(None).filter.patterns == ("sense.*",)
    assert both.grant(issue_token(SECRET, subject="x", types=None, ttl_s=60)).filter.patterns == ("*",)
    with pytest.raises(SettingError, match="BROADCAST_ANONYMOUS"):
        access(anonymous="not a filter")


def test_a_token_says_who_and_what_and_until_when() -> None:
    grant = access(secret=SECRET).grant(issue_token(SECRET, subject="kai", types="sense.*,-sense.all", ttl_s=60))
    assert ("kai", ("sense.*", "-sense.all")) == (grant.subject, grant.filter.patterns)
    assert grant.expires_at is not None
    assert 50 < grant.expires_at - time.time() <= 60


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "unauthorized"),
        ("", "unauthorized"),
        ("a.b.c", "unauthorized"),
        (signed(SECRET[::-1]), "unauthorized"),
        (signed(algorithm="HS512", secret=SECRET * 2), "unauthorized"),
        (signed(aud="other"), "unauthorized"),
        (signed(aud=None), "unauthorized"),
        (signed(sub=None), "unauthorized"),
        (signed(exp=None), "unauthorized"),
        (signed(exp=time.time() - 1), "expired"),
        (signed(nbf=time.time() + 60), "unauthorized"),
        (signed(types=["a b"]), "unauthorized"),
        (signed(types=5), "unauthorized"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4IiwiYXVkIjoiYnJvYWRjYXN0IiwiZXhwIjo5OTk5OTk5OTk5fQ.", "unauthorized"),
    ],
)
def test_a_token_that_is_not_right_is_refused(token: str | None, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        access(secret=SECRET).grant(token)
    assert code == refused.value.code.name
    assert SECRET not in refused.value.message


def test_a_token_is_not_made_without_a_secret_or_with_what_is_no_filter() -> None:
    with pytest.raises(SettingError, match="BROADCAST_SECRET"):
        issue_token("", subject="x", types=None, ttl_s=60)
    with pytest.raises(FilterError):
        issue_token(SECRET, subject="x", types="a b", ttl_s=60)


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.com", ""]))
