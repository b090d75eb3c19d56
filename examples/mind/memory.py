"""Memory: the contexts the mind has lived, kept in a file, and what of them resonates with a wave."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feelings import PAINLESS

CONTEXTS_MAX = 2000  # the newest are kept; the file is rewritten when it has twice as many lines
ALIKE_MAX = 3  # so many with the same nodes and action outlive a consolidation; more would teach nothing
ECHOES_PER_ACTION_MAX = 3  # so that rare actions are heard among the many quiet cycles
RESONANCE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Wave:
    """What is sent to memory: the present moment."""

    nodes: list[str]
    levels: dict[str, float]  # by sense
    emotion: str
    drive_bias: dict[str, float]  # how much more a sense counts, because of a hungry drive or the focus


@dataclass(frozen=True, slots=True)
class Context:
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


@dataclass(frozen=True, slots=True)
class Echo:
    context: Context
    resonance: float


def context_of(number: int, wave: Wave, action: str, strain: float, now: Wave, strain_now: float) -> Context:
    """The context of a cycle: what was felt and done, and what the next one shows to have come of it."""
    lead, lead_now = lead_of(wave), lead_of(now)
    gain = round(strain - strain_now, 3)
    rule = f"when {lead}, {action} {'eases' if gain > 0 else 'does not ease'}" if abs(gain) > 0.1 else ""
    return Context(
        id=number,
        desc=f"{number}: {lead}, {wave.emotion}, so {action}",
        nodes=wave.nodes,
        levels=wave.levels,
        emotion=wave.emotion,
        action=action,
        gain=gain,
        edges=[[lead, "led to", action], [action, "left", lead_now]],
        result=f"strain {strain:.2f} → {strain_now:.2f}",
        rule=rule,
    )


def lead_of(wave: Wave) -> str:
    """The node of the sense that is most strained."""
    nodes = dict(zip(wave.levels.items(), wave.nodes, strict=True))
    painful = {level: node for (sense, level), node in nodes.items() if sense not in PAINLESS}
    return painful[max(painful)] if painful else "nothing"


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
    """The store of past contexts: a line of JSON each, after one that says when it was born.

    One mind at a time may use the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contexts: list[Context] = []
        self.born_s = math.inf
        self.unsorted = 0  # contexts since the last consolidation
        self.lines = 0
        self.torn = False  # whether the last line lacks its end

    def load(self) -> int:
        """Read the file, if there is one; returns how many lines could not be read and were passed over."""
        unreadable = 0
        if self.path.exists():
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    self.lines, self.torn = self.lines + 1, not line.endswith("\n")
                    try:
                        self.take(json.loads(line))
                    except (ValueError, TypeError, AttributeError, RecursionError):
                        unreadable += 1
        del self.contexts[:-CONTEXTS_MAX]
        self.unsorted = len(self.contexts)
        return unreadable

    def take(self, record: Mapping[str, Any]) -> None:
        if "born_s" in record:
            self.born_s = float(record["born_s"])
            return
        context = Context(**record)
        # What is no context must fail here, not in the middle of a wave.
        if not 0 <= resonance_of(Wave(context.nodes, context.levels, "", {}), context) <= 1:
            raise ValueError("its levels are no numbers")
        self.contexts.append(Context(**{**record, "id": int(context.id), "gain": float(context.gain)}))

    def day(self, now_s: float) -> int:
        """The virtual day: it begins with 1 when the memory begins, and has 24 hours."""
        self.born_s = self.born_s if self.born_s <= now_s else now_s
        return 1 + int((now_s - self.born_s) // 86_400)

    def next_id(self) -> int:
        return self.contexts[-1].id + 1 if self.contexts else 1

    def resonate(self, wave: Wave) -> list[Echo]:
        """The contexts that resonate, strongest and newest first; of each action the few best."""
        echoes = [Echo(context, round(resonance_of(wave, context), 3)) for context in self.contexts]
        echoes.sort(key=lambda echo: (-echo.resonance, -echo.context.id))
        heard: Counter[str] = Counter()
        returned = []
        for echo in echoes:
            heard[echo.context.action] += 1
            if echo.resonance >= RESONANCE_MIN and heard[echo.context.action] <= ECHOES_PER_ACTION_MAX:
                returned.append(echo)
        return returned

    def write(self, context: Context) -> None:
        """Remember a context, and in the file too; raises OSError if the file cannot be written."""
        self.contexts.append(context)
        del self.contexts[:-CONTEXTS_MAX]
        self.unsorted += 1
        if self.lines == 0 or self.lines >= 2 * CONTEXTS_MAX:
            return self.rewrite()
        with self.path.open("a", encoding="utf-8") as file:
            # A line that a crash has torn must not swallow this one.
            file.write("\n" * self.torn + json.dumps(asdict(context)) + "\n")
        self.lines, self.torn = self.lines + 1, False
        return None

    def consolidate(self) -> int:
        """Of contexts that are alike forget all but the newest; returns how many went."""
        alike: Counter[tuple[str, ...]] = Counter()
        kept = []
        for context in reversed(self.contexts):
            key = (context.action, *context.nodes)
            alike[key] += 1
            if alike[key] <= ALIKE_MAX:
                kept.append(context)
        gone = len(self.contexts) - len(kept)
        self.contexts, self.unsorted = kept[::-1], 0
        self.rewrite()
        return gone

    def rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records = [{"born_s": self.born_s}, *(asdict(context) for context in self.contexts)]
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        beside.replace(self.path)  # whole, or not at all
        self.lines, self.torn = len(records), False
