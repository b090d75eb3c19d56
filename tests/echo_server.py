"""The application that both protocols' official suites are run against, on our engine: it echoes.

python -m tests.echo_server socket.io|engine.io PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from broadcast.bridge.admission import Admission
from broadcast.bridge.door import make_door
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


class EchoClient(Client):
    """Engine.IO: every message back."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connect_due_s = None

    def _received_message(self, data: str | bytes) -> None:
        self.do(self.session.send(EnginePacket(MESSAGE, data)))


class EchoEngine(Engine):
    client_class = EchoClient


def serve(protocol: str, port: int) -> None:
    handlers = EchoHandlers()
    engine = (
        Engine(handlers, limits=LIMITS)
        if protocol == "socket.io"
        else EchoEngine(handlers, limits=LIMITS, path="/engine.io/")
    )
    sockets: Any = engine.socket
    door = make_door(Admission(connections_max=0, per_address_max=0, rate=0))
    config = uvicorn.Config(
        engine.app, port=port, interface="asgi3", lifespan="off", http=door, ws=sockets, log_level="warning"
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
