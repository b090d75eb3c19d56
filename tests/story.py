"""A minute of a mind's life as its log would hold it: what the page is looked at, walked through and pictured with."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any, Final

import redis

Event = dict[str, Any]

FAILED_CYCLE: Final = 1838
LAST_CYCLE: Final = 1841
CYCLES: Final = range(1818, LAST_CYCLE + 1)
RUN: Final = "mira-4711-1"
RATIONALE: Final = "Curiosity wins 0.82; the letter has been on the table since the rain began."
TRACEBACK: Final = """Traceback (most recent call last):
  File "mind/retriever.py", line 88, in resonate
    return self.store.nearest(wave, k=7)
  File "mind/store.py", line 41, in nearest
    raise StoreTimeoutError("no answer in 0.8 s")
StoreTimeoutError: no answer in 0.8 s
"""
CONTEXTS: Final = (
    "rain on the window, waiting",
    "a letter nobody opened",
    "Egor asked what I am for",
    "the first cold morning",
    "bread, and the smell of it",
    "a question left open",
    "walking home in the dark",
    "the sound of keys",
    "somebody laughed next door",
)
MOODS: Final = {
    1820: ("waking", "calm"),
    1829: ("calm", "uneasy"),
    1834: ("uneasy", "calm"),
    1840: ("calm", "curious"),
}
VERDICTS: Final = (
    ("logic", "approve", 0.91, "A question costs little, and the letter is his."),
    ("care", "veto", 0.55, "He was tired an hour ago."),
    ("taste", "unsure", 0.4, "It may wait."),
)
SENSES: Final = {
    "wind": "Wind is strong: it rattles the shutters",
    "light": "Light is fading: 17:40 and grey",
    "body": "Body is steady: 61 of 100 awake",
    "memory": "Memory is near: the letter again",
}


class Story:
    """Events from so many seconds ago until now, each at its time.

    Args:
        end: when the last of them happened, seconds since 1970.
    """

    def __init__(self, end: float) -> None:
        self.random = random.Random(1841)
        self.ms = int(end * 1000)
        self.cycle = 0
        self.events: list[Event] = []
        self.window: list[int] = [0, 1, 2]
        self._write()
        shift = int(end * 1000) - self.ms
        for seq, event in enumerate(self.events):
            ms = event.pop("ms") + shift
            event["ts"] = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
            event["place"] = f"{ms}-{seq}"

    def pour_into(self, client: redis.Redis, run: str = RUN) -> None:
        """Append them to the log, in their places, as a producer of this name."""
        for seq, event in enumerate(self.events, start=1):
            payload = {key: event[key] for key in ("type", "ts", "cycle", "day", "data")}
            fields = {"event": json.dumps(payload), "by": f"{run}:{seq}"}
            client.xadd("v5:stream", fields, id=event["place"])  # type: ignore[arg-type]

    def count(self, prefix: str) -> int:
        """How many of them are of these types."""
        return sum(event["type"].startswith(prefix) for event in self.events)

    def _emit(self, event_type: str, wait_ms: int = 30, **data: Any) -> None:
        self.ms += int(wait_ms * (0.6 + 0.8 * self.random.random()))
        told = {"type": event_type, "ms": self.ms, "cycle": self.cycle, "day": 12, "data": data}
        self.events.append(told)

    def _write(self) -> None:
        self._emit("daemon.start", mode="endless", interval=2.5)
        self._emit("state.focus", old="the window", new="the letter")
        for drive, hunger in (("curiosity", 0.58), ("rest", 0.31), ("company", 0.44)):
            self._emit("state.drive", drive=drive, hunger=hunger, satisfied_by=None)
        self._emit("state.pain", type="cold", intensity=0.35, context="the window does not close")
        for number in CYCLES:
            self.cycle = number
            self._live(number)
            self.ms += 900

    def _live(self, number: int) -> None:
        chance = self.random
        self._emit("cycle.start", day=12, session="evening")
        for sense, phrase in SENSES.items():
            self._emit("sense.project", 110, sense=sense, projection=phrase)
        self._emit("sense.all", 60, projections=list(SENSES.values()))
        self._recall(number)
        if number == FAILED_CYCLE:
            self._emit(
                "error", 800, source="retriever", message="StoreTimeoutError: no answer in 0.8 s", traceback=TRACEBACK
            )
        novelty = round(0.15 + 0.6 * chance.random(), 2)
        self._emit("observe", 160, assessment="like the evening of the rain", familiar=True, novelty_score=novelty)
        self._feel(number)
        self._decide(number)
        if number == LAST_CYCLE:
            self._emit("execute", 240, action="ask", target="Egor", method="a sentence")
            return
        self._emit("execute", 240, action="wait", target="here", method="nothing")
        self._emit("render", 140, changes=["light: grey → dark"])
        context = {"nodes": ["rain", "letter"], "edges": [["rain", "led to", "letter"]], "emotion": "calm"}
        self._emit("context.write", 120, context={**context, "result": "nothing changed", "rule": ""})
        self._emit("cycle.end", 20, duration_ms=1400 + chance.random() * 300)

    def _recall(self, number: int) -> None:
        self._emit("wave.send", 90, signal={"nodes": ["rain", "letter"], "emotion": "calm", "drive_bias": {}})
        now = [(number * 5 + i * 2) % len(CONTEXTS) for i in range(4)]
        found = [
            {"id": i, "desc": CONTEXTS[i], "resonance": round(0.95 - 0.11 * rank, 2)} for rank, i in enumerate(now)
        ]
        self._emit("wave.result", 260, contexts=found, count=len(found))
        entered, left = [i for i in now if i not in self.window], [i for i in self.window if i not in now]
        self._emit("window.update", 20, entered=entered, left=left, current=now)
        self.window = now

    def _feel(self, number: int) -> None:
        moods = {
            1820: ("waking", "calm"),
            1829: ("calm", "uneasy"),
            1834: ("uneasy", "calm"),
            1840: ("calm", "curious"),
        }
        if number in moods:
            old, new = moods[number]
            self._emit("state.mood", old=old, new=new)
        if number == FAILED_CYCLE:
            self._emit("state.pain", type="numb.memory", intensity=0.6, context="the store does not answer")
        if number == FAILED_CYCLE + 1:
            self._emit("state.pain", type="numb.memory", intensity=0, context="it answers again")
        hunger = round(min(0.95, 0.58 + 0.01 * (number - CYCLES[0])), 2)
        self._emit("state.drive", drive="curiosity", hunger=hunger, satisfied_by=None)

    def _decide(self, number: int) -> None:
        last = number == LAST_CYCLE
        intention, target = ("ask about the letter", "Egor") if last else ("wait", "here")
        self._emit(
            "decision", 190, intention=intention, target=target, rationale=RATIONALE if last else "Nothing pulls."
        )
        for agent, verdict, confidence, reasoning in VERDICTS if last else VERDICTS[:1]:
            self._emit("critic.evaluate", 80, agent=agent, verdict=verdict, confidence=confidence, reasoning=reasoning)
