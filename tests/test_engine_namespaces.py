"""Socket.IO on a session: who is in which namespace, and what is said there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.engine.namespaces import Connected, Disconnected, Namespaces, Refused, Sent
from broadcast.bridge.engine.packets import PacketError


class Known:
    """The server's namespaces."""

    def exists(self, namespace: str) -> bool:
        return namespace in ("/", "/custom")


def namespaces(*inside: str) -> Namespaces:
    made = Namespaces(Known())
    for name in inside:
        made.accept(name, "sid")
    return made


def test_a_client_comes_in_and_is_told_its_id() -> None:
    made = namespaces()
    assert Connected("/", None) == made.received("0")
    assert '0{"sid":"abc"}' == made.accept("/", "abc")
    assert Connected("/custom", {"token": "x"}) == made.received('0/custom,{"token":"x"}')
    assert '0/custom,{"sid":"def","pid":"e"}' == made.accept("/custom", "def", pid="e")


def test_an_unknown_namespace_is_refused_and_the_connection_goes_on() -> None:
    made = namespaces("/")
    assert Refused('4/random,{"message":"Invalid namespace"}') == made.received("0/random")
    assert Sent("/", ["x"], None, False) == made.received('2["x"]')


def test_leaving_one_namespace_leaves_the_other() -> None:
    made = namespaces("/", "/custom")
    assert Disconnected("/custom") == made.received("1/custom")
    assert Sent("/", ["x"], 5, False) == made.received('25["x"]')
    with pytest.raises(PacketError):
        made.received('2/custom,["x"]')


@pytest.mark.parametrize("text", ['2["x"]', "1", "31[]", "0[]", "abc"])
def test_what_comes_before_connect_ends_the_connection(text: str) -> None:
    with pytest.raises(PacketError):
        namespaces().received(text)


def test_a_second_connect_ends_the_connection() -> None:
    with pytest.raises(PacketError):
        namespaces("/").received("0")


def test_attachments_are_put_where_they_belong() -> None:
    made = namespaces("/")
    assert None is made.received('52-7["x",{"_placeholder":true,"num":1},{"a":{"_placeholder":true,"num":0}}]')
    assert None is made.received(b"first")
    assert Sent("/", ["x", b"second", {"a": b"first"}], 7, True) == made.received(b"second")
    assert Sent("/", ["y"], None, False) == made.received('2["y"]')


def test_an_attachment_that_nothing_announced_ends_the_connection() -> None:
    with pytest.raises(PacketError):
        namespaces("/").received(b"x")


def test_a_text_where_an_attachment_should_come_ends_the_connection() -> None:
    made = namespaces("/")
    made.received('51-["x",{"_placeholder":true,"num":0}]')
    with pytest.raises(PacketError):
        made.received('2["y"]')


def test_an_answer_to_what_nobody_asked_is_passed_over() -> None:
    assert None is namespaces("/").received("31[]")


@given(st.lists(st.text('0123456-/,[]{}"xcustom') | st.binary(max_size=3)))
def test_whatever_comes_it_is_understood_or_ends_the_connection(messages: list[str | bytes]) -> None:
    made = namespaces("/")
    for message in messages:
        try:
            made.received(message)
        except PacketError:
            return
