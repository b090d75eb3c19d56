"""An Engine.IO session: in whatever order things happen, each packet comes out once and in order, or it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broadcast.bridge.engine.packets import CLOSE, MESSAGE, NOOP, PING, EnginePacket, PacketError
from broadcast.bridge.engine.session import Limits, Session, Step

LIMITS: Final = Limits(ping_interval_s=25, ping_timeout_s=20, packets_max=4, linger_s=5)
WAYS: Final = {
    ("polling", "probing"),
    ("polling", "closing"),
    ("polling", "closed"),
    ("probing", "polling"),
    ("probing", "websocket"),
    ("probing", "closing"),
    ("probing", "closed"),
    ("websocket", "closed"),
    ("closing", "closed"),
}


class Sessions(RuleBasedStateMachine):
    """A session, and a client that does everything clients do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.session = Session("s", limits=LIMITS, now_s=0.0, is_websocket=False)
        self.sent = 0
        self.got: list[int] = []
        self.polled = False
        self.probing = False
        self.closed: list[str] = []
        self.failed = False
        self.unanswered_ping_s: float | None = None

    def do(self, act: Callable[[], list[Step]]) -> list[Step]:
        before = self.session.state
        steps = act()
        after = self.session.state
        assert before == after or (before, after) in WAYS
        for at, (what, data) in enumerate(steps):
            assert not self.closed, "something came out after the end"
            if what == "answer":
                assert self.polled
                self.polled = False
                self.take_payload(str(data))
            elif what == "write":
                assert "websocket" in (before, after)
                self.take(str(data))
            elif what == "closed":
                assert at == len(steps) - 1
                self.closed.append(str(data))
        return steps

    def take_payload(self, payload: str) -> None:
        packets = payload.split("\x1e")
        assert len(packets) <= LIMITS.packets_max
        for packet in packets:
            self.take(packet)

    def take(self, text: str) -> None:
        if text[0] == MESSAGE:
            self.got.append(int(text[1:]))
        elif text[0] == PING:
            assert self.unanswered_ping_s is None
            self.unanswered_ping_s = self.now_s
        else:
            assert text[0] in NOOP + CLOSE

    @rule()
    def send(self) -> None:
        if self.session.state not in ("closing", "closed"):
            self.sent += 1
            self.do(lambda: self.session.send(EnginePacket(MESSAGE, str(self.sent))))
        else:
            assert [] == self.session.send(EnginePacket(MESSAGE, "0"))

    @rule()
    def poll(self) -> None:
        if self.polled or self.session.state not in ("polling", "probing", "closing"):
            with pytest.raises(PacketError):
                self.session.poll()
            return
        self.polled = True
        self.do(self.session.poll)

    @precondition(lambda self: self.polled)
    @rule()
    def lose_poll(self) -> None:
        self.polled = False
        self.failed = True
        self.do(self.session.poll_lost)

    @precondition(lambda self: self.session.state in ("polling", "probing"))
    @rule(bodies=st.sampled_from([b"3", b"4x", b"4x\x1e4y", b"bAQI=", b"1", b"5", b"", b"x", b"\xff", b"bA", b"2"]))
    def post(self, bodies: bytes) -> None:
        try:
            steps = self.do(lambda: self.session.posted(bodies, self.now_s))
        except PacketError:
            self.failed = True
            self.do(lambda: self.session.fail("parse error"))
            return
        self.failed |= bodies == b"1"
        if bodies == b"3":
            self.unanswered_ping_s = None
        assert bodies.count(b"x") + bodies.count(b"y") + bodies.count(b"AQ") == sum(
            step.what == "message" for step in steps
        )

    @rule()
    def come_with_a_websocket(self) -> None:
        assert (self.session.state == "polling") == self.session.probed()
        self.probing = self.session.state == "probing"

    @precondition(lambda self: self.session.state == "probing")
    @rule(text=st.sampled_from(["2probe", "5", "4early", "2", "3probe"]))
    def say_as_probe(self, text: str) -> None:
        steps = self.do(lambda: self.session.received(text, self.now_s, socket="probe"))
        if text == "2probe":
            assert Step("write_probe", "3probe") == steps[0]
        elif text == "5":
            assert "websocket" == self.session.state
        else:
            assert "polling" == self.session.state

    @rule()
    def lose_probe(self) -> None:
        self.session.probe_lost()

    @precondition(lambda self: self.session.state == "websocket")
    @rule(data=st.sampled_from(["3", "4x", b"\x01", "1", "x", "", "5"]))
    def say(self, data: str | bytes) -> None:
        try:
            self.do(lambda: self.session.received(data, self.now_s))
        except PacketError:
            self.failed = True
            self.do(lambda: self.session.fail("parse error"))
        else:
            self.failed |= data == "1"
            if data == "3":
                self.unanswered_ping_s = None

    @precondition(lambda self: self.session.state == "websocket")
    @rule()
    def lose_websocket(self) -> None:
        self.failed = True
        self.do(self.session.socket_lost)

    @rule(elapsed_s=st.floats(0.01, 30))
    def wait(self, elapsed_s: float) -> None:
        self.now_s += elapsed_s
        was = self.session.state
        self.do(lambda: self.session.tick(self.now_s))
        if self.closed and was not in ("closing", "closed"):
            self.failed = True
        assert self.session.state == "closed" or self.session.ping_due_s > self.now_s - 1e-6

    @rule()
    def close(self) -> None:
        was = self.session.state
        self.do(lambda: self.session.close("told to go", self.now_s))
        assert self.session.state in ("closing", "closed")
        if was == "websocket":
            assert ["told to go"] == self.closed

    @rule()
    def fetch_what_is_left(self) -> None:
        for _ in range(100):
            if self.session.state != "closing" or self.polled:
                return
            self.polled = True
            self.do(self.session.poll)
        raise AssertionError("it never ends")

    @invariant()
    def everything_comes_once_and_in_order(self) -> None:
        assert list(range(1, len(self.got) + 1)) == self.got
        if self.session.state == "websocket":
            assert self.sent == len(self.got)

    @invariant()
    def the_end_comes_once(self) -> None:
        assert (self.session.state == "closed") == (len(self.closed) == 1)


