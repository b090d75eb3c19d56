"""A refusal as HTTP tells it: RFC 9457, with its code from the one table. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

import orjson

from broadcast.errors import Code, RequestError

__all__ = ["MEDIA_TYPE", "problem_of", "refusal_headers"]

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
"""Where it is worth coming back, and nobody knows when."""


def problem_of(code: Code, detail: str, **more: Any) -> bytes:
    """The document.

    Args:
        code: what kind of refusal it is.
        detail: what was wrong with this request.
        more: what else is known of it.
    """
    known = {"type": "about:blank", "title": code.meaning, "status": code.http_status, "detail": detail}
    return orjson.dumps({**known, "code": code.name, **more})


def refusal_headers(error: RequestError | Code) -> dict[str, str]:
    """The header that says when to come back, where that is of use, or that it takes a token (RFC 9110, 11.6.1)."""
    code = error.code if isinstance(error, RequestError) else error
    if code.http_status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if not code.reconnect:
        return {}
    wait_s = error.retry_after_s if isinstance(error, RequestError) else None
    return {"Retry-After": str(max(1, math.ceil(RETRY_AFTER_S if wait_s is None else wait_s)))}
