"""What one viewer or producer may do, and until when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from broadcast.filters import Filter
from broadcast.log.position import START, EntryId

__all__ = ["Grant"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows, or what is allowed without one."""

    filter: Filter
    """Enforced here, whatever the viewer subscribes to."""
    subject: str = "anonymous"
    expires_at: float | None = None
    """Seconds since 1970; None for no end."""
    is_admin: bool = False
    """Whether it may see who is connected."""
    emits: Filter | None = None
    """Which types it may emit; None for none at all."""
    token_id: str | None = None
    """The token's identity, by which it is revoked and counted; None without a token."""
    replay_back_s: float | None = None
    """How old an event of the past may be, seconds, by its id; None for no bound."""
    replay_count_max: int | None = None
    """How many of the newest events of the log make up the past that it may ask for; None for no bound."""

    @property
    def may_emit(self) -> bool:
        """Whether it may emit at all."""
        return self.emits is not None

    def earliest(self, now_ns: int) -> EntryId:
        """The smallest id of the past that it may be given, as far as time tells.

        How many events it may be given depends on the log, too: see `Fanout.earliest`.

        Args:
            now_ns: the wall clock.
        """
        if self.replay_back_s is None:
            return START
        return EntryId(max(0, int(now_ns / 1e6 - self.replay_back_s * 1000)), 0)
