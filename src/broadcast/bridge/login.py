"""`POST /session` and `DELETE /session`: a browser's EventSource sends no header, so its token goes into a cookie."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadcast.bridge.credentials import cleared_cookies, cookie_of
from broadcast.bridge.grant import Grant
from broadcast.bridge.requests import bearer_token
from broadcast.errors import RequestError

__all__ = ["Login"]

COOKIE_CHARS_MAX: Final = 4_000
"""Of a token; its name takes some, too."""


class Login:
    """The two routes.

    Args:
        grant_of: what a request's token allows.
        may_set_cookies: whether a cookie would count here.
    """

    def __init__(self, grant_of: Callable[[Request], Grant], *, may_set_cookies: bool) -> None:
        self._grant_of = grant_of
        self._may_set_cookies = may_set_cookies

    async def begin(self, request: Request) -> Response:
        """Hand the token of the Authorization header to the browser as a cookie that no script reads."""
        if not self._may_set_cookies:
            raise RequestError(
                "forbidden", "cookies: not where BROADCAST_ORIGINS is *, since every page would send them"
            )
        grant, token = self._grant_of(request), bearer_token(request.headers.get("authorization"))
        if token is None or grant.expires_at is None:
            raise RequestError("unauthorized", "Authorization: expected Bearer and a token")
        if len(token) > COOKIE_CHARS_MAX:
            raise RequestError(
                "too_large",
                f"cookies: a browser keeps none of more than 4,096 characters, and this token has {len(token):,}; "
                "name fewer types in it",
            )
        cookie = cookie_of(token, max_age_s=int(grant.expires_at - time.time()), is_https=_is_https(request))
        told = {"sub": grant.subject, "exp": int(grant.expires_at), "types": list(grant.filter.patterns)}
        return JSONResponse(told, headers={"Set-Cookie": cookie, "Cache-Control": "no-store"})

    async def end(self, request: Request) -> Response:
        """Take the cookie away."""
        answer = Response(status_code=204, headers={"Cache-Control": "no-store"})
        for cookie in cleared_cookies(is_https=_is_https(request)):
            answer.headers.append("Set-Cookie", cookie)
        return answer


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"
