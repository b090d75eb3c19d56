"""The packets of both protocols: what we write others read, what others write we read, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import engineio.packet  # type: ignore[import-untyped]
import pytest
import socketio.packet  # type: ignore[import-untyped]
from engineio.payload import Payload  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.engine.packets import (
    MESSAGE,
    EnginePacket,
    Kind,
    Packet,
    PacketError,
    encoded,
    joined,
    parse_engine,
    parse_packet,
    parse_payload,
    with_attachments,
    without_attachments,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x1e"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = TEXT.filter(
    lambda name: (
        name not in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
    )
)
NAMESPACES = st.sampled_from(["/", "/custom", "/a-b"])
ACK_IDS = st.none() | st.integers(0, 10**15 - 1)


@given(NAMESPACES, ACK_IDS, NAMES, st.lists(JSON, max_size=3))
def test_an_event_goes_there_and_back(namespace: str, ack_id: int | None, name: str, arguments: list[Any]) -> None:
    packet = Packet(Kind.EVENT, namespace, [name, *arguments], ack_id)
    assert packet == parse_packet(encoded(packet))


@given(NAMESPACES, ACK_IDS, NAMES, st.lists(JSON, max_size=3))
def test_python_socketio_reads_what_we_write_and_we_what_it_writes(
    namespace: str, ack_id: int | None, name: str, arguments: list[Any]
) -> None:
    ours = Packet(Kind.EVENT, namespace, [name, *arguments], ack_id)
    theirs = socketio.packet.Packet(encoded_packet=encoded(ours))
    assert (Kind.EVENT, namespace, [name, *arguments]) == (theirs.packet_type, theirs.namespace or "/", theirs.data)
    written = socketio.packet.Packet(Kind.EVENT, data=[name, *arguments], namespace=namespace, id=ack_id).encode()
    assert ours == parse_packet(written)


BINARY = st.recursive(
    JSON | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(lambda key: key != "_placeholder"), inner),
    max_leaves=6,
)


@given(BINARY)
def test_attachments_are_taken_out_and_put_back(data: Any) -> None:
    attachments: list[bytes] = []
    assert data == with_attachments(without_attachments(data, attachments), attachments)


@given(st.lists(st.builds(EnginePacket, st.just(MESSAGE), TEXT | st.binary(max_size=20)), min_size=1, max_size=16))
def test_a_payload_goes_there_and_back_also_through_python_engineio(packets: list[EnginePacket]) -> None:
    payload = joined(packets)
    assert packets == parse_payload(payload.encode(), packets_max=16)
    theirs = Payload(encoded_payload=payload)
    # It reads JSON in a message by itself, and takes what Python calls JSON for it: `Infinity`.
    ours = [packet.data if isinstance(packet.data, bytes) else _read(packet.data) for packet in packets]
    assert repr(ours) == repr([packet.data for packet in theirs.packets])


def _read(text: str) -> Any:
    return engineio.packet.Packet(encoded_packet=f"{MESSAGE}{text}").data


BROKEN = [
    "",
    "7",
    "9[]",
    "x",
    "٢[]",
    "0[]",
    '0"x"',
    "1{}",
    "2",
    "2[]",
    "2{}",
    '2"x"',
    "2[null]",
    "2[true]",
    "2[1.5]",
    "2[{}]",
    '2["connect"]',
    '2["disconnect",{}]',
    '2["newListener"]',
    "3[]",
    "31{}",
    "31",
    '4{"message":"x"}',
    "5-[",
    '5["x"]',
    '5-["x"]',
    '5999-["x"]',
    '59-["x"]',
    "61-[]",
    '2abc["x"]',
    '2["x"',
    '2["x"]]',
    "2" + "9" * 16 + '["x"]',
    "2" + "9" * 400 + '["x"]',
    '2["x",' + "[" * 5000,
    '2/custom["x"]',
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_packet_is_refused(text: str) -> None:
    with pytest.raises(PacketError):
        parse_packet(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Packet(Kind.CONNECT)),
        ("0/custom,", Packet(Kind.CONNECT, "/custom")),
        ("0/custom", Packet(Kind.CONNECT, "/custom")),
        ('0/custom?token=1,{"a":1}', Packet(Kind.CONNECT, "/custom", {"a": 1})),
        ("1/custom", Packet(Kind.DISCONNECT, "/custom")),
        ('2[1,"x"]', Packet(Kind.EVENT, data=[1, "x"])),
        ('20["x"]', Packet(Kind.EVENT, data=["x"], ack_id=0)),
        ('50-["x"]', Packet(Kind.BINARY_EVENT, data=["x"])),
        ('51-/custom,7["x",{"_placeholder":true,"num":0}]', Packet(
            Kind.BINARY_EVENT, "/custom", ["x", {"_placeholder": True, "num": 0}], 7, 1
        )),
        ("37[]", Packet(Kind.ACK, data=[], ack_id=7)),
    ],
)  # fmt: skip
def test_every_form_of_a_packet_is_read(text: str, expected: Packet) -> None:
    assert expected == parse_packet(text)


@given(st.text() | st.text('0123456-/,[]{}"x'))
def test_any_text_is_a_packet_or_refused_and_nothing_else(text: str) -> None:
    for parse in (parse_packet, parse_engine):
        try:
            parse(text)
        except PacketError:
            continue


@given(st.binary() | st.binary().map(lambda raw: b"b" + raw))
def test_any_bytes_are_a_payload_or_refused_and_nothing_else(body: bytes) -> None:
    try:
        packets = parse_payload(body, packets_max=3)
    except PacketError:
        return
    assert 1 <= len(packets) <= 3


@pytest.mark.parametrize("number", [-1, 1, True, 1.0, "0", None])
def test_a_placeholder_of_what_did_not_come_is_refused(number: object) -> None:
    with pytest.raises(PacketError):
        with_attachments(["x", {"_placeholder": True, "num": number}], [b"a"])
