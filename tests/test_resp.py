"""A packed command is what redis-py itself would send."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis.connection import PythonRespSerializer

from broadcast.emitter.resp import packed


@given(
    head=st.lists(st.text(st.characters(codec="utf-8")) | st.binary() | st.integers(), min_size=1),
    payloads=st.lists(st.binary(max_size=2000)),
)
def test_a_packed_command_is_byte_by_byte_what_redis_py_sends(
    head: list[str | bytes | int], payloads: list[bytes]
) -> None:
    theirs: Any = PythonRespSerializer(6000, lambda value: value if isinstance(value, bytes) else str(value).encode())
    # redis-py splits a command's name at its spaces, which no command of ours has.
    expected = b"".join(theirs.pack("EVALSHA", *head, *payloads))
    assert expected == packed(["EVALSHA", *head], payloads)
