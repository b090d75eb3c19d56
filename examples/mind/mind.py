"""The mind: it lives in cycles of stages, and emits what happens in each."""

import contextlib
import math
import time
import traceback
from collections.abc import Iterator
from typing import Protocol

from broadcast import cycle, emit, set_cycle
from critics import CRITICS, Proposal
from feelings import LEANS_ON, PAINLESS, Pains, hunger_after, mood_of, pains_of
from memory import Context, Memory, Wave
from senses import Reading, Sense

NOTHING = Reading("body", 0.0, "numb", "nothing is felt")
PACE_STEP, PACE_MAX = 1.5, 4.0  # rest makes the interval 1.5 times longer, at most 4 times its own
WINDOW_MAX = 7  # so many of the contexts that resonate are in view


class Body(Protocol):
    """Where the senses are: a `Machine`, or one that a test makes up."""

    senses: dict[str, Sense]
    latency_ms: float


class Mind:
    """A small mind: a body, a memory, and a pace of its own, in seconds from one cycle to the next."""

    def __init__(self, body: Body, memory: Memory, interval_s: float) -> None:
        self.body, self.memory = body, memory
        self.own_interval_s = self.interval_s = interval_s
        self.session = time.strftime("%Y-%m-%dT%H:%M:%S")
        self.stop_reason = ""  # set it from outside, and the mind ends after the cycle it is in
        self.mood, self.focus = "waking", next(iter(body.senses))
        self.hunger = dict.fromkeys(LEANS_ON, 0.0)
        self.pains: Pains = {}
        self.failures: dict[str, str] = {}  # what does not answer, and why
        self.window: list[int] = []
        self.model: dict[str, str] = {}  # what it believes of the world and of itself
        self.before: tuple[Wave, Reading, str] | None = None  # the last cycle's wave, worst reading and action

    def live(self, cycles: float = math.inf) -> None:
        """Live for so many cycles, or until `stop_reason` is set."""
        self.wake("endless" if cycles == math.inf else "bounded")
        lived, due_s = 0, time.monotonic()
        while not self.stop_reason and lived < cycles:
            with contextlib.suppress(Exception):  # `cycle` has emitted it as `error`; the mind goes on
                self.live_one_cycle()
            lived += 1
            self.body.latency_ms = 1000 * (time.monotonic() - due_s)  # it may have begun late, too
            due_s = max(due_s + self.interval_s, time.monotonic())
            while not self.stop_reason and (left_s := due_s - time.monotonic()) > 0:
                time.sleep(min(0.1, left_s))  # in slices, so that a signal is heard soon
        emit("daemon.stop", {"reason": self.stop_reason or f"lived its {cycles} cycles"})

    def wake(self, mode: str) -> None:
        unreadable = 0
        with self.may_fail("memory"):
            unreadable = self.memory.load()
        set_cycle(0, self.memory.day(time.time()))
        emit("daemon.start", {"mode": mode, "interval": self.interval_s})
        if unreadable:
            message = f"{unreadable} lines of {self.memory.path} could not be read"
            emit("error", {"source": "memory", "message": message, "traceback": ""})

    def live_one_cycle(self) -> None:
        with cycle(day=self.memory.day(time.time()), session=self.session):
            self.sense()
            self.recall()
            self.observe()
            self.feel()
            self.decide()
            self.execute()
            self.render()
            self.remember()

    def sense(self) -> None:
        self.readings: dict[str, Reading] = {}
        for name, look in self.body.senses.items():
            with self.may_fail(name):
                self.readings[name] = look(name == self.focus)
        self.painful = [reading for name, reading in self.readings.items() if name not in PAINLESS]
        self.worst = max(self.painful, key=lambda reading: reading.level, default=NOTHING)
        phrases = [(name, reading.phrase) for name, reading in self.readings.items()]
        phrases += [("pain", f"Pain: {kind}: {why}") for kind, (_, why) in self.pains.items()]
        for name, phrase in phrases:
            emit("sense.project", {"sense": name, "projection": phrase})
        emit("sense.all", {"projections": [phrase for _, phrase in phrases]})

    def recall(self) -> None:
        """Send the moment to memory as a wave, and take into view what resonates."""
        bias = {sense: self.hunger[drive] for drive, leans in LEANS_ON.items() for sense in leans}
        bias[self.focus] = round(bias.get(self.focus, 0.0) + 1, 3)
        nodes = [reading.node for reading in self.readings.values()]
        self.wave = Wave(nodes, {name: reading.level for name, reading in self.readings.items()}, self.mood, bias)
        emit("wave.send", {"signal": {"nodes": nodes, "emotion": self.mood, "drive_bias": bias}})

        self.echoes = self.memory.resonate(self.wave)
        view = self.echoes[:WINDOW_MAX]
        found = [{"id": context.id, "desc": context.desc, "resonance": resonance} for resonance, context in view]
        emit("wave.result", {"contexts": found, "count": len(found)})

        old, self.window = self.window, [context.id for _, context in view]
        entered, left = [i for i in self.window if i not in old], [i for i in old if i not in self.window]
        if entered or left:
            emit("window.update", {"entered": entered, "left": left, "current": self.window})

    def observe(self) -> None:
        """How new is it, and which sense out of focus is farthest from what memory, or the last cycle, expects?"""
        self.novelty, assessment = 1.0, "like nothing I remember"
        expected = self.before[0].levels if self.before else {}
        if self.echoes:
            resonance, best = self.echoes[0]
            self.novelty, assessment, expected = round(1 - resonance, 3), f"like context {best.desc}", best.levels
        levels = {name: level for name, level in self.wave.levels.items() if name != self.focus}
        far = [(abs(level - expected.get(name, level)), name) for name, level in levels.items()]
        self.surprise, self.oddest = max(far, default=(0.0, self.focus))
        if self.surprise >= 0.3:
            assessment += f"; but {self.readings[self.oddest].phrase}"
        familiar = self.novelty < 0.5
        emit("observe", {"assessment": assessment, "familiar": familiar, "novelty_score": self.novelty})

    def feel(self) -> None:
        """Pain, hunger and mood follow; what changed is told."""
        old_pains, self.pains = self.pains, pains_of(self.painful, self.failures, self.pains)
        for kind in old_pains | self.pains:
            if kind not in old_pains or kind not in self.pains:
                intensity, why = self.pains.get(kind) or (0.0, f"resolved; it was: {old_pains[kind][1]}")
                emit("state.pain", {"type": kind, "intensity": intensity, "context": why})

        strain, slowness = self.worst.level, (self.interval_s / self.own_interval_s - 1) / (PACE_MAX - 1)
        old_hunger = self.hunger
        self.hunger = hunger_after(old_hunger, strain, self.novelty, slowness, self.memory.unsorted)
        for drive, hunger in self.hunger.items():
            if int(hunger * 4) != int(old_hunger[drive] * 4):  # told at each quarter, not at each stir
                emit("state.drive", {"drive": drive, "hunger": hunger, "satisfied_by": None})

        old_mood, self.mood = self.mood, mood_of(strain, self.novelty, self.hunger)
        if self.mood != old_mood:
            emit("state.mood", {"old": old_mood, "new": self.mood})

    def decide(self) -> None:
        """The proposal that wins most and that no critic vetoes; nobody vetoes to stay."""
        vetoes = ""
        for proposal in sorted(self.proposals(), key=lambda proposal: -proposal.win):
            self.choice, against = proposal, []
            for critic in CRITICS:
                agent, (verdict, confidence, why) = critic.__name__, critic(proposal, self.echoes)
                told = {"agent": agent, "verdict": verdict, "confidence": confidence, "reasoning": why}
                emit("critic.evaluate", told)
                if verdict == "veto":
                    against.append(agent)
            if not against:
                break
            vetoes += f"; {proposal.action} was vetoed by {' and '.join(against)}"
        why = f"wins {self.choice.win:.2f} of {self.choice.drive}{vetoes}"
        emit("decision", {"intention": self.choice.action, "target": self.choice.target, "rationale": why})

    def proposals(self) -> list[Proposal]:
        """What it could do now. Each action but to stay is a method of that name."""
        hunger, strain, novelty = self.hunger, self.worst.level, self.novelty
        found = [
            Proposal("stay", "here", "ease", 0.3, 0.0, "nothing"),
            Proposal("rest", "interval", "rest", hunger["rest"], 0.6 * novelty, "what is new is seen less often"),
            Proposal("hurry", "interval", "presence", hunger["presence"], strain, "strain"),
            Proposal("consolidate", "memory", "order", hunger["order"], novelty, "what is new would be missed"),
        ]
        if self.oddest != self.focus:
            curiosity = max(self.surprise, hunger["curiosity"])
            found.append(Proposal("attend", self.oddest, "curiosity", curiosity, strain / 2, "strain"))
        return found

    def execute(self) -> None:
        """Each action changes something that the mind will feel later, and feeds a drive."""
        action, target, drive, *_ = self.choice
        if action != "stay":
            with self.may_fail(action):
                emit("execute", {"action": action, "target": target, "method": getattr(self, action)()})
                self.hunger[drive] = 0.0
                emit("state.drive", {"drive": drive, "hunger": 0.0, "satisfied_by": action})

    def rest(self) -> str:
        return self.change_pace(min(self.interval_s * PACE_STEP, self.own_interval_s * PACE_MAX))

    def hurry(self) -> str:
        return self.change_pace(max(self.interval_s / PACE_STEP, self.own_interval_s))

    def change_pace(self, interval_s: float) -> str:
        old_s, self.interval_s = self.interval_s, interval_s
        return f"interval {old_s:.2f} → {interval_s:.2f} s"

    def attend(self) -> str:
        old, self.focus = self.focus, self.choice.target
        emit("state.focus", {"old": old, "new": self.focus})
        return f"looks closely at {self.focus}, no longer at {old}"

    def consolidate(self) -> str:
        return f"forgot {self.memory.consolidate()} contexts: of those alike the newest stays"

    def render(self) -> None:
        """Bring what it believes in line with what is."""
        reality = dict.fromkeys(self.model, "well") | {name: reading.word for name, reading in self.readings.items()}
        reality |= dict.fromkeys(self.failures, "numb")
        reality |= {"focus": self.focus, "interval": f"{self.interval_s:.2f} s", "mood": self.mood}
        old, self.model = self.model, reality
        if changes := [f"{key}: {old.get(key, '?')} → {now}" for key, now in reality.items() if old.get(key) != now]:
            emit("render", {"changes": changes})

    def remember(self) -> None:
        """Write the cycle before: only now it is known what came of it."""
        if self.before:
            context = self.lived(*self.before)
            with self.may_fail("memory"):
                self.memory.write(context)
            told = {key: getattr(context, key) for key in ("nodes", "edges", "emotion", "result", "rule")}
            emit("context.write", {"context": told})
        self.before = (self.wave, self.worst, self.choice.action)

    def lived(self, wave: Wave, worst: Reading, action: str) -> Context:
        number, lead, gain = self.memory.next_id(), worst.node, round(worst.level - self.worst.level, 3)
        desc = f"{number}: {lead}, {wave.emotion}, so {action}"
        edges = [[lead, "led to", action], [action, "left", self.worst.node]]
        result = f"strain {worst.level:.2f} → {self.worst.level:.2f}"
        rule = f"when {lead}, {action} {'eases' if gain > 0 else 'does not ease'}" if abs(gain) > 0.1 else ""
        return Context(number, desc, wave.nodes, wave.levels, wave.emotion, action, gain, edges, result, rule)

    @contextlib.contextmanager
    def may_fail(self, source: str) -> Iterator[None]:
        """Whatever fails inside is an `error` once; until it works again the mind is numb there, and goes on."""
        try:
            yield
            self.failures.pop(source, None)
        except Exception as error:  # noqa: BLE001 - a sensor may raise anything
            message = f"{type(error).__name__}: {error}"
            if self.failures.get(source) != message:
                emit("error", {"source": source, "message": message, "traceback": traceback.format_exc()})
            self.failures[source] = message
