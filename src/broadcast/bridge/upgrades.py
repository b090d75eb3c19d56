"""Requests to upgrade to a WebSocket: they pass no middleware, so what stands in front of every other route is here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from broadcast.bridge.admission import Admission
from broadcast.bridge.credentials import IN_ADDRESS, has_secret_in_address
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.engine.polling import Refusal
from broadcast.bridge.guard import GuardPolicy
from broadcast.bridge.proxies import Proxies, is_proxied
from broadcast.bridge.quotas import Quotas
from broadcast.bridge.throttle import refuse_flood
from broadcast.errors import CODES, Code, RequestError

__all__ = ["Upgrades", "worded"]


class Upgrades:
    """Decides about them as `Guard` and `Throttle` do about other requests, and as the door does about connections.

    Args:
        policy: which Host and Origin are let in.
        proxies: who is believed about whose request it is.
        admission: counts what a proxy brings; its own connections it has counted already.
        quotas: how many requests an address may send.
        is_tls: whether this server speaks TLS itself.
        on_refused: told of each refusal.
    """

    def __init__(
        self,
        policy: GuardPolicy,
        proxies: Proxies,
        admission: Admission,
        quotas: Quotas,
        *,
        is_tls: bool,
        on_refused: Callable[[Code], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._proxies = proxies
        self._admission = admission
        self._quotas = quotas
        self._is_tls = is_tls
        self._on_refused = on_refused

    def refusal(self, peer: str, target: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is refused; None lets it in, and counts it.

        Args:
            peer: the other side of its connection.
            target: its path and query as they came.
            headers: names in lower case; of a name that came more than once, all values between commas.
        """
        if has_secret_in_address(target.partition("?")[2]):
            self._on_refused(CODES["bad_request"])
            return (400, 3, IN_ADDRESS)
        code = self._policy.refusal(
            host=headers.get("host"),
            origin=headers.get("origin"),
            is_proxied=is_proxied(headers),
            is_secure=self._is_tls or self._proxies.is_secure(peer, headers),
        )
        code = code or self._flood(peer, self._proxies.client(peer, headers))
        if code is None:
            return None
        self._on_refused(code)
        return worded(code)

    def _flood(self, peer: str, address: str) -> Code | None:
        if self._proxies.stands_for_all(address):  # it says of nobody whose request it is: it stands for all
            return None
        try:
            refuse_flood(self._quotas, f"address {network_of(address)}", time.monotonic())
        except RequestError as error:
            return error.code
        is_brought = self._proxies.trusts(peer)
        if is_brought and self._admission.enter_by_proxy(address, asyncio.get_running_loop().time()) is not None:
            return CODES["too_many_connections"]
        return None


def worded(code: Code) -> Refusal:
    """A refusal as Engine.IO's clients are told it."""
    return (code.http_status, 4, f"{code.name}: {code.meaning}")
