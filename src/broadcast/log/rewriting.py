"""Erasing in the stream: Redis cannot change an entry, so a copy with blanks takes the stream's place.

Deleting entries would not do: readers count them, and Redis only marks them as deleted and keeps their bytes. The copy
is made page by page, while events flow; only the last step, with what came meanwhile, is one step for Redis.
"""

from __future__ import annotations

import os
from importlib.resources import files
from typing import Any, Final, cast

import orjson
from redis.exceptions import RedisError, ResponseError

from broadcast.errors import BroadcastError, UnreachableError
from broadcast.log.entry import decode_entry
from broadcast.log.erasure import Erasure, blank
from broadcast.log.position import START, EntryId, parse_id
from broadcast.log.servers import Servers

__all__ = ["StreamEraser"]

PAGE_ENTRIES: Final = 500
TRIES_MAX: Final = 5
COPY_TTL_S: Final = 600
"""If we are killed, the half copy goes by itself."""
TIMEOUT_S: Final = 30.0


class StreamEraser:
    """Erases in one stream.

    Args:
        url: where Redis listens.
        stream: the stream's key.
        erasure: what.

    Raises:
        SettingError: the address is none.
    """

    def __init__(self, url: str, stream: str, erasure: Erasure) -> None:
        self._servers = Servers(url, stream, name="erase", timeout_s=TIMEOUT_S)
        self._stream, self._log_key = stream, f"{{{stream}}}:log"
        self._erasure = erasure
        self.end: EntryId | None = None
        """The stream's last id at the last look: what comes behind it is not meant. None: there was no stream."""
        self.newest = START
        """The newest entry that was there."""
        self.epoch: str | None = None
        """The log that was looked at."""
        self.unread: set[EntryId] = set()
        """Entries that are no events, and may be meant or not: nobody can tell their type."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def count(self) -> int:
        """How many entries are meant, up to the newest one now.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
        """
        try:
            return len(await self._look())
        except (RedisError, OSError) as error:
            raise _unreachable(error) from error

    async def erase(self) -> int:
        """Put blanks in the place of the entries that are meant, up to the newest one of the last `count`.

        Returns:
            How many were blanked.

        Raises:
            UnreachableError: Redis does not answer, or refuses.
            BroadcastError: the stream changed under us again and again.
        """
        try:
            for _ in range(TRIES_MAX):
                doomed = {} if self.end is None else await self._meant(self.end)
                if not doomed or await self._rewritten(doomed):
                    return len(doomed)
        except (RedisError, OSError) as error:
            raise _unreachable(error) from error
        raise BroadcastError("the stream is being changed by somebody else (XDEL, XTRIM, another erase): try again")

    async def purge(self) -> str:
        """Have the files of Redis written anew, which still hold what was erased.

        Returns:
            What is said of it.
        """
        client = await self._client()
        said: list[str] = []
        for setting, command, name in (
            ("appendonly", "BGREWRITEAOF", "append-only file"),
            ("save", "BGSAVE SCHEDULE", "snapshot"),  # behind the one before it: only one is written at a time
        ):
            try:
                if _value(await client.execute_command("CONFIG", "GET", setting)) not in ("no", ""):
                    await client.execute_command(*command.split())
                    said.append(f"its {name} is being written anew")
            except (RedisError, OSError) as error:
                said.append(f"its {name} may still hold it ({command}: {error})")
        return "; ".join(said) or "it keeps no files"

    # --- the copy

    async def _client(self) -> Any:
        return (await self._servers.located()).client

    async def _look(self) -> dict[EntryId, str]:
        """What is meant, up to the newest entry now; remembers both the log and how far it had come."""
        client = await self._client()
        last = cast("list[Any]", await client.execute_command("XREVRANGE", self._stream, "+", "-", "COUNT", 1))
        self.newest = parse_id(last[0][0].decode()) if last else START
        self.end = await self._last_id(client)
        epoch = await client.execute_command("HGET", self._log_key, "epoch")
        self.epoch = None if epoch is None else _text(epoch)
        return {} if self.end is None else await self._meant(self.end)

    async def _last_id(self, client: Any) -> EntryId | None:
        # Not the newest entry's: that, and all of them, may have been trimmed and be in the archive.
        try:
            facts = cast("dict[str, Any]", await client.xinfo_stream(self._stream))
        except ResponseError as error:
            if "no such key" in str(error).lower():
                return None
            raise
        return parse_id(_text(facts["last-generated-id"]))

    async def _meant(self, end: EntryId) -> dict[EntryId, str]:
        """The ids of what is meant, each with its `ts`."""
        found: dict[EntryId, str] = {}
        at = START
        while rows := await self._page(at, str(end)):
            for raw_id, flat in rows:
                entry = decode_entry(raw_id, _fields(flat), None)
                at = entry.id
                if self._erasure.covers(entry.id, entry.event["type"], entry.event["ts"]):
                    found[entry.id] = entry.event["ts"]
                elif entry.is_malformed and self._erasure.leaves_open(entry.id, entry.event["ts"]):
                    self.unread.add(entry.id)
        return found

    async def _rewritten(self, doomed: dict[EntryId, str]) -> bool:
        """Whether the copy has taken the stream's place; if not, it has changed meanwhile."""
        client = await self._client()
        before, epoch = await client.execute_command("HMGET", self._log_key, "erasures", "epoch")
        copy = f"{{{self._stream}}}:erasing:{os.urandom(4).hex()}"
        at = START
        try:
            while rows := await self._page(at, "+"):
                if len(rows) < PAGE_ENTRIES and at >= max(doomed):
                    break  # left to the script: here it would only grow while we look
                await self._copy(client, copy, rows, doomed)
                at = parse_id(rows[-1][0].decode())
            script = (files("broadcast.log") / "rewrite.lua").read_text("utf-8")
            arguments = (str(at), _text(epoch or b""), _text(before or b"0"))
            problem = await client.eval(script, 3, self._stream, copy, self._log_key, *arguments)
        finally:
            await client.execute_command("UNLINK", copy)
        return not problem

    async def _copy(self, client: Any, copy: str, rows: list[Any], doomed: dict[EntryId, str]) -> None:
        pipe = client.pipeline(transaction=False)
        for raw_id, flat in rows:
            ts = doomed.get(parse_id(raw_id.decode()))
            pipe.execute_command("XADD", copy, raw_id, *(flat if ts is None else _blanked(raw_id, flat, ts)))
        pipe.execute_command("EXPIRE", copy, COPY_TTL_S)
        await pipe.execute()

    async def _page(self, after: EntryId, end: str) -> list[Any]:
        client = await self._client()
        command = ("XRANGE", self._stream, f"({after}", end, "COUNT", PAGE_ENTRIES)
        return cast("list[Any]", await client.execute_command(*command))


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _blanked(raw_id: bytes, flat: list[bytes], ts: str) -> list[bytes]:
    by = decode_entry(raw_id, _fields(flat), None).by
    return [b"event", orjson.dumps(blank(ts)), *([] if by is None else [b"by", by.encode()])]


def _value(reply: Any) -> str:
    """The value in an answer to CONFIG GET of one setting."""
    return _text(cast("list[bytes]", reply)[1]) if reply else ""


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw


def _unreachable(error: Exception) -> UnreachableError:
    refused = isinstance(error, ResponseError)
    return UnreachableError(f"{'Redis refuses' if refused else type(error).__name__}: {error}")
