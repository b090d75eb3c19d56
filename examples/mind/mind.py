"""The mind: it lives in cycles of stages, and emits what happens in each."""

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Protocol, TypeVar

from broadcast import cycle, emit, set_cycle
from critics import CRITICS, Proposal
from feelings import LEANS_ON, hunger_after, mood_of, pains_of, strain_of
from memory import Echo, Memory, Wave, context_of
from senses import Reading, Sense

Result = TypeVar("Result")

PACE_STEP, PACE_MAX = 1.5, 4.0  # rest makes the interval 1.5 times longer, at most 4 times its own
SURPRISE_MIN = 0.3  # a sense so far from what memory expected draws attention
STAY = Proposal("stay", "here", "ease", 0.3, 0.0, "nothing")  # what wins less than this is left undone


class Body(Protocol):
    """Where the senses are: a `Machine`, or a made-up one in tests."""

    senses: dict[str, Sense]
    latency_ms: float


class Mind:
    """A small mind: a body, a memory, and a pace of its own, in seconds from one cycle to the next."""

    def __init__(self, body: Body, memory: Memory, interval_s: float) -> None:
        self.body, self.memory = body, memory
        self.own_interval_s = self.interval_s = interval_s
        self.session = time.strftime("%Y-%m-%dT%H:%M:%S")
        self.stop_reason = ""  # set it from outside, and the mind ends after the stage it is in

        self.mood, self.focus = "waking", next(iter(body.senses))
        self.hunger = dict.fromkeys(LEANS_ON, 0.0)
        self.pains: dict[str, tuple[float, str]] = {}
        self.failures: dict[str, str] = {}  # what does not answer, and why
        self.window: list[int] = []
        self.model: dict[str, str] = {}  # what it believes of the world and of itself

        # Of the present cycle; `before` is the last one's wave, action and strain.
        self.readings: dict[str, Reading] = {}
        self.strain, self.novelty = 0.0, 1.0
        self.wave = Wave([], {}, self.mood, {})
        self.echoes: list[Echo] = []
        self.choice = STAY
        self.before: tuple[Wave, str, float] | None = None

    def live(self, cycles: int | None = None) -> None:
        """Live for so many cycles, or until `stop_reason` is set."""
        unreadable = self.attempt("memory", self.memory.load)
        set_cycle(0, self.memory.day(time.time()))
        emit("daemon.start", {"mode": "bounded" if cycles else "endless", "interval": self.interval_s})
        if unreadable:
            message = f"{unreadable} lines of {self.memory.path} could not be read"
            emit("error", {"source": "memory", "message": message, "traceback": ""})
        lived = 0
        while not self.stop_reason and lived != cycles:
            began_s = time.monotonic()
            with contextlib.suppress(Exception):  # `cycle` has emitted it as `error`; the mind goes on
                self.live_one_cycle()
            worked_s = time.monotonic() - began_s
            self.body.latency_ms = 1000 * (worked_s + self.sleep(self.interval_s - worked_s))
            lived += 1
        emit("daemon.stop", {"reason": self.stop_reason or f"lived its {cycles} cycles"})

    def live_one_cycle(self) -> None:
        senses = (self.sense, self.recall, self.observe, self.feel)
        acts = (self.decide, self.execute, self.render, self.remember)
        with cycle(day=self.memory.day(time.time()), session=self.session):
            for stage in senses + acts:
                if self.stop_reason:
                    return
                stage()

    def sleep(self, pause_s: float) -> float:
        """Wait in slices, so that a signal is heard soon; returns how much too late it woke, seconds."""
        end_s = time.monotonic() + max(0.0, pause_s)
        while (left_s := end_s - time.monotonic()) > 0 and not self.stop_reason:
            time.sleep(min(0.1, left_s))
        return max(0.0, time.monotonic() - end_s)

    # --- the stages of a cycle

    def sense(self) -> None:
        self.readings = {}
        for name, look in self.body.senses.items():
            if reading := self.attempt(name, partial(look, name == self.focus)):
                self.readings[name] = reading
        self.strain = strain_of(self.readings.values())
        phrases = [(name, reading.phrase) for name, reading in self.readings.items()]
        phrases += [("pain", f"Pain: {kind}: {why}") for kind, (_, why) in self.pains.items()]
        for name, phrase in phrases:
            emit("sense.project", {"sense": name, "projection": phrase})
        emit("sense.all", {"projections": [phrase for _, phrase in phrases]})

    def recall(self) -> None:
        nodes = [f"{name}.{reading.word}" for name, reading in self.readings.items()]
        levels = {name: reading.level for name, reading in self.readings.items()}
        bias = {sense: self.hunger[drive] for drive, leans in LEANS_ON.items() for sense in leans}
        bias[self.focus] = round(bias.get(self.focus, 0.0) + 1, 3)
        self.wave = Wave(nodes, levels, self.mood, bias)
        emit("wave.send", {"signal": {"nodes": nodes, "emotion": self.mood, "drive_bias": bias}})

        self.echoes = self.memory.resonate(self.wave)
        found = [{"id": e.context.id, "desc": e.context.desc, "resonance": e.resonance} for e in self.echoes]
        emit("wave.result", {"contexts": found, "count": len(found)})

        old, self.window = self.window, [echo.context.id for echo in self.echoes]
        entered, left = [i for i in self.window if i not in old], [i for i in old if i not in self.window]
        if entered or left:
            emit("window.update", {"entered": entered, "left": left, "current": self.window})

    def observe(self) -> None:
        best = self.echoes[0] if self.echoes else None
        self.novelty = round(1 - best.resonance, 3) if best else 1.0
        assessment = f"like context {best.context.desc}" if best else "like nothing I remember"
        sense, surprise = self.surprise()
        if surprise >= SURPRISE_MIN:
            assessment += f"; but {self.readings[sense].phrase}"
        familiar = self.novelty < 0.5
        emit("observe", {"assessment": assessment, "familiar": familiar, "novelty_score": self.novelty})

    def feel(self) -> None:
        old_pains, self.pains = self.pains, pains_of(self.readings.values(), self.failures, self.pains)
        for kind, (intensity, why) in self.pains.items():
            if kind not in old_pains:
                emit("state.pain", {"type": kind, "intensity": intensity, "context": why})
        for kind, (_, why) in old_pains.items():
            if kind not in self.pains:
                emit("state.pain", {"type": kind, "intensity": 0.0, "context": f"resolved; it was: {why}"})

        slowness = (self.interval_s / self.own_interval_s - 1) / (PACE_MAX - 1)
        amounts = {"strain": self.strain, "novelty": self.novelty, "slowness": slowness}
        old_hunger = self.hunger
        self.hunger = hunger_after(old_hunger, unsorted=self.memory.unsorted, **amounts)
        for drive, hunger in self.hunger.items():
            if int(hunger * 4) != int(old_hunger[drive] * 4):  # told at each quarter, not at each stir
                emit("state.drive", {"drive": drive, "hunger": hunger, "satisfied_by": None})

        old, self.mood = self.mood, mood_of(strain=self.strain, novelty=self.novelty, hunger=self.hunger)
        if self.mood != old:
            emit("state.mood", {"old": old, "new": self.mood})

    def decide(self) -> None:
        """The proposal that wins most and that no critic vetoes; nobody vetoes to stay."""
        vetoes = ""
        for proposal in sorted(self.proposals(), key=lambda proposal: -proposal.win):
            self.choice = proposal
            judgements = [critic(proposal, self.echoes) for critic in CRITICS]
            for judgement in judgements:
                emit("critic.evaluate", asdict(judgement))
            against = [judgement.agent for judgement in judgements if judgement.verdict == "veto"]
            if not against:
                break
            vetoes += f"; {proposal.action} was vetoed by {' and '.join(against)}"
        why = f"wins {self.choice.win:.2f} of {self.choice.drive}{vetoes}"
        emit("decision", {"intention": self.choice.action, "target": self.choice.target, "rationale": why})

    def execute(self) -> None:
        """Each action changes something that the mind will feel later."""
        actions: dict[str, Callable[[], str]] = {
            "rest": partial(self.change_pace, PACE_STEP),
            "hurry": partial(self.change_pace, 1 / PACE_STEP),
            "attend": self.attend,
            "consolidate": self.consolidate,
        }
        action, target, drive = self.choice.action, self.choice.target, self.choice.drive
        if action == "stay" or (method := self.attempt(action, actions[action])) is None:
            return
        emit("execute", {"action": action, "target": target, "method": method})
        self.hunger[drive] = 0.0
        emit("state.drive", {"drive": drive, "hunger": 0.0, "satisfied_by": action})

    def render(self) -> None:
        """Bring what it believes in line with what is."""
        reality = {name: reading.word for name, reading in self.readings.items()}
        reality |= dict.fromkeys(self.failures, "numb")
        reality |= {"focus": self.focus, "interval": f"{self.interval_s:.2f} s", "mood": self.mood}
        pairs = {key: (self.model.get(key, "?"), reality.get(key, "?")) for key in self.model | reality}
        self.model = reality
        if changes := [f"{key}: {old} → {new}" for key, (old, new) in pairs.items() if old != new]:
            emit("render", {"changes": changes})

    def remember(self) -> None:
        """Write the cycle before: only now it is known what came of it."""
        if self.before is not None:
            context = context_of(self.memory.next_id(), *self.before, self.wave, self.strain)
            self.attempt("memory", partial(self.memory.write, context))
            told = {key: getattr(context, key) for key in ("nodes", "edges", "emotion", "result", "rule")}
            emit("context.write", {"context": told})
        self.before = (self.wave, self.choice.action, self.strain)

    # --- what it could do, and how

    def proposals(self) -> list[Proposal]:
        hunger, readings = self.hunger, self.readings
        found = [STAY]
        if self.interval_s * PACE_STEP <= self.own_interval_s * PACE_MAX:
            price = "what is new is seen less often"
            found.append(Proposal("rest", "interval", "rest", hunger["rest"], 0.6 * self.novelty, price))
        if self.interval_s > self.own_interval_s:
            found.append(Proposal("hurry", "interval", "presence", hunger["presence"], self.strain, "strain"))
        if self.memory.unsorted:
            breath = readings["breath"].level if "breath" in readings else 0.0
            found.append(Proposal("consolidate", "memory", "order", hunger["order"], breath, "breath"))
        target, win = self.attention()
        if target != self.focus:
            pulse = readings["pulse"].level if "pulse" in readings else 0.0
            found.append(Proposal("attend", target, "curiosity", win, pulse / 2, "a slower pulse"))
        return found

    def surprise(self) -> tuple[str, float]:
        """The sense that is farthest from what the best echo, or else the cycle before, lets expect; and how far."""
        expected = self.echoes[0].context.levels if self.echoes else self.before[0].levels if self.before else {}
        off = {name: abs(r.level - expected.get(name, r.level)) for name, r in self.readings.items()}
        return max(off.items(), key=lambda item: item[1], default=(self.focus, 0.0))

    def attention(self) -> tuple[str, float]:
        """Which sense deserves to be in focus, and how much: what surprises, else the next in turn."""
        sense, surprise = self.surprise()
        if surprise >= SURPRISE_MIN:
            return sense, max(surprise, self.hunger["curiosity"])
        names = list(self.body.senses)
        awake = [n for n in names[names.index(self.focus) + 1 :] + names if n in self.readings]
        return (awake or [self.focus])[0], self.hunger["curiosity"]

    def change_pace(self, factor: float) -> str:
        old_s, self.interval_s = self.interval_s, max(self.own_interval_s, self.interval_s * factor)
        return f"interval {old_s:.2f} → {self.interval_s:.2f} s"

    def attend(self) -> str:
        old, self.focus = self.focus, self.choice.target
        emit("state.focus", {"old": old, "new": self.focus})
        return f"looks closely at {self.focus}, no longer at {old}"

    def consolidate(self) -> str:
        before, gone = len(self.memory.contexts), self.memory.consolidate()
        return f"{before} → {before - gone} contexts: of those alike the newest stay"

    def attempt(self, source: str, act: Callable[[], Result]) -> Result | None:
        """Do what may fail. A new failure is an `error`; until it works again the mind is numb there."""
        try:
            result = act()
        except Exception as error:  # noqa: BLE001 - a sensor may raise anything
            message = f"{type(error).__name__}: {error}"
            if self.failures.get(source) != message:
                emit("error", {"source": source, "message": message, "traceback": traceback.format_exc()})
            self.failures[source] = message
            return None
        self.failures.pop(source, None)
        return result
