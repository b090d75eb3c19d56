"""The composition root: settings in, an ASGI application out, and the life of everything in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from broadcast.bridge.access import Access
from broadcast.bridge.admission import Admission
from broadcast.bridge.archive_probe import ArchiveProbe
from broadcast.bridge.archive_watch import ArchiveWatch
from broadcast.bridge.engine.engine import Engine
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.engine.polling import Refusal
from broadcast.bridge.fanout import Fanout
from broadcast.bridge.goodbye import waves
from broadcast.bridge.guard import Guard, GuardPolicy
from broadcast.bridge.http import HttpRoutes, with_cors
from broadcast.bridge.ingest import Ingest
from broadcast.bridge.metrics import Metrics
from broadcast.bridge.operator_routes import OperatorRoutes
from broadcast.bridge.past import READS_AT_ONCE
from broadcast.bridge.presence import Presence
from broadcast.bridge.probe import Probe
from broadcast.bridge.proxies import Proxies
from broadcast.bridge.quotas import Quotas
from broadcast.bridge.refusals import Refusals
from broadcast.bridge.request_door import RequestDoor
from broadcast.bridge.revocation import Revocations
from broadcast.bridge.rights import Rights
from broadcast.bridge.ring import Ring
from broadcast.bridge.sockets import Sockets
from broadcast.bridge.throttle import Throttle
from broadcast.bridge.trace import Trace
from broadcast.bridge.upgrades import Upgrades, worded
from broadcast.bridge.viewer import Viewer
from broadcast.bridge.wire import SSE
from broadcast.catalogue import CATALOGUE
from broadcast.errors import CODES, SettingError, UnreachableError
from broadcast.log.cancelling import end_tasks
from broadcast.log.stream import StreamReader
from broadcast.settings import Settings

if TYPE_CHECKING:
    from broadcast.log.archive import Archive

__all__ = ["Bridge"]

_log: Any = structlog.get_logger("broadcast.bridge")
SPARE_CONNECTIONS: Final = 100
IDLE_PER_ADDRESS_MAX: Final = 256
"""So many clients of one address may be about to become viewers: a crowd behind one address that comes back at once."""
LEAVE_S: Final = 1.0
RESTART_S: Final = 1.0


class Bridge:
    """One bridge: give `app` to an ASGI server, between `start` and `stop`.

    Args:
        settings: all of them.

    Raises:
        SettingError: the server would be open to others without anybody having said so.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._revocations = Revocations(settings, on_revoked=self._revoked, on_lost=self._lost_before_it_began)
        self._access = Access(settings, self._revocations.__contains__, knows_revoked=self._revocations.looked.is_set)
        self._reader = StreamReader(settings.redis_url, settings.stream, name="bridge", renews_epoch=True)
        ring = Ring(events_max=settings.ring_events_max, bytes_max=settings.ring_bytes_max)
        self.archive = _archive(settings)
        """The third tier; None where `DATABASE_URL` names none."""
        # Whoever asks for /history takes no connection away from viewers who come back.
        viewers = _archive(settings, "viewers", connections_max=READS_AT_ONCE)
        self.fanout = Fanout(self._reader, ring, waiting_bytes_max=settings.waiting_bytes_max, archive=viewers)
        self.trace = Trace(self.fanout)
        self._proxies = Proxies(settings.trusted_proxies)
        self.admission = Admission(
            # Some are left for health checks, so that a full bridge does not look like a dead one.
            connections_max=settings.connections_max and settings.connections_max + SPARE_CONNECTIONS,
            per_address_max=settings.connections_per_address_max,
            rate=settings.connect_rate,
            rate_per_address=settings.connect_rate_per_address,
            is_proxy=self._proxies.trusts,
        )
        self.refusals = Refusals()
        self._rights = Rights(
            self._access,
            per_token_max=settings.connections_per_token_max,
            per_address_max=settings.connections_per_address_max,
            replay_per_minute=settings.replay_events_per_minute,
            refusals=self.refusals,
        )
        self._quotas = Quotas(settings.requests_per_minute)
        self._ingest = Ingest(settings)
        self.fanout.on_fault = lambda error: _log.error("a viewer failed; it ends alone", exc_info=error)
        self._policy = GuardPolicy(
            frozenset(settings.origins),
            frozenset({settings.host, *settings.hosts}),
            is_closed_to_proxies=self._access.is_unsaid,
        )
        self._presence = Presence(settings)
        self._probe = Probe(self.fanout, ArchiveWatch(self._reader, events_max=settings.stream_events_max))
        self._archive_probe = ArchiveProbe(_archive(settings, "probe", connections_max=1))
        self.metrics = Metrics(
            self.fanout,
            self.admission,
            self._probe,
            archive=self._archive_probe,
            ingest=self._ingest,
            refusals=self.refusals,
        )
        for archive in filter(None, (self.archive, viewers)):
            archive.on_read = self.metrics.note_archive_read
        sockets = Sockets(self.fanout, self._access, rights=self._rights, admit=self._admit, on_gone=self._gone)
        upgrades = Upgrades(
            self._policy,
            self._proxies,
            self.admission,
            self._quotas,
            is_tls=bool(settings.tls_cert),
            on_refused=self.refusals.count,
        )
        self._engine = Engine(
            sockets,
            refuse=self._refuse,
            refuse_upgrade=upgrades.refusal,
            address_of=self._proxies.client,
            on_gone=sockets.gone,
            name=settings.name,
        )
        self._followers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._streams = 0
        """Viewers that are no clients of the engine."""
        self._left = asyncio.Event()
        """Set once nobody is left of those who were told to go."""
        self.app = self._make_app()
        self.socket = self._engine.socket
        """What uvicorn makes of a request to upgrade: its `ws` setting."""

    def _make_app(self) -> Any:
        origins = frozenset(self.settings.origins)
        door = RequestDoor(self._access, self._rights, self._quotas, takes_cookies=not self._policy.any_origin)
        http = HttpRoutes(
            fanout=self.fanout,
            archive=self.archive,
            more=OperatorRoutes(
                fanout=self.fanout, door=door, trace=self.trace, metrics=self.metrics, probe=self._probe
            ).routes(),
            admit=self._admit,
            on_gone=self._gone,
            is_crowded=lambda: self._is_crowded,
            door=door,
            ingest=self._ingest,
        ).make_app()
        sockets: Callable[..., Awaitable[None]] = self._engine.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            is_socket = scope["type"] == "http" and scope["path"].rstrip("/") == "/socket.io"
            await (sockets if is_socket else http)(scope, receive, send)

        throttle = Throttle(
            app, self._quotas, time.monotonic, is_proxy=Proxies.stands_for_all, on_refused=self.refusals.count
        )
        guarded = Guard(
            with_cors(throttle, origins),
            self._policy,
            ends_tls=bool(self.settings.tls_cert),
            on_refused=self.refusals.count,
        )

        async def told_whose(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self._proxies.apply(scope)
            await guarded(scope, receive, send)

        return told_whose

    async def start(self) -> None:
        """Begin to follow the log."""
        self._tell_who_reads()
        self._followers = [
            asyncio.create_task(self._for_ever(self._follow, failed=self.fanout.lost), name="follow the log"),
            asyncio.create_task(self._for_ever(self.fanout.deliver), name="deliver"),
            asyncio.create_task(self._for_ever(self.fanout.look_after), name="look after viewers"),
            asyncio.create_task(self._for_ever(self._presence.follow), name="presence of producers"),
            asyncio.create_task(self._for_ever(self._probe.follow), name="probe"),
            asyncio.create_task(self._look_into_the_archive(), name="look into the archive"),
            asyncio.create_task(self._for_ever(self._archive_probe.follow), name="probe of the archive"),
        ]
        if self._access.has_secrets:
            follow = self._revocations.follow
            self._followers.append(asyncio.create_task(self._for_ever(follow), name="revoked tokens"))

    async def _look_into_the_archive(self) -> None:
        """Learn which logs it has: while it is away, that tells whether something may be missing."""
        if self.archive is not None:
            with suppress(UnreachableError):
                await self.archive.extent(self.fanout.reader.stream)

    def _tell_who_reads(self) -> None:
        types = self._access.anonymous_types
        _log.info("without a token is read", types=types)
        if strange := [each for each in types if each.isidentifier() and each not in CATALOGUE]:
            told = "BROADCAST_ANONYMOUS is taken for a filter of types that the vocabulary does not have; all is `read`"
            _log.warning(told, types=strange)

    def _lost_before_it_began(self, reason: str) -> None:
        if not self.fanout.is_loaded:
            self.fanout.lost(reason)

    async def _follow(self) -> None:
        if self._access.has_secrets:
            await self._revocations.looked.wait()  # nobody is shown anything whose token was revoked before we came
        await self.fanout.follow()

    async def _for_ever(
        self, work: Callable[[], Awaitable[None]], *, failed: Callable[[str], None] = lambda _: None
    ) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave everybody without events
                _log.exception("a part of the bridge failed; it goes on")
                failed(f"fault: {type(error).__name__}")
                await asyncio.sleep(RESTART_S)

    async def stop(self) -> None:
        """Say good-bye to every viewer, wait a moment, and leave those who did not listen."""
        self._stopping = True
        await self._say_good_bye()
        if self.fanout.viewers:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LEAVE_S, self.settings.grace_s / 4)):
                    await self._left.wait()
        for viewer in list(self.fanout.viewers):
            viewer.cut()
        await self._engine.drain(min(LEAVE_S, self.settings.grace_s / 4))
        await self._engine.shutdown()
        self.refusals.tell_left_out()
        await end_tasks(*self._followers)
        await self._reader.aclose()
        await self._ingest.aclose()
        for archive in (self.archive, self.fanout.archive, self._archive_probe):
            if archive is not None:
                await archive.aclose()

    async def _say_good_bye(self) -> None:
        loop = asyncio.get_running_loop()
        viewers, began_s = list(self.fanout.viewers), loop.time()
        for wave in waves(len(viewers), grace_s=self.settings.grace_s):
            if (wait_s := began_s + wave.due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            for viewer in viewers[wave.first : wave.end]:
                viewer.dismiss("shutdown")

    def _admit(self, viewer: Viewer) -> None:
        """Take in a viewer, or send it away."""
        self._streams += viewer.connection.form is SSE
        has_place = self._rights.enter(viewer)
        refusal = "shutdown" if self._stopping else None if has_place else "too_many_connections"
        if refusal is None:
            viewer.begin()
        else:
            self.refusals.count(CODES[refusal])
            viewer.dismiss(refusal)

    def _gone(self, viewer: Viewer) -> None:
        self._streams -= viewer.connection.form is SSE
        self._rights.leave(viewer)
        self.metrics.note_gone(viewer)
        _log.info("viewer gone", **self.trace.note_gone(viewer, now_s=self._engine.now()))
        if self._stopping and not self.fanout.viewers:
            self._left.set()

    def _revoked(self, token_ids: Collection[str]) -> None:
        for viewer in tuple(self.fanout.viewers):
            if viewer.grant.token_id in token_ids:
                viewer.dismiss("revoked")

    def _refuse(self, query: Mapping[str, str], address: str) -> Refusal | None:
        code = None
        if self._stopping:
            code = CODES["shutdown"]  # a proxy in front then asks another bridge
        elif "sid" not in query and (self._is_crowded or self._holds_back_too_many(address)):
            # Whoever upgrades has its place already; a `sid` that nobody has gets none.
            code = CODES["too_many_connections"]
        if code is None:
            return None
        self.refusals.count(code)
        return worded(code)

    def _holds_back_too_many(self, address: str) -> bool:
        """Whether so many clients of one address are no viewers: they have not said what they want, or were told to go.

        Polling sessions need no connection each, so that these would else be as many as there are places.
        """
        if Proxies.stands_for_all(address):  # it says of nobody whose he is: it stands for all
            return False
        most = min(self.settings.connections_per_address_max or IDLE_PER_ADDRESS_MAX, IDLE_PER_ADDRESS_MAX)
        return most <= self._engine.clients_from[network_of(address)] - self._rights.viewers_from(address)

    @property
    def _is_crowded(self) -> bool:
        """Whether there are as many viewers as may be; those that have not said yet what they want count, too."""
        return len(self._engine.clients) + self._streams >= (self.settings.connections_max or float("inf"))


def _archive(settings: Settings, name: str = "bridge", *, connections_max: int = 4) -> Archive | None:
    """The archive to read from.

    Raises:
        SettingError: there is one, and what reads it is not installed.
    """
    if not settings.database_url:
        return None
    try:
        from broadcast.log.archive import Archive
    except ImportError:
        raise SettingError("DATABASE_URL is set, and psycopg is not installed: install the extra `archive`") from None
    return Archive(settings.database_url, name=name, connections_max=connections_max)
