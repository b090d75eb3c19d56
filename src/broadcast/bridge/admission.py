"""How many connections there may be: in all, from one address, and how many new ones a second. Pure.

An address is counted with those that are one with it: see `network_of`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from broadcast.bridge.engine.allowance import Allowance
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.quotas import Quotas

__all__ = ["LINGERING_MAX", "Admission"]

TOO_FAST: Final = "too many new connections at once from this address"
LINGERING_MAX: Final = 64
"""So many that are refused may stay until they have asked, and hear why; more are cut."""


class Admission:
    """Counts connections.

    Args:
        connections_max: in all; 0 for no limit.
        per_address_max: from one address; 0 for no limit.
        rate: new ones per second, in the long run; 0 for no limit. A second's worth may come at once.
        rate_per_address: the same for each address.
        is_proxy: whether an address is that of a proxy, behind which are many; its viewers are counted elsewhere.
    """

    def __init__(
        self,
        *,
        connections_max: int,
        per_address_max: int,
        rate: float,
        rate_per_address: float = 0,
        is_proxy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.connections = 0
        self.lingering = 0
        self.refused: Counter[str] = Counter()
        """How many were refused, by reason."""
        self._connections_max = connections_max or float("inf")
        self._per_address_max = per_address_max or float("inf")
        self._from: Counter[str] = Counter()
        self._is_proxy = is_proxy
        self._rates = Quotas(rate_per_address * 60, burst=max(1.0, rate_per_address))
        self._allowance = Allowance(rate=rate, burst=max(1.0, rate))

    def enter(self, address: str, now_s: float) -> str | None:
        """Let in one more connection, which is there until `leave`; one that is refused takes nobody's place.

        Returns:
            Why it is refused, None if it is let in.
        """
        refusal = self._refusal(address, now_s)
        if refusal is not None:
            self.refused[refusal] += 1
        else:
            self.connections += 1
            self._from[network_of(address)] += 1
        return refusal

    def enter_by_proxy(self, address: str, now_s: float) -> str | None:
        """Count what a proxy brings for one of its clients, on a connection that is counted as the proxy's own.

        Returns:
            Why it is refused, None if it is let in.
        """
        if not self._is_too_fast(address, now_s):
            return None
        self.refused[TOO_FAST] += 1
        return TOO_FAST

    def leave(self, address: str) -> None:
        """One that was let in is gone."""
        self.connections -= 1
        network = network_of(address)
        self._from[network] -= 1
        if not self._from[network]:
            del self._from[network]

    def linger(self) -> bool:
        """Whether one that was refused may stay a moment; it does until `stop_lingering`."""
        if self.lingering >= LINGERING_MAX:
            return False
        self.lingering += 1
        return True

    def stop_lingering(self) -> None:
        """One that was refused is gone."""
        self.lingering -= 1

    def _refusal(self, address: str, now_s: float) -> str | None:
        if self.connections >= self._connections_max:
            return "too many connections"
        if self._from[network_of(address)] >= self._per_address_max and not self._is_proxy(address):
            return "too many connections from this address"
        if self._is_too_fast(address, now_s):
            return TOO_FAST
        return None if self._allowance.has(1, now_s) else "too many new connections at once"

    def _is_too_fast(self, address: str, now_s: float) -> bool:
        return not self._is_proxy(address) and self._rates.wait_s(network_of(address), now_s, cost=1) > 0
