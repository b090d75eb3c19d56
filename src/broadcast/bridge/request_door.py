"""Who asks over HTTP: every route that needs a grant gets it here."""

from __future__ import annotations

import time

from starlette.requests import Request

from broadcast.bridge.access import Access
from broadcast.bridge.credentials import token_of
from broadcast.bridge.grant import Grant
from broadcast.bridge.quotas import Quotas
from broadcast.bridge.rights import Rights
from broadcast.bridge.throttle import refuse_flood

__all__ = ["RequestDoor"]


class RequestDoor:
    """Finds the grant of a request.

    Args:
        access: who may do what.
        rights: what viewers may do besides; what routes refuse is counted with what they refuse.
        quotas: how many requests a token may send.
        takes_cookies: whether a cookie counts where a request only reads.
    """

    def __init__(
        self,
        access: Access,
        rights: Rights,
        quotas: Quotas,
        *,
        takes_cookies: bool,
    ) -> None:
        self.rights = rights
        self.takes_cookies = takes_cookies
        self.has_tokens = access.has_secrets
        """Whether there are tokens at all."""
        self.seal_key = access.seal_key
        self._access = access
        self._quotas = quotas

    def grant_of(self, request: Request, *, only_reads: bool = False, waits: bool = False) -> Grant:
        """What a request's token allows, or what is allowed without one.

        Args:
            request: it is counted, too.
            only_reads: whether it is a GET that changes nothing, for which a cookie will do.
            waits: whether it is answered nothing before the log has been read, and that is not before it is known
                which tokens are revoked.

        Raises:
            RequestError: it needs a token, has one that is not valid or may be revoked, or there were too many
                requests with it.
        """
        may_be_cookie, is_https = only_reads and self.takes_cookies, request.url.scheme == "https"
        token = token_of(request.headers, may_be_cookie=may_be_cookie, is_https=is_https)
        grant = self._access.grant(token)
        if not waits:
            self._access.refuse_early(grant)
        if grant.token_id is not None:
            refuse_flood(self._quotas, f"token {grant.token_id}", time.monotonic())
        return grant

    def refuse_ended(self, grant: Grant) -> None:
        """As `Access.refuse_ended`, for a request whose answer takes long."""
        self._access.refuse_ended(grant)
