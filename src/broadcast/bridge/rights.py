"""What viewers may do beyond seeing events: be here at all, read the past again, and present a fresh token."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from broadcast.bridge.access import Access
from broadcast.bridge.engine.network import network_of
from broadcast.bridge.grant import Grant
from broadcast.bridge.quotas import Places, Quotas
from broadcast.bridge.refusals import Refusals
from broadcast.errors import RequestError

if TYPE_CHECKING:
    from broadcast.bridge.cursor import Cursor

__all__ = ["TIMED_PER_HOLDER_MAX", "Rights", "holder_of"]

TIMED_PER_HOLDER_MAX: Final = 8
"""Timed replays of one token, or of one address that has none."""


class Rights:
    """The limits of each token and each address (see `network_of`), and the tokens themselves.

    Args:
        access: who may do what; None knows no tokens.
        per_token_max: connections of one token; 0 for no limit.
        per_address_max: connections from one address; 0 for no limit.
        replay_per_minute: events of the past that one token may ask for, per minute; 0 for no limit.
        refusals: where what is refused is counted; None: it is nobody else's business.
        now_s: a monotonic clock, seconds.
    """

    def __init__(
        self,
        access: Access | None = None,
        *,
        per_token_max: int = 0,
        per_address_max: int = 0,
        replay_per_minute: float = 0,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refusals = refusals or Refusals()
        self._access = access
        self._of_token = Places(per_token_max)
        self._of_address = Places(per_address_max)
        self._timed = Places(TIMED_PER_HOLDER_MAX)
        self._replays = Quotas(replay_per_minute)
        self._now_s = now_s

    # --- being here

    def enter(self, cursor: Cursor) -> bool:
        """Count a viewer, also one that finds no place: False then. It is counted until `leave`."""
        token_id = cursor.grant.token_id
        has_place = token_id is None or self._of_token.enter(token_id)
        return self._of_address.enter(_address_of(cursor)) and has_place

    def leave(self, cursor: Cursor) -> None:
        """It is gone."""
        if cursor.grant.token_id is not None:
            self._of_token.leave(cursor.grant.token_id)
        self._of_address.leave(_address_of(cursor))

    def viewers_from(self, address: str) -> int:
        """How many viewers an address has."""
        return self._of_address.taken(network_of(address))

    def refuse_crowd(self, grant: Grant, address: str) -> None:
        """Say before a viewer is made that there is no place for it.

        Raises:
            RequestError: its token or its address has as many as it may.
        """
        has_token_room = grant.token_id is None or self._of_token.has_room(grant.token_id)
        if not (has_token_room and self._of_address.has_room(network_of(address))):
            whose = "from this address" if has_token_room else "with this token"
            raise RequestError("too_many_connections", f"there are as many connections {whose} as may be")

    # --- a fresh token

    def renewed(self, cursor: Cursor, token: str) -> Grant:
        """What a fresh token allows that a viewer presents; it is counted with this one from here on.

        Raises:
            RequestError: it is not valid, or has as many connections as it may.
        """
        if self._access is None:
            raise RequestError("unauthorized", "token: none is valid here")
        grant, old = self._access.renewed(token), cursor.grant.token_id
        new = grant.token_id
        if new is not None and new != old:
            if not self._of_token.has_room(new):
                raise RequestError("too_many_connections", "there are as many connections with this token as may be")
            self._of_token.enter(new)
            if old is not None:
                self._of_token.leave(old)
        return grant

    # --- the past

    def begin_timed(self, cursor: Cursor) -> Callable[[], None]:
        """Count a timed replay of a viewer's.

        Returns:
            What ends it: it stays that of the token that it was begun with.

        Raises:
            RequestError: its token, or its address if it has none, has as many as it may.
        """
        holder = holder_of(cursor.grant, _address_of(cursor))
        if not self._timed.has_room(holder):
            raise RequestError("too_many_requests", f"there are {TIMED_PER_HOLDER_MAX} timed replays of yours already")
        self._timed.enter(holder)
        return partial(self._timed.leave, holder)

    def refuse_replay(self, cursor: Cursor) -> None:
        """Look whether it may have more of the past just now.

        Raises:
            RequestError: it has had too much of it lately.
        """
        self.refuse_past(holder_of(cursor.grant, _address_of(cursor)))

    def past_wait_s(self, cursor: Cursor) -> float:
        """How long it has to wait for more of the past, seconds; 0 for not at all."""
        return self._replays.wait_s(holder_of(cursor.grant, _address_of(cursor)), self._now_s())

    def note_replayed(self, cursor: Cursor, events: int) -> None:
        """It was given so many events of the past."""
        self.note_past(holder_of(cursor.grant, _address_of(cursor)), events)

    def refuse_past(self, holder: str) -> None:
        """As `refuse_replay`, for whoever is no viewer.

        Raises:
            RequestError: it has had too much of the past lately.
        """
        wait_s = self._replays.wait_s(holder, self._now_s())
        if wait_s > 0:
            raise RequestError(
                "too_many_requests", f"too much of the past for now; again in {wait_s:.0f} s", retry_after_s=wait_s
            )

    def note_past(self, holder: str, events: int) -> None:
        """As `note_replayed`, for whoever is no viewer."""
        self._replays.take(holder, events, self._now_s())


def holder_of(grant: Grant, address: str) -> str:
    """Who is counted: a token, or where there is none, an address."""
    return f"address {network_of(address)}" if grant.token_id is None else f"token {grant.token_id}"


def _address_of(cursor: Cursor) -> str:
    return network_of(str(cursor.connection.describe().get("address", "")))
