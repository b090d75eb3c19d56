"""What strangers are told of a bridge that is not well, and what its operators are."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from broadcast.bridge.operator_routes import OperatorRoutes

REASON = "AuthenticationError: user bridge at 10.0.0.7"


def asked(path: str, forwarded_for: str = "", *, has_tokens: bool = False) -> tuple[int, dict[str, Any]]:
    """The answer of a bridge that has lost its log, is stuck, and has an archive."""

    async def state() -> dict[str, Any]:
        return {"stored": 7}

    fanout: Any = SimpleNamespace(is_up=False, down_reason=REASON)
    probe: Any = SimpleNamespace(reasons=("the reader stands still at 5-0",), archive=SimpleNamespace(state=state))
    unused: Any = None
    door: Any = SimpleNamespace(has_tokens=has_tokens)
    routes = OperatorRoutes(fanout=fanout, door=door, trace=unused, metrics=unused, probe=probe).routes()
    (endpoint,) = (route.endpoint for route in routes if route.path == path)
    raw = [(b"host", b"127.0.0.1"), *([(b"x-forwarded-for", forwarded_for.encode())] if forwarded_for else [])]
    scope = {"type": "http", "method": "GET", "path": path, "headers": raw, "client": ("127.0.0.1", 7)}
    answer = asyncio.run(endpoint(Request(scope)))
    return answer.status_code, orjson.loads(answer.body)


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_strangers_learn_whether_and_not_why(path: str) -> None:
    near, far = asked(path), asked(path, "203.0.113.9")
    assert far == asked(path, has_tokens=True), "a proxy that adds no header looks like this machine"
    assert (503, 503) == (near[0], far[0])
    assert "5-0" in str(near) and "5-0" not in str(far) and REASON not in str(far)
    assert far[1]["reasons"] and set(far[1]["reasons"]) <= {"the log cannot be read", "this bridge is stuck"}
    assert (REASON in str(near)) is (path == "/readyz")
