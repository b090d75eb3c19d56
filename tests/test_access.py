"""Who may read what: by token, or without one."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any, cast

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.access import Access, is_loopback, issue_token
from broadcast.bridge.tokens import LEEWAY_S, TOKEN_CHARS_MAX
from broadcast.errors import FilterError, RequestError, SettingError
from broadcast.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"
NEXT_SECRET = "fedcba9876543210fedcba9876543210"


def access(**settings: Any) -> Access:
    return Access(Settings(**settings))


def signed(secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    known = {"sub": "x", "aud": "broadcast", "exp": time.time() + 86_400}
    kept = {k: v for k, v in {**known, **claims}.items() if v is not None}
    return cast("str", cast("Any", jwt).encode(kept, secret, algorithm=algorithm, headers=headers))


def raw(header: str, payload: str, *, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token of any text at all, signed as it should be."""
    head, body = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, payload))
    signature = hmac.new(secret.encode(), head + b"." + body, digest).digest()
    return b".".join([head, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


HEADER = '{"alg":"HS256","typ":"JWT"}'
GOOD = '"sub":"x","aud":"broadcast","exp":9999999999'


def test_on_this_machine_alone_everybody_reads() -> None:
    assert access().grant(None).filter.patterns == ("*",)
    assert access().grant("whatever").filter.patterns == ("*",)
    assert not access().grant(None).may_emit


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
    for nothing in ("not a filter", ",", " "):
        with pytest.raises(SettingError, match="BROADCAST_ANONYMOUS"):
            access(anonymous=nothing)


def test_a_token_says_who_and_what_and_until_when() -> None:
    token = issue_token(
        SECRET,
        subject="kai",
        types="sense.*,-sense.all",
        ttl_s=60,
        is_admin=True,
        emit="tool.*",
        replay={"back": "1h", "count": 500},
    )
    grant = access(secret=SECRET).grant(token)
    assert ("kai", ("sense.*", "-sense.all"), True) == (grant.subject, grant.filter.patterns, grant.is_admin)
    assert (3600.0, 500) == (grant.replay_back_s, grant.replay_count_max)
    assert grant.emits is not None and ("tool.*",) == grant.emits.patterns
    assert grant.expires_at is not None
    assert 50 < grant.expires_at - time.time() <= 60


def test_every_token_has_an_identity_of_its_own() -> None:
    grants = [access(secret=SECRET).grant(issue_token(SECRET, subject="x", types=None, ttl_s=60)) for _ in range(2)]
    foreign = [access(secret=SECRET).grant(signed(sub=sub)) for sub in ("x", "y")]
    assert 4 == len({grant.token_id for grant in grants + foreign})
    assert not any(str(grant.token_id).startswith("-") for grant in grants)
    assert "given" == access(secret=SECRET).grant(signed(jti="given")).token_id


def test_no_identity_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["-a", "--b", "c"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: next(made))
    assert "c" == access(secret=SECRET).grant(issue_token(SECRET, subject="x", types=None, ttl_s=60)).token_id


def test_emit_true_is_every_type_but_what_the_package_itself_says() -> None:
    emits = access(secret=SECRET).grant(signed(emit=True)).emits
    assert emits is not None and emits.matches("sense.x") and not emits.matches("broadcast.lost")
    assert access(secret=SECRET).grant(signed(emit=False)).emits is None
    assert access(secret=SECRET).grant(signed()).emits is None


@pytest.mark.parametrize("emit", ["*", ["-sense.x"], ["*", "-sense.x"], ["tool.*", "*"]])
def test_nor_does_any_other_pattern_allow_it_that_does_not_name_it(emit: str | list[str]) -> None:
    emits = access(secret=SECRET).grant(signed(emit=emit)).emits
    assert emits is not None and emits.matches("a.b") and not emits.matches("broadcast.lost")


def test_but_who_names_it_gets_it() -> None:
    emits = access(secret=SECRET).grant(signed(emit=["broadcast.import", "tool.*"])).emits
    assert emits is not None and emits.matches("broadcast.import") and not emits.matches("broadcast.lost")
    for emit in (["*", "broadcast.import"], "*, broadcast.import", ["*", "broadcast.*", "-broadcast.lost"]):
        emits = access(secret=SECRET).grant(signed(emit=emit)).emits
        assert emits is not None and emits.matches("broadcast.import") and emits.matches("sense.x"), emit
        assert not emits.matches("broadcast.lost"), emit
    issued = issue_token(SECRET, subject="x", types=None, ttl_s=60, emit="*,broadcast.import")
    emits = access(secret=SECRET).grant(issued).emits
    assert emits is not None and emits.matches("broadcast.import") and not emits.matches("broadcast.lost")
    many = access(secret=SECRET).grant(signed(emit=[f"a{i}.*" for i in range(64)])).emits
    assert many is not None and many.matches("a63.x") and not many.matches("broadcast.lost")


def test_two_secrets_are_valid_while_one_takes_the_place_of_another() -> None:
    old = issue_token(SECRET, subject="old", types=None, ttl_s=60)
    new = issue_token(NEXT_SECRET, subject="new", types=None, ttl_s=60)
    both = access(secret=NEXT_SECRET, secret_previous=SECRET)
    assert ["old", "new"] == [both.grant(token).subject for token in (old, new)]
    with pytest.raises(RequestError):
        access(secret=NEXT_SECRET).grant(old)
    with pytest.raises(RequestError):
        access(secret_previous=SECRET).grant(None)
    with pytest.raises(RequestError):
        both.grant(issue_token("x" * 32, subject="other", types=None, ttl_s=60))


def test_a_revoked_token_is_refused_with_a_code_of_its_own() -> None:
    revoked = Access(Settings(secret=SECRET), {"gone"}.__contains__)
    with pytest.raises(RequestError) as refused:
        revoked.grant(signed(jti="gone"))
    assert "revoked" == refused.value.code.name
    assert revoked.grant(signed(jti="here")).token_id == "here"


def test_a_revoked_token_is_not_valid_again_in_another_spelling() -> None:
    """Libraries forgive padding, and some the last two bits of a signature, which mean nothing."""
    token = signed()
    gone = access(secret=SECRET).grant(token).token_id
    revoked = Access(Settings(secret=SECRET), {gone}.__contains__)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token[:-1] + alphabet[alphabet.index(token[-1]) ^ bits] for bits in range(4)]
    for spelling in [*spellings, token + "=", token + "=="]:
        with pytest.raises(RequestError) as refused:
            revoked.grant(spelling)
        assert refused.value.code.name in ("revoked", "unauthorized")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "unauthorized"),
        ("", "unauthorized"),
        ("a.b.c", "unauthorized"),
        ("é.é.é", "unauthorized"),
        (signed() + "=", "unauthorized"),
        (signed() + "\ud800", "unauthorized"),
        (signed(SECRET[::-1]), "unauthorized"),
        (signed(aud="other"), "unauthorized"),
        (signed(aud=None), "unauthorized"),
        (signed(aud=["other"]), "unauthorized"),
        (signed(exp=None), "unauthorized"),
        (signed(exp=time.time() - 1), "expired"),
        (signed(nbf=time.time() + 86_000), "unauthorized"),
        (signed(iat=time.time() + 86_000), "unauthorized"),
        (signed(types=["a b"]), "unauthorized"),
        (signed(types=5), "unauthorized"),
        (signed(types={"a": 1}), "unauthorized"),
        (signed(types=["a"] * 65), "unauthorized"),
        # An empty claim is a variable that was not set; only a claim that is not there means all.
        (signed(types=[]), "unauthorized"),
        (signed(types=""), "unauthorized"),
        (signed(types=" , "), "unauthorized"),
        (signed(emit=[]), "unauthorized"),
        (signed(emit=""), "unauthorized"),
        (signed(replay={}), "unauthorized"),
        (signed(replay={"back": None}), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"types":null}}'), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"replay":null}}'), "unauthorized"),
        (signed(admin="true"), "unauthorized"),
        (signed(emit=1), "unauthorized"),
        (signed(emit=["a b"]), "unauthorized"),
        (signed(replay="1h"), "unauthorized"),
        (signed(replay={"back": 3600}), "unauthorized"),
        (signed(replay={"back": "soon"}), "unauthorized"),
        (signed(replay={"count": -1}), "unauthorized"),
        (signed(replay={"count": True}), "unauthorized"),
        (signed(replay={"since": "1h"}), "unauthorized"),
        # Another kind of token under the same name.
        (raw('{"alg":"none"}', f"{{{GOOD}}}").rpartition(".")[0] + ".", "unauthorized"),
        (raw('{"alg":"None"}', f"{{{GOOD}}}"), "unauthorized"),
        (raw('{"typ":"JWT"}', f"{{{GOOD}}}"), "unauthorized"),
        (raw('{"alg":"RS256"}', f"{{{GOOD}}}"), "unauthorized"),
        (signed(algorithm="HS512", secret=SECRET * 2), "unauthorized"),
        (raw('{"alg":"HS512"}', f"{{{GOOD}}}", digest="sha512"), "unauthorized"),
        (raw('{"alg":["HS256"]}', f"{{{GOOD}}}"), "unauthorized"),
        # A header that demands something, or says the same thing twice.
        (raw('{"alg":"HS256","crit":["b64"],"b64":false}', f"{{{GOOD}}}"), "unauthorized"),
        (raw('{"alg":"HS256","crit":[]}', f"{{{GOOD}}}"), "unauthorized"),
        (raw('{"alg":"none","alg":"HS256"}', f"{{{GOOD}}}"), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"sub":"y"}}'), "unauthorized"),
        (raw(HEADER, f'{{"exp":1,{GOOD}}}'), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"replay":{{"count":1,"count":9}}}}'), "unauthorized"),
        # Claims of another kind.
        (raw(HEADER, '{"sub":7,"aud":"broadcast","exp":9999999999}'), "unauthorized"),
        (raw(HEADER, '{"sub":"","aud":"broadcast","exp":9999999999}'), "unauthorized"),
        (raw(HEADER, '{"sub":"a\\nb","aud":"broadcast","exp":9999999999}'), "unauthorized"),
        (raw(HEADER, '{"sub":["x"],"aud":"broadcast","exp":9999999999}'), "unauthorized"),
        (raw(HEADER, '{"aud":"broadcast","exp":9999999999}'), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"jti":7}}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":"9999999999"}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":true}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":1e400}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":NaN}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":Infinity}'), "unauthorized"),
        (raw(HEADER, '{"sub":"x","aud":"broadcast","exp":-1}'), "unauthorized"),
        (raw(HEADER, f"[{'[' * 5000}{']' * 5000}]"[:6000]), "unauthorized"),
        (raw(HEADER, '["sub"]'), "unauthorized"),
        (raw(HEADER, f'{{{GOOD},"more":"{"x" * TOKEN_CHARS_MAX}"}}'), "unauthorized"),
    ],
)
def test_a_token_that_is_not_right_is_refused(token: str | None, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        access(secret=SECRET).grant(token)
    assert code == refused.value.code.name
    assert SECRET not in refused.value.message
    assert not token or len(token) < 20 or token not in refused.value.message


def test_a_token_signed_with_a_public_key_as_if_that_were_a_secret_is_refused() -> None:
    """HS/RS confusion: whoever verifies by what the header says takes the key that everybody knows."""
    public_key = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK\n-----END PUBLIC KEY-----\n"
    with pytest.raises(RequestError) as refused:
        access(secret=SECRET).grant(raw(HEADER, f"{{{GOOD}}}", secret=public_key))
    assert "unauthorized" == refused.value.code.name


def test_a_clock_that_is_a_little_ahead_is_forgiven_where_a_token_begins_and_not_where_it_ends() -> None:
    assert access(secret=SECRET).grant(signed(nbf=time.time() + LEEWAY_S - 2, iat=time.time() + 1)).subject == "x"
    with pytest.raises(RequestError):
        access(secret=SECRET).grant(signed(nbf=time.time() + LEEWAY_S + 5))
    with pytest.raises(RequestError):
        access(secret=SECRET).grant(signed(exp=time.time() - 0.1))


TOKEN = issue_token(SECRET, subject="x", types="sense.*", ttl_s=3600, replay={"count": 3})


@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=127))
def test_no_other_token_is_made_by_changing_one_character(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    try:
        grant = access(secret=SECRET).grant(changed)
    except RequestError as error:
        assert error.code.name in ("unauthorized", "expired")
    else:  # the same one: the last bits of base64 mean nothing
        assert ("x", ("sense.*",), 3) == (grant.subject, grant.filter.patterns, grant.replay_count_max)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()), st.text(), st.text())
