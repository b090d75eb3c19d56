"""Whose request it is when a proxy brings it. Pure.

What a proxy says about its client stands in headers that anybody can send. So they count only where the connection
comes from an address that is listed, and of the chain they tell only the end that listed proxies have written: it is
read from the right, up to the first address that is not listed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from broadcast.errors import SettingError

__all__ = ["FORWARDED", "Proxies", "is_proxied"]

FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers that tell that a proxy was there."""
HOPS_MAX: Final = 32
CHARS_MAX: Final = 4096
SILENT: Final = " (proxy)"
"""Behind the address of a proxy that says nothing of whose request it is."""

# An element of RFC 7239, and a pair in it; a text in quotation marks may hold commas and semicolons.
# Both are fed only what leaves them no second way to read it: a `"` that is never closed would have them try from each.
_CLOSED: Final = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*')
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^";,\s]*)\s*(?:;|$)')


class Proxies:
    """The proxies that are believed.

    Args:
        trusted: addresses and networks, `127.0.0.1`, `10.0.0.0/8`.

    Raises:
        SettingError: one of them is none.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for text in trusted:
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise SettingError(
                    f"BROADCAST_TRUSTED_PROXIES: expected addresses and networks such as 127.0.0.1,10.0.0.0/8, "
                    f"got {text[:60]!r}"
                ) from None

    def trusts(self, address: str) -> bool:
        """Whether this is one of them."""
        if not self._networks:
            return False
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    @staticmethod
    def stands_for_all(address: str) -> bool:
        """Whether this, which `client` said, is a proxy's that says nothing of whose request it is.

        Such a one stands for all who come by it, so that it has no share as an address has. One whose headers say two
        things, or that names a proxy, is counted as any address: it may be its client who wrote that.
        """
        return address.endswith(SILENT)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address that a request comes from.

        Args:
            peer: the other side of the connection.
            headers: the request's, names in lower case; of a name that came more than once, all values between commas.
        """
        if not self.trusts(peer):
            return peer
        by_habit, by_standard = headers.get("x-forwarded-for", ""), headers.get("forwarded", "")
        if by_habit and by_standard:
            return peer  # a proxy writes one of them; who wrote the other cannot be known
        hops = _listed(by_habit) if by_habit else _hops(by_standard)
        if by_standard and not hops:
            return peer  # so long that its client has written most of it
        address = f"{peer}{SILENT}"  # what it wrote itself, last of all, may say that it does not tell
        for hop in reversed(hops[-HOPS_MAX:]):
            parsed = _parsed(_without_port(hop.strip()))
            if parsed is None:
                return address  # whoever wrote this, what stands before it is worth no more
            address = str(parsed)
            if not self.trusts(address):
                return address
        return address

    def is_secure(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Whether a listed proxy says that a request has come to it by TLS; see `client`."""
        return self.trusts(peer) and headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower() == "https"

    def apply(self, scope: MutableMapping[str, Any]) -> None:
        """Put into a request's ASGI scope whose it is, and how it came."""
        peer, port = scope.get("client") or ("", 0)
        if not self.trusts(peer):
            return
        headers = _joined(scope["headers"])
        scope["client"] = (self.client(peer, headers), port)
        if self.is_secure(peer, headers):
            scope["scheme"] = "https"


def is_proxied(headers: Iterable[str]) -> bool:
    """Whether a request with these headers has come through a proxy that says so."""
    return not frozenset(FORWARDED).isdisjoint(headers)


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        if name in (b"x-forwarded-for", b"forwarded", b"x-forwarded-proto"):
            key, text = name.decode(), value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def _listed(text: str) -> list[str]:
    # The first of what is left of a text that was cut is no whole address, but may look like one.
    return text.split(",") if len(text) <= CHARS_MAX else text[-CHARS_MAX:].split(",")[1:]


def _hops(forwarded: str) -> list[str]:
    """What `for` says in each element; nothing readable for an element without it."""
    if len(forwarded) > CHARS_MAX or not forwarded:
        return []
    return [_for(element) for element in _elements(forwarded)]


def _elements(forwarded: str) -> list[str]:
    """What stands between the commas; a quotation mark that is never closed parts, too."""
    found = _CLOSED.match(forwarded)
    end = found.end() if found else 0
    rest = forwarded[end:].replace('"', ",").split(",")
    return [*_ELEMENT.findall(forwarded[:end]), *(element for element in rest if element)]


def _for(element: str) -> str:
    pairs: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None or match[1].lower() in pairs:
            return ""
        pairs[match[1].lower()] = match[2].strip('"')
        at = match.end()
    return pairs.get("for", "")


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in address:  # a zone is any text at all
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
