"""A command with a long tail of payloads in Redis's own form.

https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP arrays of bulk strings).

redis-py packs a command argument by argument, which costs more than all else that the sender does for an event, unless
hiredis is installed; the emitter must not need it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["packed"]


def packed(head: Sequence[str | bytes | int], payloads: Sequence[bytes]) -> bytes:
    """One command, ready for the socket.

    Args:
        head: its name and first arguments.
        payloads: the arguments that follow.
    """
    parts = [b"*%d\r\n" % (len(head) + len(payloads))]
    for argument in head:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    parts += [b"$%d\r\n%b\r\n" % (len(payload), payload) for payload in payloads]
    return b"".join(parts)
