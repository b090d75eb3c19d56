"""Lives to test with: seeded events of several runs, and what a mind's state is after them, computed from the whole.

The page folds the same events one by one (`web/mind`); `tests/golden/minds.json` holds both to one meaning.

    .venv/bin/python -m tests.lives     # writes the golden file anew
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

GOLDEN: Final = Path(__file__).parent / "golden" / "minds.json"
SEEDS: Final = range(3)
BIRTH: Final = datetime(2026, 2, 14, 19, 1, 23, tzinfo=UTC)
LANES: Final = {
    "sense": "sense",
    "wave": "wave",
    "window": "wave",
    "observe": "observe",
    "decision": "decide",
    "critic": "critics",
    "execute": "act",
    "render": "act",
    "context": "write",
}
Event = dict[str, Any]


class Life:
    """Events of some producers, each living its cycles, interleaved as chance has it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.at = BIRTH
        self.events: list[Event] = []
        self.seqs: dict[str, int] = {}

    def emit(self, run: str, cycle: int, event_type: str, **data: Any) -> None:
        self.at += timedelta(milliseconds=self.random.randrange(1, 90))
        self.seqs[run] = seq = self.seqs.get(run, 0) + 1
        ms = int(self.at.timestamp() * 1000)
        ts = self.at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.at.microsecond // 1000:03d}Z"
        place = {"id": f"{ms}-0", "by": f"{run}:{seq}", "n": len(self.events) + 1}
        self.events.append({"type": event_type, "ts": ts, "cycle": cycle, "day": 3, "data": data, **place})

    def cycle(self, run: str, number: int) -> Iterator[None]:
        """One cycle; it stops where another run may come between."""
        chance = self.random
        self.emit(run, number, "cycle.start", day=3)
        for sense in chance.sample(["wind", "breath", "pain"], 2):
            self.emit(run, number, "sense.project", sense=sense, projection=f"{sense} is felt")
        yield
        nodes = ["rain", "letter"]
        self.emit(run, number, "wave.send", signal={"nodes": nodes, "emotion": "calm"})
        found = [{"id": i, "desc": f"context {i}", "resonance": i / 10} for i in chance.sample(range(9), 3)]
        self.emit(run, number, "wave.result", contexts=found, count=3)
        here = [each["id"] for each in found]
        self.emit(run, number, "window.update", entered=here[:1], left=[chance.randrange(9)], current=here)
        self.emit(run, number, "observe", assessment="as ever", familiar=True, novelty_score=chance.random())
        yield
        if chance.random() < 0.3:
            self.emit(run, number, "error", source="retriever", message=f"slow\n{chance.random()}", traceback="in x")
        for agent in ("thrift", "care"):
            verdict, confidence = chance.choice(["approve", "veto"]), chance.random()
            self.emit(run, number, "critic.evaluate", agent=agent, verdict=verdict, confidence=confidence)
        self.emit(run, number, "decision", intention=chance.choice(["rest", "ask"]), target="here", rationale="why not")
        self.feel(run, number)
        yield
        self.emit(run, number, "execute", action="rest", target="interval", method="slowly")
        if chance.random() < 0.9:
            self.emit(run, number, "cycle.end", duration_ms=chance.random() * 900)

    def feel(self, run: str, number: int) -> None:
        chance = self.random
        mood = chance.choice(["calm", "curious", {"name": "odd"}, None])
        self.emit(run, number, "state.mood", old="?", new=mood)
        if chance.random() < 0.5:
            self.emit(run, number, "state.focus", old="?", new=chance.choice(["wind", "letter"]))
        self.emit(run, number, "state.drive", drive=chance.choice(["rest", "order"]), hunger=chance.random())
        strength = chance.choice([0, 0.0, 0.3, 0.9, "0.5", None])
        self.emit(run, number, "state.pain", type=chance.choice(["strain", "numb"]), intensity=strength, context="it")


def life(seed: int) -> list[Event]:
    """A life of two runs at once, whose numbers collide, and of a third that begins when one has gone."""
    made = Life(seed)
    made.emit("a", 0, "daemon.start", mode="endless", interval=2)
    living = [made.cycle(run, number) for run in ("a", "b") for number in range(1, 5)]
    queues = {"a": living[:4], "b": living[4:]}
    while any(queues.values()):
        run = made.random.choice([name for name, queue in queues.items() if queue])
        if next(queues[run][0], "over") == "over":
            queues[run].pop(0)
        if made.random.random() < 0.1:
            made.emit("c", made.random.randrange(0, 6), "weather.note", sky="clear")
    made.emit("a", 0, "daemon.stop", reason="SIGTERM")
    made.emit("bridge", 0, "broadcast.producer", state="down", producer="b")
    made.emit("bridge", 0, "broadcast.lost", count=7, reason="buffer")
    for _ in made.cycle("d", 1):
        pass
    return made.events


