"""One private connection to Redis for the sender: no pool, no retries of its own, every wait bounded."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from broadcast.emitter.ledger import Batch

__all__ = ["AppendReply", "LogConnection"]

SOCKET_TIMEOUT_S: Final = 2.0
PRODUCER_TTL_MS: Final = 7 * 24 * 3600 * 1000


class AppendReply(NamedTuple):
    """What `append.lua` answers."""

    stored: int
    """The last seq of this producer that the log holds."""
    epoch: str
    """The log's epoch; empty where the script could not read it."""
    unpublished: int
    """Events of the batch whose PUBLISH failed; they are in the log all the same."""
    error: str
    """Why the batch was not appended whole; empty if it was."""


class LogConnection:
    """A connection that can append. Opens in the constructor; only the sender's thread uses it.

    Args:
        url: where Redis listens.
        stream: the stream's key.
        channel: the pub/sub channel.
        producer: this producer's name.
        stream_events_max: MAXLEN where the log's hash names none.

    Raises:
        Exception: whatever redis-py raises for an address, a refusal or a time-out.
    """

    def __init__(self, url: str, *, stream: str, channel: str, producer: str, stream_events_max: int) -> None:
        # Imported here, in the sender's thread: redis-py pulls in asyncio and ssl, 60 ms that emit() must not pay.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._response_error = redis.ResponseError
        pool = redis.ConnectionPool.from_url(
            url,
            protocol=2,  # RESP3 adds a handshake and push messages, for nothing this connection reads
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            # redis-py would send a batch again by itself, 10 times, with sleeps nobody can interrupt.
            retry=Retry(NoBackoff(), 0),
            socket_keepalive=True,
        )
        self._connection: Any = pool.make_connection()
        self._connection.connect()
        self._keys = (stream, f"{{{stream}}}:log", f"{{{stream}}}:producer:{producer}")
        self._head = (producer, channel, stream_events_max)
        self._script = (files(__package__ or "broadcast.emitter") / "append.lua").read_text("utf-8")
        self._script_sha = ""
        self._load()

    def _load(self) -> None:
        try:
            self._call("CLIENT", "SETNAME", "broadcast-emitter")
        except self._response_error:  # an account that may only append: the name is a courtesy to CLIENT LIST
            pass
        self._script_sha = self._call("SCRIPT", "LOAD", self._script).decode()

    def _call(self, *arguments: Any) -> Any:
        self._connection.send_command(*arguments, check_health=False)
        return self._connection.read_response()

    def append(self, batch: Batch, *, epoch_if_none: str) -> AppendReply:
        """Append a batch, or ask with an empty one how far Redis is.

        Raises:
            Exception: whatever redis-py raises; what Redis has done by then, the next reply tells.
        """
        producer, channel, maxlen = self._head
        hole = "1" if batch.fill_hole else "0"
        arguments = (producer, batch.first, channel, maxlen, epoch_if_none, PRODUCER_TTL_MS, hole)
        try:
            reply = self._call("EVALSHA", self._script_sha, 3, *self._keys, *arguments, *batch.payloads)
        except self._response_error as error:
            if "NOSCRIPT" not in str(error) and "No matching script" not in str(error):
                raise
            self._load()
            reply = self._call("EVALSHA", self._script_sha, 3, *self._keys, *arguments, *batch.payloads)
        stored, epoch, unpublished, failure = reply
        return AppendReply(int(stored), epoch.decode(), int(unpublished), failure.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the socket; never raises."""
        try:
            self._connection.disconnect()
        except Exception:  # noqa: BLE001 - a broken connection may fail in any way while it is being closed
            return
