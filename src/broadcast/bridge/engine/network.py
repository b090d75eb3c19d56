"""Which addresses are counted as one. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

__all__ = ["network_of"]

PREFIX_BITS: Final = 64
"""Whoever has one IPv6 address has all of its /64 (RFC 6177, RFC 7421): as a household behind one IPv4 address."""


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What an address is counted under: the first half of an IPv6 address, an IPv4 address itself.

    Args:
        address: as a socket or a proxy tells it; what is none is counted under itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, PREFIX_BITS), strict=False))