TestSessions = Sessions.TestCase


def polled(**limits: Any) -> Session:
    return Session("sid", limits=Limits(**limits), now_s=0.0, is_websocket=False)


def on_websocket() -> Session:
    return Session("sid", limits=Limits(), now_s=0.0, is_websocket=True)


def test_the_opening_names_what_the_client_has_to_know() -> None:
    opening = polled(ping_interval_s=0.3, ping_timeout_s=0.2, payload_bytes_max=1000).opening()
    assert "0" == opening.kind
    assert (
        '{"sid":"sid","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000}' == opening.data
    )
    assert '"upgrades":[]' in str(on_websocket().opening().data)


def test_a_second_poll_ends_the_session_and_the_first_is_told() -> None:
    session = polled()
    assert [] == session.poll()
    with pytest.raises(PacketError):
        session.poll()
    assert [Step("answer", "1"), Step("closed", "two")] == session.fail("two")


def test_a_poll_during_the_upgrade_is_answered_at_once() -> None:
    session = polled()
    assert session.probed()
    session.received("2probe", 0.0, socket="probe")
    assert [Step("answer", "6")] == session.poll()


def test_a_poll_that_waits_is_let_go_by_the_probe() -> None:
    session = polled()
    session.poll()
    session.probed()
    assert [Step("write_probe", "3probe"), Step("answer", "6")] == session.received("2probe", 0.0, socket="probe")


def test_what_waits_goes_over_the_websocket_after_the_upgrade() -> None:
    session = polled()
    session.probed()
    session.received("2probe", 0.0, socket="probe")
    for text in "ab":
        session.send(EnginePacket(MESSAGE, text))
    assert [Step("upgrade"), Step("write", "4a"), Step("write", "4b")] == session.received("5", 0.0, socket="probe")
    with pytest.raises(PacketError):
        session.poll()
    assert not session.probed()


def test_a_client_that_says_close_gets_its_poll_back() -> None:
    session = polled()
    session.poll()
    assert [Step("answer", "6"), Step("closed", "client left")] == session.posted(b"1", 0.0)


def test_what_was_said_last_is_fetched_before_the_end() -> None:
    session = polled(packets_max=2)
    for text in "abc":
        session.send(EnginePacket(MESSAGE, text))
    assert [] == session.close("bye", 0.0)
    assert [Step("answer", "4a\x1e4b")] == session.poll()
    assert [Step("answer", "4c")] == session.poll()
    assert [Step("answer", "1"), Step("closed", "bye")] == session.poll()


def test_what_nobody_fetches_ends_after_a_while() -> None:
    session = polled(linger_s=5)
    session.send(EnginePacket(MESSAGE, "a"))
    session.close("bye", 10.0)
    assert [] == session.tick(14.9)
    assert [Step("closed", "bye")] == session.tick(15.0)


@pytest.mark.parametrize("make", [polled, on_websocket])
def test_a_client_that_answers_pings_lives_and_one_that_does_not_is_given_up(make: Callable[[], Session]) -> None:
    session, now_s = make(), 0.0
    for _ in range(5):
        now_s += 25.0
        assert session.tick(now_s - 0.1) == []
        assert session.tick(now_s) in ([], [Step("write", "2")])
        if make is polled:
            assert [Step("answer", "2")] == session.poll()
        session.received("3", now_s)
    session.tick(now_s + 25.0)
    assert [] == session.tick(now_s + 44.9)
    assert Step("closed", "ping timeout") == session.tick(now_s + 45.0)[-1]


def test_who_posts_pongs_and_never_polls_is_given_up() -> None:
    session = polled()
    session.tick(25.0)
    for now_s in range(25, 45):
        assert [] == session.posted(b"3", now_s)
    assert [Step("closed", "ping timeout")] == session.tick(45.0)


def test_a_post_holds_so_many_packets() -> None:
    session, packets = polled(), [b"3"] * Limits().posted_packets_max
    assert [] == session.posted(b"\x1e".join(packets), 0.0)
    with pytest.raises(PacketError):
        session.posted(b"\x1e".join([*packets, b"3"]), 0.0)


def test_after_a_pause_of_the_whole_server_everybody_may_still_answer() -> None:
    session = on_websocket()
    assert [Step("write", "2")] == session.tick(3600.0)
    assert [] == session.tick(3619.0)
    session.received("3", 3619.0)
    assert "websocket" == session.state


@pytest.mark.parametrize("text", ["", "7", "x", "0{}", "2", "5", "6", "٣"])
def test_what_a_client_may_not_send_is_refused(text: str) -> None:
    with pytest.raises(PacketError):
        on_websocket().received(text, 0.0)
