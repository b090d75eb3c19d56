"""Viewers that come back by themselves, whatever happens, and account for every event of a counter.

Event `i` has the type `n.0`, `n.1` or `n.2`, by its remainder.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

import aiohttp

from tests.viewers import RawViewer, raw_viewer

__all__ = ["FILTERS", "WAYS", "Resumer", "type_of"]

WAYS: Final = ("websocket", "polling", "sse", "upgrade")
FILTERS: Final = ("n.*", "n.0", "n.*,-n.1", "*")
PERIOD: Final = 3


def type_of(i: int) -> str:
    return f"n.{i % PERIOD}"


class Resumer:
    """One viewer.

    Args:
        url: the bridge's.
        way: a transport.
        types: its filter, one of `FILTERS`.
        random: decides how long it waits before it comes back.
    """

    def __init__(self, url: str, way: str, types: str, random: Random) -> None:
        self.url = url
        self.way = way
        self.types = types
        self.random = random
        self.last = -1
        """The newest number it has had."""
        self.had = 0
        self.faults: list[str] = []
        self.gaps: list[dict[str, Any]] = []
        self.connects = 0
        self.replays = 0
        """How many it has asked for that were not acknowledged yet: what was had may come again."""
        self.viewer: RawViewer | None = None
        self.stalled_s = 0.0
        self._place: dict[str, Any] | None = None
        self._epoch: str | None = None
        self._lost: float = 0
        """Events of the log that the gaps since the last event account for."""
        self._begins_again = False
        """A log was rewound or reset: its tail may be appended, and so come, once more."""
        self._trace: list[str] = []

    def __repr__(self) -> str:
        return f"{self.way} {self.types} at {self.last}, {self.connects} connects, {self.gaps[-3:]}"

    def wants(self, i: int) -> bool:
        kind = type_of(i)
        return {"n.*": True, "*": True, "n.0": kind == "n.0", "n.*,-n.1": kind != "n.1"}[self.types]

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            try:
                async with raw_viewer(self.url, self.way, types=self.types, since=self._place or "0") as viewer:
                    self.viewer = viewer
                    self.connects += 1
                    self.replays = 0
                    self._trace.append(f"connect from {self._place}")
                    while (told := await viewer.next()) is not None:
                        viewer.had.clear()
                        self._note(*told)
                        if self.stalled_s:
                            stalled_s, self.stalled_s = self.stalled_s, 0.0
                            await asyncio.sleep(stalled_s)
            except (aiohttp.ClientError, OSError, RuntimeError):
                pass
            await asyncio.sleep(self.random.uniform(0.02, 0.3))

    def _note(self, name: str, data: Any) -> None:
        if name == "hello":
            self._epoch = data["epoch"]
        elif name == "position":
            self._place, self._epoch = data, data["epoch"]
        elif name == "gap":
            self.gaps.append(data)
            self._trace.append(f"gap {data}")
            self._lost += float("inf") if data["lost"] is None else data["lost"]
            self._begins_again = self._begins_again or data["reason"] in ("rewound", "reset")
        elif name == "ack":
            self.replays -= 1
        elif name == "event" and "i" in data["data"]:
            self._note_event(data)

    def _note_event(self, event: dict[str, Any]) -> None:
        i = event["data"]["i"]
        if i <= self.last:
            if not (self.replays or self._begins_again):
                self._fault(f"{i} came behind {self.last}")
            return
        missing = [j for j in range(self.last + 1, i) if self.wants(j)]
        if len(missing) > self._lost:
            self._fault(f"{i} came behind {self.last}, and {self._lost} were told to be lost")
        if not self.wants(i):
            self._fault(f"{i} was not wanted")
        self.last, self._lost, self._begins_again = i, 0, False
        self.had += 1
        self._place = {"id": event["id"], "n": event.get("n"), "epoch": self._epoch}
        self._trace = [*self._trace[-8:], f"event {i} at {event['id']} n {event.get('n')}"]

    def _fault(self, what: str) -> None:
        if len(self.faults) < 3:
            self.faults.append(f"{self.way} {self.types}: {what}; {self._trace[-9:]}")
