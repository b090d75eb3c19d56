"""The specification's own listings, run as they stand, against ours: in both directions."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from broadcast import Broadcaster
from tests.bridges import IGNORE_CLIENT, ROOT, Client, serving
from tests.servers import RedisServer, free_port

SPECIFICATION: Final = ROOT.parent / "shared" / "spec" / "000_1ee672acb3dbbb94.txt"

pytestmark = [
    IGNORE_CLIENT,
    pytest.mark.skipif(
        not SPECIFICATION.exists(), reason=f"the specification's text is not beside this checkout ({SPECIFICATION})"
    ),
]


def listing(first_line: str) -> str:
    """One listing of the specification."""
    for block in re.findall(r"```python\n(.*?)```", SPECIFICATION.read_text("utf-8"), re.DOTALL):
        if block.startswith(first_line):
            return str(block)
    raise AssertionError(f"the specification has no listing {first_line!r}")


def their_broadcaster(url: str) -> Any:
    scope: dict[str, Any] = {}
    exec(compile(listing("# v5/broadcast.py"), "broadcast.py", "exec"), scope)
    return scope["Broadcaster"](url)


@contextlib.contextmanager
def their_server(url: str, folder: Path) -> Iterator[str]:
    """Its bridge; needs eventlet's patching before all else, and a port and a Redis of the test's own."""
    port = free_port()
    text = listing("# v5/broadcast_server.py")
    text = text.replace("redis://localhost:6379", url).replace("('0.0.0.0', 5001)", f"('127.0.0.1', {port})")
    script = folder / "broadcast_server.py"
    script.write_text(f"import eventlet\neventlet.monkey_patch()\n{text}")
    with (folder / "their.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": ""},
        )
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, (folder / "their.log").read_text()
            assert process.poll() is None, (folder / "their.log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def test_our_bridge_delivers_what_its_broadcaster_emits(valkey_server: RedisServer, tmp_path: Path) -> None:
    theirs = their_broadcaster(valkey_server.url)
    theirs.set_cycle(42, 1551)
    with serving(valkey_server.url, tmp_path) as bridge:
        for i in range(60):
            theirs.emit("sense.project", {"i": i, "text": "größer"})
        bridge.wait_until_caught_up()
        async with Client(bridge.url) as client:
            await client.until_got("position")
            emitted = [theirs.emit("cycle.end", {"i": i, "odd": float("nan")}) for i in range(60, 70)]
            await client.until_got("event", 60)
    theirs._redis.close()
    assert list(range(10, 70)) == [event["data"]["i"] for event in client.events]
    assert {(42, 1551)} == {(event["cycle"], event["day"]) for event in client.events}
    assert "größer" == client.events[0]["data"]["text"]
    assert client.events[-1]["data"]["odd"] is None
    # Microseconds and +00:00 become milliseconds and Z.
    assert [f"{event['ts'][:23]}Z" for event in emitted] == [event["ts"] for event in client.events[-10:]]
    assert list(range(11, 71)) == [event["n"] for event in client.events]


async def test_its_server_delivers_what_our_emitter_emits_live_at_connect_and_on_replay(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path
) -> None:
    broadcaster.set_cycle(42, 1551)
    for i in range(80):
        broadcaster.emit("sense.project", {"i": i})
    assert broadcaster.flush()
    with their_server(valkey_server.url, tmp_path) as url:
        async with Client(url) as client:
            await client.until_got("event", 50)
            # It sends the oldest 50 there are, not the newest.
            assert list(range(50)) == [event["data"]["i"] for event in client.events]
            live = [broadcaster.emit("cycle.end", {"i": i}) for i in range(80, 90)]
            await client.until_got("event", 60)
            for sent, got in zip(live, client.events[50:], strict=True):
                assert sent == {name: got[name] for name in ("type", "ts", "cycle", "day", "data")}
                assert {"id", "by"} == set(got) - set(sent)
            await client.socket.emit("replay", {"count": 20})
            await client.until_got("event", 80)
            assert list(range(20)) == [event["data"]["i"] for event in client.events[60:]]


async def test_the_specification_s_emitter_and_ours_share_one_log(
    valkey_server: RedisServer, broadcaster: Broadcaster, tmp_path: Path
) -> None:
    theirs = their_broadcaster(valkey_server.url)
    with serving(valkey_server.url, tmp_path) as bridge:
        async with Client(bridge.url) as client:
            await client.until_got("position")
            for i in range(20):
                if i % 2:
                    theirs.emit("count", {"i": i})
                else:
                    broadcaster.emit("count", {"i": i})
                    broadcaster.flush()
            await client.until_got("event", 20)
    theirs._redis.close()
    assert list(range(20)) == [event["data"]["i"] for event in client.events]
    assert [i % 2 == 0 for i in range(20)] == ["by" in event for event in client.events]
