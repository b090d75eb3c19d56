"""One Engine.IO session as a pure state machine: fed with packets and a clock, it says what is to be done.

States, as `Session.state` has them:

    polling ──WebSocket with its sid──► probing ──"5"──► websocket
       │    ◄──that WebSocket is gone──    │                │
       ├──────────────close()─────────────┤                │
       ▼                                                    │
    closing ──fetched, or too late──► closed ◄──────────────┘

* polling: packets wait in `waiting` until a poll fetches them, at most `packets_max` at once.
* probing: the same, and a poll never waits: it is answered with a noop, so that the client may leave it.
* websocket: packets are written as they come.
* closing: over polling, what was said last is still to be fetched; for `linger_s`.

Whoever drives it does what the `Step`s say, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import orjson

from broadcast.bridge.engine.packets import (
    CLOSE,
    MESSAGE,
    NOOP,
    OPEN,
    PING,
    PONG,
    UPGRADE,
    EnginePacket,
    PacketError,
    joined,
    parse_engine,
    parse_payload,
)

__all__ = ["Limits", "Session", "Step"]

State = Literal["polling", "probing", "websocket", "closing", "closed"]
Socket = Literal["main", "probe"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may take, and when it is given up."""

    ping_interval_s: float = 25.0
    ping_timeout_s: float = 20.0
    payload_bytes_max: int = 16 * 1024
    """A client's payload or message."""
    packets_max: int = 16
    """Packets that answer one poll; python-socketio's client refuses more."""
    posted_packets_max: int = 128
    """Packets of one post: a page that asks as much at once as a viewer may sends a hundred."""
    connect_timeout_s: float = 10.0
    """By then a client has to be in a namespace."""
    intake_bytes_per_s: float = 16 * 1024
    """What a client may send in the long run; faster ones are read more slowly. 0 for no limit."""
    intake_bytes_burst: float = 128 * 1024
    linger_s: float = 5.0
    """How long what was said last may wait for a poll."""


class Step(NamedTuple):
    """One thing to do.

    `answer`: answer the waiting poll with this payload. `write`: write this to the WebSocket. `write_probe`: write it
    to the one that probes. `upgrade`: the one that probes is the session's from here on. `close`, `close_probe`: close
    that WebSocket. `message`: the client has sent this message. `closed`: the session is over; the data says why.
    """

    what: Literal["answer", "write", "write_probe", "upgrade", "close", "close_probe", "message", "closed"]
    data: str | bytes = ""


_NOOP: Final = EnginePacket(NOOP)
_PING: Final = EnginePacket(PING)


