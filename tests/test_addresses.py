"""Addresses of Redis: every form that people write, and what is wrong with the others, without the password."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import connection

from broadcast.addresses import parse_address
from broadcast.errors import SettingError

parse_url: Any = connection.parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://localhost:6379", "redis://localhost:6379"),
        ("valkey://localhost/3", "redis://localhost/3"),
        ("valkeys://:p%40ss@host:7000", "rediss://:p%40ss@host:7000"),
        ("rediss://user:word@[::1]:7000/1", "rediss://user:word@[::1]:7000/1"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_one_server_is_what_redis_py_understands(text: str, url: str) -> None:
    address = parse_address(text)

    assert ("server", url) == (address.kind, address.url)
    parse_url(address.url)


def test_sentinels_have_a_name_and_a_database() -> None:
    address = parse_address("redis+sentinel://mind:s%2Fcret@one,two:26380,[::1]:5/kai/2")

    assert ("sentinel", "kai", 2) == (address.kind, address.service, address.db)
    assert (("one", 26379), ("two", 26380), ("::1", 5)) == address.hosts
    assert "redis://mind:s%2Fcret@10.0.0.1:6379/2" == address.server_url("10.0.0.1", 6379)
    assert {"username": "mind", "password": "s/cret", "host": "fd00::1", "port": 7, "db": 2} == parse_url(
        address.server_url("fd00::1", 7)
    )


def test_sentinels_have_an_account_and_tls_of_their_own() -> None:
    plain = parse_address("redis+sentinel://mind:s%2Fcret@one/kai?sentinel_username=asks&sentinel_password=a+b%26/c")
    both = parse_address("rediss+sentinel://one,two/kai/1?ssl_ca_certs=/etc/my%20ca.pem&ssl_check_hostname=false")
    asked_only = parse_address("redis+sentinel://one/kai?sentinel_ssl=true&ssl_ca_certs=/ca.pem")
    served_only = parse_address("rediss+sentinel://one/kai?sentinel_ssl=false&ssl_ca_certs=/ca.pem")

    assert "redis://asks:a%2Bb%26%2Fc@one:26379" == plain.sentinel_url("one", 26379)
    assert {"username": "asks", "password": "a+b&/c", "host": "one", "port": 26379} == parse_url(
        plain.sentinel_url("one", 26379)
    )
    assert "redis://mind:s%2Fcret@10.0.0.1:6379/0" == plain.server_url("10.0.0.1", 6379)
    assert "rediss://one:5/1?ssl_ca_certs=%2Fetc%2Fmy%20ca.pem&ssl_check_hostname=false" == both.server_url("one", 5)
    assert "/etc/my ca.pem" == parse_url(both.sentinel_url("two", 26379))["ssl_ca_certs"]
    assert "rediss://one:1?ssl_ca_certs=%2Fca.pem" == asked_only.sentinel_url("one", 1)
    assert "redis://one:1/0" == asked_only.server_url("one", 1)
    assert "redis://one:1" == served_only.sentinel_url("one", 1)
    assert "rediss://one:1/0?ssl_ca_certs=%2Fca.pem" == served_only.server_url("one", 1)


def test_a_cluster_has_nodes_and_no_database() -> None:
    address = parse_address("rediss+cluster://one:7000,two")

    assert ("cluster", (("one", 7000), ("two", 6379))) == (address.kind, address.hosts)
    assert "rediss://node:7001/0" == address.server_url("node", 7001)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with"),
        ("localhost:6379", "begins with"),
        ("http://localhost", "begins with"),
        ("redis://", "host"),
        ("redis://host:port", "expected HOST or HOST:PORT"),
        ("redis://host:99999", "the port from 1 to 65535"),
        ("redis://[::1", "expected HOST or HOST:PORT"),
        ("redis://host/name", "database"),
        ("redis://ho st", "host and port"),
        ("redis://[::1", "host and port"),
        ("redis://a:b:c", "host and port"),
        ("redis://:ha#sh@host", "account"),
        ("unix://", "path"),
        ("redis+sentinel://host", "name"),
        ("redis+sentinel:///kai", "hosts"),
        ("redis+sentinel://a:b:c@h:x/kai", "h:x"),
        ("redis+sentinel://host/kai/x", "database"),
        ("redis+cluster://host/1", "database 0"),
        ("redis+cluster://host?sentinel_password=x", "sentinel_password"),
        ("redis+sentinel://host/kai?timeout=5", "behind the .*'timeout'"),
        ("redis+sentinel://host/kai?sentinel_ssl=perhaps", "sentinel_ssl: expected true or false"),
    ],
)
def test_what_is_no_address_is_refused_with_the_part_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        parse_address(text)


def test_a_password_is_never_shown() -> None:
    for text in (
        "redis://mind:hush@host",
        "redis+sentinel://mind:hush@host/kai",
        "redis+cluster://:hush@host",
        "redis://host?password=hush",
        "redis+sentinel://host/kai?sentinel_password=hush&sentinel_ssl=1",
        "redis+sentinel://host/kai?sentinel_username=asks&sentinel_password=hu@hush",
        "redis://host?password=hush@hush",
        "redis://host?hush@hush",
        "unix:///run/host.sock?username=hush&password=hush",
    ):
        address = parse_address(text)
        assert "hush" not in repr(address) and "hush" not in address.shown()
        assert "host" in address.shown()


@pytest.mark.parametrize("mark", "/?#[")
@pytest.mark.parametrize("scheme", ["redis", "rediss+sentinel", "redis+cluster"])
def test_nor_in_what_is_said_of_an_account_that_was_not_escaped(scheme: str, mark: str) -> None:
    for text in (f"{scheme}://mind:hush{mark}hush@host/kai", f"{scheme}://:hush{mark}@host/0"):
        try:
            said = parse_address(text).shown()
        except SettingError as error:
            said = str(error)
        assert "hush" not in said


@given(st.text(max_size=80) | st.from_regex(r"redis(\+sentinel|\+cluster)?://[\w:@,/\[\].%-]{0,60}"))
def test_any_text_is_an_address_or_a_setting_error(text: str) -> None:
    try:
        address = parse_address(text)
    except SettingError:
        return
    assert address.kind == "server" or address.hosts


TEXTS = st.text(max_size=60) | st.text("redis:/@[].%#?1a- \\\ud800", max_size=40)
SCHEMES = st.sampled_from(["redis", "rediss", "valkey", "redis+sentinel", "redis+cluster"])
PLACES = st.from_regex(r"\A(\w*:[\w%#/?@\[]{0,9}@)?[\w.\[\]:%-]{0,12}(:\d{0,6})?(/\d{0,3})?(#.{0,3})?\Z")


@given(SCHEMES, TEXTS | PLACES)
def test_where_redis_py_finds_another_place_than_we_do_the_address_is_refused(scheme: str, rest: str) -> None:
    """urllib, which it uses, cuts at a # and drops what cannot be printed: an event must not go to another host."""
    try:
        address = parse_address(f"{scheme}://{rest}")
        found = parse_url(address.url if address.kind == "server" else address.server_url(*address.hosts[0]))
    except (SettingError, ValueError):  # the latter: no place at all, which the sender tells
        return
    assert found["host"]
    if address.kind != "server":
        assert address.hosts[0] == (found["host"], found["port"])
        assert (address.username, address.password) == (found.get("username", ""), found.get("password", "")) or (
            not address.password
        )
    else:
        place = rest.partition("?")[0].partition("/")[0].rpartition("@")[2].lower()
        assert place.strip("[]").startswith(found["host"])
        assert "port" not in found or place.endswith(f":{found['port']}") or place.endswith(f"0{found['port']}")


@given(st.text(), st.text(min_size=1))
def test_any_account_arrives_as_it_was_written(username: str, password: str) -> None:
    written = "redis+sentinel://{}:{}@host/kai".format(*(quote(each, safe="") for each in (username, password)))
    address = parse_address(written)

    assert (username, password) == (address.username, address.password)
    found = parse_url(address.server_url("host", 1))
    assert (username, password) == (found.get("username", ""), found["password"])
