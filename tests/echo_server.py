"""The application that both protocols' official suites are run against, on our engine: it echoes.

python -m tests.echo_server socket.io|engine.io PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from broadcast.bridge.engine.client import Client
from broadcast.bridge.engine.engine import Engine
from broadcast.bridge.engine.namespaces import Sent
from broadcast.bridge.engine.packets import MESSAGE, EnginePacket, Kind, Packet, encoded, without_attachments
from broadcast.bridge.engine.session import Limits

LIMITS = Limits(ping_interval_s=0.3, ping_timeout_s=0.2, payload_bytes_max=1_000_000, connect_timeout_s=1.0)


class EchoHandlers:
    """Socket.IO: `auth` back at connect, `message` as `message-back`, `message-with-ack` as its answer."""

    def exists(self, namespace: str) -> bool:
        return namespace in ("/", "/custom")

    def greeting(self, client: Client, auth: object) -> dict[str, str]:
        return {}

    def connected(self, client: Client, namespace: str, auth: object) -> None:
        client.write(encoded(Packet(Kind.EVENT, namespace, ["auth", auth or {}])))

    def requested(self, client: Client, event: Sent) -> None:
        name, *arguments = event.arguments
        if name == "message":
            _send(client, event.namespace, ["message-back", *arguments], None)
        elif name == "message-with-ack":
            _send(client, event.namespace, arguments, event.ack_id)

    def disconnected(self, client: Client, namespace: str, reason: str) -> None:
        pass


def _send(client: Client, namespace: str, data: list[Any], ack_id: int | None) -> None:
    attachments: list[bytes] = []
    plain = without_attachments(data, attachments)
    kinds = (Kind.EVENT, Kind.BINARY_EVENT) if ack_id is None else (Kind.ACK, Kind.BINARY_ACK)
    client.write(encoded(Packet(kinds[bool(attachments)], namespace, plain, ack_id, len(attachments))))
    for attachment in attachments:
        client.write(attachment)


class EchoEngine(Engine):
    """Engine.IO: every message back."""

    def _make(self, *arguments: Any, **options: Any) -> Client:
        client = super()._make(*arguments, **options)

        def echo(data: str | bytes) -> None:
            client.do(client.session.send(EnginePacket(MESSAGE, data)))

        client._received_message = echo  # type: ignore[method-assign]
        client._connect_due_s = None
        return client


def serve(protocol: str, port: int) -> None:
    handlers = EchoHandlers()
    engine = (
        Engine(handlers, limits=LIMITS)
        if protocol == "socket.io"
        else EchoEngine(handlers, limits=LIMITS, path="/engine.io/")
    )
    door: Any = engine.socket
    uvicorn.run(
        engine.app, port=port, interface="asgi3", lifespan="off", ws=door, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