def test_any_text_at_all_is_refused(header: str, payload: str, signature: str) -> None:
    for token in (header, f"{header}.{payload}.{signature}", raw(header, payload)):
        with pytest.raises(RequestError):
            access(secret=SECRET).grant(token)


CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "aud", "exp", "nbf", "jti", "types", "replay", "emit", "admin"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just("broadcast"),
)


@given(CLAIMS)
def test_whatever_is_signed_is_either_a_grant_or_refused(claims: dict[str, Any]) -> None:
    token = raw(HEADER, json.dumps({"sub": "x", "aud": "broadcast", "exp": 9_999_999_999, **claims}))
    try:
        grant = access(secret=SECRET).grant(token)
    except RequestError as error:
        assert error.code.name in ("unauthorized", "expired")
    else:
        assert grant.expires_at is not None and grant.expires_at > time.time()
        assert claims.get("aud", "broadcast") in ("broadcast", ["broadcast"])
        assert grant.is_admin is (claims.get("admin") is True)


def test_a_token_is_not_made_without_a_secret_or_with_what_would_be_refused() -> None:
    with pytest.raises(SettingError, match="BROADCAST_SECRET"):
        issue_token("", subject="x", types=None, ttl_s=60)
    for types in ("a b", "", ","):
        with pytest.raises(FilterError, match="types"):
            issue_token(SECRET, subject="x", types=types, ttl_s=60)
    with pytest.raises(FilterError, match="emit: expected at least one"):
        issue_token(SECRET, subject="x", types=None, ttl_s=60, emit="")
    with pytest.raises(RequestError, match=r"replay\.back"):
        issue_token(SECRET, subject="x", types=None, ttl_s=60, replay={"back": "soon"})
    with pytest.raises(RequestError, match="sub"):
        issue_token(SECRET, subject="", types=None, ttl_s=60)


def test_a_secret_that_is_too_short_is_refused_and_not_shown() -> None:
    for name in ("secret", "secret_previous"):
        with pytest.raises(SettingError, match="at least 32 bytes") as refused:
            Settings().with_changes(**{name: "hunter2"})
        assert "hunter2" not in str(refused.value)
    assert SECRET not in repr(Settings(secret=SECRET, secret_previous=SECRET))


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.com", ""]))
