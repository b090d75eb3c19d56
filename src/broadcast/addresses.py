"""Where Redis or Valkey is, as people write it. Pure: the only parser of such addresses, for emitter and readers.

redis://[user:password@]host[:port][/db]              one server; also valkey://
rediss://…                                            with TLS; also valkeys://
unix://[user:password@]/path/to/socket[?db=0]         a socket on this machine
redis+sentinel://[user:password@]host[:port],…/name[/db]   the master that Sentinels name
redis+cluster://[user:password@]host[:port],…         the node that holds the stream

`rediss+sentinel://` and `rediss+cluster://` speak TLS to everybody. What a URL has no place for stands behind `?`:
`sentinel_username`, `sentinel_password` (the account before the hosts is the servers') and `sentinel_ssl` (true or
false, where the Sentinels differ from the servers), and redis-py's `ssl_ca_certs`, `ssl_certfile` and so on.
"""

from __future__ import annotations

# No urllib: its import would take a tenth of what a mind waits for `import broadcast`.
from re import ASCII, compile, split
from typing import Final, Literal, NamedTuple

from broadcast.errors import SettingError

__all__ = ["Address", "parse_address"]

Kind = Literal["server", "sentinel", "cluster"]

_SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
}
_DEFAULT_PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password", "sentinel_ssl")
_YES_OR_NO: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_ESCAPED: Final = compile(rb"%([0-9A-Fa-f]{2})")
_TO_ESCAPE: Final = compile(rb"[^A-Za-z0-9_.~-]")
_PLACE: Final = compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]*))(?::(\d{0,5}))?", ASCII)