def summary(events: list[Event]) -> dict[str, Any]:
    """What is to be said of the mind after these events."""
    moods, focuses = (_of(events, f"state.{name}") for name in ("mood", "focus"))
    updates = _of(events, "window.update")
    errors = _of(events, "error")
    daemon = [event for event in events if event["type"].startswith("daemon.")]
    return {
        "events": len(events),
        "mood": _text(moods[-1]["data"]["new"]) if moods else None,
        "focus": _text(focuses[-1]["data"]["new"]) if focuses else None,
        "drives": {e["data"]["drive"]: e["data"]["hunger"] for e in _of(events, "state.drive")},
        "hurts": _hurts(_of(events, "state.pain")),
        "window": {k: [str(i) for i in updates[-1]["data"][k]] for k in ("current", "entered", "left")},
        "errors": len(errors),
        "running": daemon[-1]["type"] == "daemon.start" if daemon else None,
        "dropped": sum(e["data"]["count"] for e in _of(events, "broadcast.lost")),
        "cycles": [_cycle(cycle, events) for cycle in _cycles(events)],
    }


def _of(events: list[Event], event_type: str) -> list[Event]:
    return [event for event in events if event["type"] == event_type]


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _hurts(pains: list[Event]) -> dict[str, float | None]:
    """What hurts still, and how much: of each type the last word counts."""
    last = {event["data"]["type"]: event["data"]["intensity"] for event in pains}
    felt = {kind: None if value is None else float(value) for kind, value in last.items()}
    return {kind: value for kind, value in felt.items() if value is None or value > 0}


def _run(event: Event) -> str:
    return str(event["by"]).rpartition(":")[0]


def _cycles(events: list[Event]) -> list[list[Event]]:
    cycles: list[list[Event]] = []
    ended: set[int] = set()
    for event in events:
        run = _run(event)
        if event["type"] == "daemon.stop" or event["data"].get("state") == "down":
            gone = run if event["type"] == "daemon.stop" else event["data"]["producer"]
            ended |= {i for i, cycle in enumerate(cycles) if _run(cycle[0]) == gone}
        if event["type"] == "cycle.start":
            ended |= {i for i, cycle in enumerate(cycles) if _run(cycle[0]) == run}
            cycles.append([event])
        elif event["cycle"] != 0:
            alike = [i for i, cycle in enumerate(cycles) if cycle[0]["cycle"] == event["cycle"]]
            shared = [i for i in alike if i not in ended and _is_whole(cycles[i])]
            own = [i for i in alike if _run(cycles[i][0]) == run] or shared
            if not own:
                cycles.append([event])
                continue
            cycles[own[-1]].append(event)
            if event["type"] == "cycle.end":
                ended.add(own[-1])
    return cycles


def _is_whole(cycle: list[Event]) -> bool:
    return bool(cycle[0]["type"] == "cycle.start")


def _is_left(cycle: list[Event], events: list[Event]) -> bool:
    """Whether its run went on to a later one, of a cycle of which neither beginning nor end was told."""
    run, number = _run(cycle[0]), cycle[0]["cycle"]
    after = events[events.index(cycle[0]) :]
    return not _is_whole(cycle) and any(_run(event) == run and event["cycle"] > number for event in after)


def _cycle(events: list[Event], life: list[Event]) -> dict[str, Any]:
    stages = [LANES.get(event["type"].partition(".")[0]) for event in events]
    lanes = [lane for lane in stages if lane is not None]
    decisions = _of(events, "decision")
    return {
        "key": events[0]["id"],
        "number": events[0]["cycle"],
        "events": len(events),
        "ended": bool(_of(events, "cycle.end")) or _is_left(events, life),
        "failures": len(_of(events, "error")),
        "decision": decisions[-1]["data"]["intention"] if decisions else None,
        "verdicts": [[e["data"]["agent"], e["data"]["verdict"]] for e in _of(events, "critic.evaluate")],
        "lanes": [lane for i, lane in enumerate(lanes) if i == 0 or lane != lanes[i - 1]],
    }


def golden() -> str:
    """The golden file's text: one life a line, small enough to be read."""
    cases = [{"events": events, "summary": summary(events)} for events in map(life, SEEDS)]
    return "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"


if __name__ == "__main__":
    GOLDEN.write_text(golden(), encoding="utf-8")
    print(f"wrote {GOLDEN}")
