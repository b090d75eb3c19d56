"""Memory: the contexts the mind has lived, kept in a file, and what of them resonates with a wave."""

import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

CONTEXTS_MAX = 2000  # the newest are kept; the file holds at most twice as many lines
RESONANCE_MIN = 0.5


class Wave(NamedTuple):
    """What is sent to memory: the present moment."""

    nodes: list[str]
    levels: dict[str, float]  # by sense
    emotion: str
    drive_bias: dict[str, float]  # how much more a sense counts, because of a hungry drive or the focus


class Context(NamedTuple):
    """One lived moment: what was felt, what was done, and by how much strain fell afterwards (the gain)."""

    id: int
    desc: str
    nodes: list[str]
    levels: dict[str, float]
    emotion: str
    action: str
    gain: float
    edges: list[list[str]]
    result: str
    rule: str


Echo = tuple[float, Context]  # how much the context resonates


def resonance_of(wave: Wave, context: Context) -> float:
    """How alike two moments are, from 0 to 1: levels felt (0.6), words shared (0.3), the same mood (0.1)."""
    distance = weights = 0.0
    for sense in wave.levels.keys() & context.levels.keys():
        weight = 1 + wave.drive_bias.get(sense, 0.0)
        distance += weight * (wave.levels[sense] - context.levels[sense]) ** 2
        weights += weight
    # A bell: where levels are a quarter of the scale apart on average, a third of the closeness is left.
    closeness = math.exp(-distance / weights / 0.25**2) if weights else 0.0
    here, there = set(wave.nodes), set(context.nodes)
    shared = len(here & there) / max(1, len(here | there))
    return 0.6 * closeness + 0.3 * shared + 0.1 * (wave.emotion == context.emotion)


class Memory:
    """The store of past contexts: a line of JSON each, after one that says when it was born. For one mind at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contexts: list[Context] = []
        self.born_s = time.time()
        self.unsorted = 0  # contexts since the last consolidation

    def load(self) -> int:
        """Read the file, if there is one; returns how many lines could not be read and were passed over."""
        text = self.path.read_text("utf-8", errors="replace") if self.path.exists() else ""
        unreadable = 0
        for line in text.splitlines():
            try:
                self.take(json.loads(line))
            except Exception:  # noqa: BLE001 - a damaged file may hold anything
                unreadable += 1
        del self.contexts[:-CONTEXTS_MAX]
        self.unsorted = len(self.contexts)
        if text and not text.endswith("\n"):
            self.append("")  # a line that a crash has torn must not swallow the next
        return unreadable

    def take(self, record: dict[str, Any]) -> None:
        if "born_s" in record:
            self.born_s = float(record["born_s"])
            return
        context = Context(**record)
        itself = resonance_of(Wave(context.nodes, context.levels, "", {}), context)
        if not math.isfinite(itself + context.id + context.gain):
            raise ValueError("what is no context must fail here, not in the middle of a wave")
        self.contexts.append(context)

    def resonate(self, wave: Wave) -> list[Echo]:
        """The contexts that resonate, strongest and newest first."""
        echoes = [(round(resonance_of(wave, context), 3), context) for context in self.contexts]
        heard = [echo for echo in echoes if echo[0] >= RESONANCE_MIN]
        return sorted(heard, key=lambda echo: (echo[0], echo[1].id), reverse=True)

    def write(self, context: Context) -> None:
        """Remember a context, and in the file too; raises OSError if the file cannot be written."""
        self.contexts.append(context)
        del self.contexts[:-CONTEXTS_MAX]
        self.unsorted += 1
        if context.id % CONTEXTS_MAX and self.path.exists():
            self.append(json.dumps(context._asdict()))
        else:
            self.rewrite()

    def append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records = [{"born_s": self.born_s}, *(context._asdict() for context in self.contexts)]
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        beside.replace(self.path)  # whole, or not at all

    def consolidate(self) -> int:
        """Of contexts with the same words, mood and action keep the newest; returns how many went."""
        newest = {(context.action, context.emotion, *context.nodes): context for context in self.contexts}
        gone = len(self.contexts) - len(newest)
        self.contexts, self.unsorted = sorted(newest.values(), key=lambda context: context.id), 0
        self.rewrite()
        return gone

    def next_id(self) -> int:
        return self.contexts[-1].id + 1 if self.contexts else 1

    def day(self, now_s: float) -> int:
        """The virtual day: it begins with 1 when the memory begins, and has 24 hours."""
        self.born_s = min(now_s, self.born_s)
        return 1 + int((now_s - self.born_s) // 86_400)