class Address(NamedTuple):
    """A parsed address."""

    kind: Kind
    url: str
    """For one server, what redis-py understands; else the address as it was given."""
    scheme: str = "redis"
    """`redis` or `rediss`: how the servers behind Sentinels or in a cluster are spoken to."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Sentinels, or nodes of the cluster to ask first."""
    service: str = ""
    """The name that Sentinels know the master by."""
    db: int = 0
    username: str = ""
    password: str = ""
    sentinel_scheme: str = "redis"
    sentinel_username: str = ""
    sentinel_password: str = ""
    tls: tuple[tuple[str, str], ...] = ()
    """What redis-py is told of certificates, where TLS is spoken."""

    def server_url(self, host: str, port: int) -> str:
        """The address of one server of a Sentinel's or a cluster's, as redis-py understands it."""
        return f"{self._url(self.scheme, self.username, self.password, host, port)}/{self.db}{self._query(self.scheme)}"

    def sentinel_url(self, host: str, port: int) -> str:
        """The address of one Sentinel, as redis-py understands it."""
        scheme = self.sentinel_scheme
        url = self._url(scheme, self.sentinel_username, self.sentinel_password, host, port)
        return f"{url}{self._query(scheme)}"

    @staticmethod
    def _url(scheme: str, username: str, password: str, host: str, port: int) -> str:
        account = f"{_quote(username)}:{_quote(password)}@" if password else ""
        return f"{scheme}://{account}{f'[{host}]' if ':' in host else host}:{port}"

    def _query(self, scheme: str) -> str:
        if scheme != "rediss" or not self.tls:
            return ""
        return "?" + "&".join(f"{name}={_quote(value)}" for name, value in self.tls)

    def __repr__(self) -> str:
        return f"Address({self.shown()!r})"

    def shown(self) -> str:
        """The address without its account and without what its options are set to, for people and logs."""
        place, mark, query = self.url.partition("?")
        head, at, tail = place.rpartition("@")
        shown = f"{head.partition('://')[0]}://…@{tail}" if at else place
        names = [part.partition("=")[0] for part in query.split("&")]
        return shown + mark + "&".join(f"{name}=…" if name.isidentifier() else "…" for name in names if mark)


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        SettingError: it is none; the text says which part is wrong, without the password.
    """
    given, separator, rest = text.strip().partition("://")
    scheme = _SCHEMES.get(given)
    if not separator or scheme is None:
        raise SettingError(f"expected an address that begins with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    try:
        return _parsed(given, scheme, text.strip(), rest)
    except SettingError:
        if "@" in rest and "@" not in split("[/?#]", rest)[0]:
            # What was taken for a host is the beginning of an account: it is not shown.
            told = "account: a /, a ? and a # in it are written as %2F, %3F and %23; else the address ends there"
            raise SettingError(told) from None
        raise


def _parsed(given: str, scheme: str, text: str, rest: str) -> Address:
    if given.endswith("+sentinel"):
        return _many("sentinel", scheme, text, rest)
    if given.endswith("+cluster"):
        return _many("cluster", scheme, text, rest)
    return _one(scheme, rest)


def _one(scheme: str, rest: str) -> Address:
    url = f"{scheme}://{rest}"
    place, slash, path = rest.partition("?")[0].partition("/")
    if scheme == "unix":
        if not slash:
            raise SettingError("unix:// wants the path of a socket behind it")
        return Address("server", url, scheme)
    account, _, place = place.rpartition("@")
    if any(each in account for each in "#[]"):
        raise SettingError("account: what is no letter or digit is written as %23 (that is a #)")
    host, port = _host_and_port(place)
    if not host or port == 0:
        raise SettingError("port: expected 1 to 65535" if host else "host: there is none")
    if path.strip("/") and not path.strip("/").isdigit():
        raise SettingError(f"database: expected a number behind the host, got {path.strip('/')[:40]!r}")
    return Address("server", url, scheme)


def _many(kind: Literal["sentinel", "cluster"], scheme: str, url: str, rest: str) -> Address:
    place, _, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    account, _, listed = netloc.rpartition("@")
    username, _, password = account.partition(":")
    hosts = tuple(_host(each, _DEFAULT_PORTS[kind]) for each in listed.split(",") if each.strip())
    if not hosts:
        raise SettingError("hosts: there is none")
    service, _, db = path.partition("/")
    if kind == "cluster":
        if path.strip("/") not in ("", "0"):
            raise SettingError("a cluster has only database 0")
        service, db = "", ""
    elif not service:
        raise SettingError("the name that the Sentinels know the master by is missing: redis+sentinel://host/name")
    if db and not db.isdigit():
        raise SettingError(f"database: expected a number behind the name, got {db[:40]!r}")
    given = _given(query, of_sentinels=kind == "sentinel")
    return Address(
        kind=kind,
        url=url,
        scheme=scheme,
        hosts=hosts,
        service=_unquote(service),
        db=int(db or 0),
        username=_unquote(username),
        password=_unquote(password),
        sentinel_scheme=_sentinel_scheme(scheme, given),
        sentinel_username=given.get("sentinel_username", ""),
        sentinel_password=given.get("sentinel_password", ""),
        tls=tuple((name, value) for name, value in given.items() if name.startswith("ssl_")),
    )


def _given(query: str, *, of_sentinels: bool) -> dict[str, str]:
    """What stands behind `?`. Not urllib's parser, to which a `+` in a password is a space."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    for name, _, _ in pairs:
        if not name.startswith("ssl_") and not (of_sentinels and name in _OF_SENTINELS):
            known = ", ".join([*(_OF_SENTINELS if of_sentinels else ()), "ssl_…"])
            raise SettingError(f"behind the ?: expected {known}, got {name[:40]!r}")
    return {name: _unquote(value) for name, _, value in pairs}


def _sentinel_scheme(scheme: str, given: dict[str, str]) -> str:
    if "sentinel_ssl" not in given:
        return scheme
    spoken = _YES_OR_NO.get(given["sentinel_ssl"].lower())
    if spoken is None:
        raise SettingError(f"sentinel_ssl: expected true or false, got {given['sentinel_ssl'][:40]!r}")
    return "rediss" if spoken else "redis"


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, port = _host_and_port(text.strip())
    if not host:
        raise SettingError(f"host {text.strip()[:60]!r}: expected host or host:port")
    return host, port or default_port


def _host_and_port(text: str) -> tuple[str, int | None]:
    found = _PLACE.fullmatch(text)
    if found is None or not text.isprintable() or any(each in text for each in " #%\\"):
        raise SettingError(
            f"host and port: expected HOST or HOST:PORT, the port from 1 to 65535, or [ADDRESS]:PORT, got {text[:60]!r}"
        )
    port = int(found[3]) if found[3] else None
    if port is not None and port > 65535:
        raise SettingError(f"host and port: expected HOST or HOST:PORT, the port from 1 to 65535, got {port}")
    return (found[1] or found[2]).lower(), port


def _unquote(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), raw).decode("utf-8", "replace")


def _quote(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return _TO_ESCAPE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")