class Session:
    """One client.

    Args:
        sid: its id.
        limits: what it may take.
        now_s: a monotonic clock, seconds.
        is_websocket: whether it has come by WebSocket; else by polling.
    """

    __slots__ = (
        "_is_polled",
        "_pong_due_s",
        "_why",
        "limits",
        "ping_due_s",
        "pings",
        "pongs",
        "sid",
        "state",
        "waiting",
    )

    def __init__(self, sid: str, *, limits: Limits, now_s: float, is_websocket: bool) -> None:
        self.sid = sid
        self.limits = limits
        self.state: State = "websocket" if is_websocket else "polling"
        self.waiting: list[EnginePacket] = []
        """What the next poll will fetch."""
        self.ping_due_s = now_s + limits.ping_interval_s
        self.pings = 0
        """How many pings were written."""
        self.pongs = 0
        """How many of them were answered."""
        self._pong_due_s: float | None = None
        self._is_polled = False
        self._why = ""

    def opening(self) -> EnginePacket:
        """The packet that opens the session: over polling the answer itself, else the first message."""
        handshake = {
            "sid": self.sid,
            "upgrades": [] if self.state == "websocket" else ["websocket"],
            "pingInterval": int(self.limits.ping_interval_s * 1000),
            "pingTimeout": int(self.limits.ping_timeout_s * 1000),
            "maxPayload": self.limits.payload_bytes_max,
        }
        return EnginePacket(OPEN, orjson.dumps(handshake).decode())

    # --- what we have to say

    def send(self, packet: EnginePacket) -> list[Step]:
        """Send one packet, in its turn."""
        return self.send_all((packet,))

    def send_all(self, packets: Sequence[EnginePacket]) -> list[Step]:
        """Send some packets; a poll that waits gets as many of them as it may."""
        if self.state in ("closing", "closed"):
            return []
        if self.state == "websocket":
            return [_written(packet) for packet in packets]
        self.waiting.extend(packets)
        return self._answered() if self._is_polled and packets else []

    def close(self, reason: str, now_s: float) -> list[Step]:
        """End the session behind what was sent; over polling, that has first to be fetched."""
        if self.state not in ("polling", "probing"):
            return self.fail(reason)
        steps = [Step("close_probe")] if self.state == "probing" else []
        self.state, self._why = "closing", reason
        self.ping_due_s = now_s + self.limits.linger_s
        return [*steps, *(self._answered() if self._is_polled else [])]

    def fail(self, reason: str) -> list[Step]:
        """End the session now, whatever waits."""
        if self.state == "closed":
            return []
        steps = [Step("answer", CLOSE)] if self._is_polled else []
        if self.state == "websocket":
            steps.append(Step("close"))
        elif self.state == "probing":
            steps.append(Step("close_probe"))
        self._is_polled = False
        self.waiting.clear()
        self.state = "closed"
        return [*steps, Step("closed", self._why or reason)]

    # --- polling

    def poll(self) -> list[Step]:
        """A poll has come; without `answer` among the steps it waits.

        Raises:
            PacketError: there is no polling (any more), or another poll waits: the latter ends the session, see `fail`.
        """
        if self.state not in ("polling", "probing", "closing"):
            raise PacketError("this session is not polled")
        if self._is_polled:
            raise PacketError("another poll waits already")
        self._is_polled = True
        if self.state == "probing" and not self.waiting:
            self.waiting.append(_NOOP)
        return self._answered() if self.waiting or self.state == "closing" else []

    def poll_lost(self) -> list[Step]:
        """The waiting poll's connection is gone, and with it whatever it may have carried."""
        self._is_polled, was_polled = False, self._is_polled
        return self.fail("transport error") if was_polled else []

    def posted(self, body: bytes, now_s: float) -> list[Step]:
        """A payload has come.

        Raises:
            PacketError: it is none; that ends the session, see `fail`.
        """
        if self.state not in ("polling", "probing", "closing"):
            raise PacketError("this session is not polled")
        steps: list[Step] = []
        for packet in parse_payload(body, packets_max=self.limits.posted_packets_max):
            steps += self._received(packet, now_s)
        return steps

    # --- WebSocket

    def probed(self) -> bool:
        """A WebSocket has come for this session; False if it must go again."""
        if self.state != "polling":
            return False
        self.state = "probing"
        return True

    def probe_lost(self) -> None:
        """The WebSocket that probed is gone; polling goes on."""
        if self.state == "probing":
            self.state = "polling"

    def received(self, data: str | bytes, now_s: float, *, socket: Socket = "main") -> list[Step]:
        """A WebSocket message has come.

        Raises:
            PacketError: it is no packet; that ends the session, see `fail`.
        """
        if self.state == "closed":
            return []
        packet = EnginePacket(MESSAGE, data) if isinstance(data, bytes) else parse_engine(data)
        if socket == "main":
            return self._received(packet, now_s)
        return self._received_by_probe(packet)

    def socket_lost(self, reason: str = "transport close") -> list[Step]:
        """The session's WebSocket is gone."""
        return self.fail(reason) if self.state == "websocket" else []

    def _received_by_probe(self, packet: EnginePacket) -> list[Step]:
        if packet == EnginePacket(PING, "probe"):
            steps = [Step("write_probe", PONG + "probe")]
            if self._is_polled:
                self.waiting.append(_NOOP)
                steps += self._answered()
            return steps
        if packet.kind != UPGRADE:
            self.state = "polling"
            return [Step("close_probe")]
        # Before anything is written to it: the poll that may still wait is of no use, and its answer carries nothing.
        steps = [Step("answer", NOOP)] if self._is_polled else []
        self._is_polled = False
        self.state = "websocket"
        steps.append(Step("upgrade"))
        steps += [_written(waiting) for waiting in self.waiting if waiting.kind != NOOP]
        self.waiting.clear()
        return steps

    # --- time

    def tick(self, now_s: float) -> list[Step]:
        """Look at the clock: ping when that is due, and give up who did not answer the last one.

        `ping_due_s` says when to look again.
        """
        if self.state == "closed" or now_s < self.ping_due_s:
            return []
        if self._pong_due_s is not None or self.state == "closing":
            return self.fail("ping timeout")
        # From when it was due, so that the timer's own lateness is not given away; but after a pause of the whole
        # server (a laptop that slept) everybody gets the time to answer.
        timeout_s = self.limits.ping_timeout_s
        pinged_s = self.ping_due_s if now_s - self.ping_due_s < timeout_s / 2 else now_s
        self._pong_due_s = self.ping_due_s = pinged_s + timeout_s
        self.pings += 1
        return self.send(_PING)

    # --- both ways

    def _received(self, packet: EnginePacket, now_s: float) -> list[Step]:
        if self.state in ("closing", "closed"):
            return []
        if packet.kind == MESSAGE:
            return [Step("message", packet.data)]
        if packet.kind == PONG:
            # Who has not fetched the ping cannot answer it: a session that is posted to and never polled does not live.
            if self._pong_due_s is not None and _PING not in self.waiting:
                self._pong_due_s = None
                self.pongs += 1
                self.ping_due_s = now_s + self.limits.ping_interval_s
            return []
        if packet.kind == CLOSE:
            steps = [Step("answer", NOOP)] if self._is_polled else []
            self._is_polled = False
            return [*steps, *self.fail("client left")]
        raise PacketError(f"engine packet: a client cannot send the kind {packet.kind}")

    def _answered(self) -> list[Step]:
        if self.state == "closing" and not self.waiting:
            # In a poll of its own: python-socketio's client would not look at what stands before it.
            return self.fail("")
        self._is_polled = False
        packets = self.waiting[: self.limits.packets_max]
        del self.waiting[: self.limits.packets_max]
        return [Step("answer", joined(packets))]


def _written(packet: EnginePacket) -> Step:
    return Step("write", packet.kind + packet.data if isinstance(packet.data, str) else packet.data)
