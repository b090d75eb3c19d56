"""Senses: what the mind feels of the machine it runs on. Numbers go in, a level and a phrase come out."""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

WORDS = {
    "breath": ("calm", "steady", "quick", "short"),
    "weight": ("light", "moderate", "heavy", "crushing"),
    "ground": ("wide", "firm", "narrow", "crumbling"),
    "wind": ("still", "gentle", "strong", "a storm"),
    "daylight": ("bright", "fading", "dim", "gone"),
    "pulse": ("even", "lively", "fast", "racing"),
    "warmth": ("cool", "mild", "warm", "burning"),
}  # the senses, and the words of each, one for every quarter of its level


class Reading(NamedTuple):
    """What one sense felt: a level from 0, at rest, to 1, at the limit, and how a person would say it."""

    sense: str
    level: float
    word: str
    phrase: str

    @property
    def node(self) -> str:
        return f"{self.sense}.{self.word}"


Sense = Callable[[bool], Reading]  # feels now, more closely if the argument is true; raises if it cannot
Felt = tuple[float, str, str]  # a level, the facts behind it, and what else is seen by who looks closely


def feel(sense: str, level: float, facts: str) -> Reading:
    level = round(min(1.0, max(0.0, level)), 3)
    word = WORDS[sense][min(3, int(level * 4))]
    return Reading(sense, level, word, f"{sense.capitalize()} is {word}: {facts}")


class Machine:
    """This machine, felt with psutil; `folder` is the ground the mind stands on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latency_ms = 0.0  # of the last cycle; whoever runs the cycles measures it
        # Without a first look over 0.1 s the first breath would be that of the interpreter starting.
        self.cores, self.looked_s = psutil.cpu_percent(interval=0.1, percpu=True), time.monotonic()
        self.moved, self.listened_s = sum(psutil.net_io_counters()[:2]), time.monotonic()  # bytes out and in
        self.senses: dict[str, Sense] = {name: partial(self.look, name) for name in WORDS}

    def look(self, name: str, close: bool) -> Reading:
        level, facts, detail = getattr(self, name)()
        return feel(name, level, f"{facts}, {detail}" if close else facts)

    def breath(self) -> Felt:
        if time.monotonic() - self.looked_s >= 0.1:  # over a shorter time the kernel's ticks tell nothing
            self.cores, self.looked_s = psutil.cpu_percent(percpu=True), time.monotonic()
        load, count, busy = psutil.getloadavg()[0], len(self.cores), sum(self.cores) / len(self.cores)
        # The load counts work that waits for a disk, too: four for each core are the limit.
        level = max(busy / 100, load / count / 4)
        return level, f"load {load:.1f} on {count} cores, {busy:.0f} % busy", f"one of them {max(self.cores):.0f} %"

    def weight(self) -> Felt:
        memory, mine = psutil.virtual_memory(), psutil.Process().memory_info().rss
        held = f"{(memory.total - memory.available) / 1e9:.1f} of {memory.total / 1e9:.1f} GB held"
        return memory.percent / 100, held, f"{mine / 1e6:.1f} MB of it mine"

    def ground(self) -> Felt:
        disk = psutil.disk_usage(str(self.folder))
        return disk.percent / 100, f"{disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB free", f"under {self.folder}"

    def wind(self) -> Felt:
        moved, now_s = sum(psutil.net_io_counters()[:2]), time.monotonic()
        rate = max(0, moved - self.moved) / max(0.001, now_s - self.listened_s)
        self.moved, self.listened_s = moved, now_s
        level = math.log10(1 + rate) / 8  # 100 MB/s is a full storm
        return level, f"{rate / 1000:.1f} kB/s on the network", f"{moved / 1e9:.2f} GB since the machine woke"

    def daylight(self) -> Felt:
        now, awake_s = time.localtime(), time.time() - psutil.boot_time()
        level = (1 + math.cos((now.tm_hour + now.tm_min / 60) / 12 * math.pi)) / 2  # 0 at noon, 1 at midnight
        return level, f"{now.tm_hour:02d}:{now.tm_min:02d}", f"{awake_s / 3600:.1f} hours since the machine woke"

    def pulse(self) -> Felt:
        cpu_s = sum(psutil.Process().cpu_times()[:2])
        return self.latency_ms / 200, f"a cycle took {self.latency_ms:.0f} ms", f"this life {cpu_s:.2f} s of CPU"

    def warmth(self) -> Felt:
        # Some systems lack the function, others the sensor.
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        found = [(part.current, part.label or chip) for chip, parts in sensors.items() for part in parts]
        if not found:
            raise RuntimeError("this machine shows no thermometer")
        celsius, label = max(found)
        return celsius / 100, f"{celsius:.0f} °C", f"at {label}"
