"""Senses: what the mind feels of the machine it runs on. Numbers go in, a level and a phrase come out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

WORDS = {
    "breath": ("calm", "steady", "quick", "short"),
    "weight": ("light", "moderate", "heavy", "crushing"),
    "ground": ("wide", "firm", "narrow", "crumbling"),
    "wind": ("still", "gentle", "strong", "a storm"),
    "daylight": ("bright", "fading", "dim", "gone"),
    "pulse": ("even", "lively", "fast", "racing"),
    "warmth": ("cool", "mild", "warm", "burning"),
}
"""The senses, and the words of each, one for every quarter of its level."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sense felt: a level from 0, at rest, to 1, at the limit, and how a person would say it."""

    sense: str
    level: float
    word: str
    phrase: str


Sense = Callable[[bool], Reading]
"""Feels now, more closely if the argument says that it is in focus. Raises if it cannot."""


def feel(sense: str, level: float, facts: str) -> Reading:
    level = round(min(1.0, max(0.0, level)), 3)
    word = WORDS[sense][min(3, int(level * 4))]
    return Reading(sense, level, word, f"{sense.capitalize()} is {word}: {facts}")


class Machine:
    """This machine, felt with psutil; `folder` is the ground the mind stands on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latency_ms = 0.0  # what the last cycle took and how late it woke; whoever runs the cycles measures it
        self.usual_ms = 0.0
        # Without a first look over 0.1 s the first breath would be that of the interpreter starting.
        self.busy_percent, self.looked_s = psutil.cpu_percent(interval=0.1), time.monotonic()
        self.traffic, self.listened_s = psutil.net_io_counters(), time.monotonic()
        self.senses: dict[str, Sense] = {name: getattr(self, name) for name in WORDS}

    def breath(self, close: bool) -> Reading:
        if time.monotonic() - self.looked_s >= 0.1:  # over a shorter time the kernel's ticks tell nothing
            self.busy_percent, self.looked_s = psutil.cpu_percent(), time.monotonic()
        load, cores = psutil.getloadavg()[0], psutil.cpu_count() or 1
        facts = f"load {load:.1f} on {cores} cores, {self.busy_percent:.0f} % busy"
        if close:
            facts += f", the busiest core {max(psutil.cpu_percent(percpu=True)):.0f} %"
        # The load tells of the last minute, and of work that waits for a disk too: four for each core are the limit.
        return feel("breath", max(self.busy_percent / 100, load / cores / 4), facts)

    def weight(self, close: bool) -> Reading:
        held = psutil.virtual_memory()
        facts = f"{(held.total - held.available) / 1e9:.1f} of {held.total / 1e9:.1f} GB held"
        if close:
            facts += f", {psutil.Process().memory_info().rss / 1e6:.1f} MB of it mine"
        return feel("weight", held.percent / 100, facts)

    def ground(self, close: bool) -> Reading:
        disk = psutil.disk_usage(str(self.folder))
        facts = f"{disk.free / 1e9:.1f} GB of disk free"
        if close:
            facts += f" of {disk.total / 1e9:.1f} GB under {self.folder}"
        return feel("ground", disk.percent / 100, facts)

    def wind(self, close: bool) -> Reading:
        before, passed_s = self.traffic, max(0.001, time.monotonic() - self.listened_s)
        self.traffic, self.listened_s = psutil.net_io_counters(), time.monotonic()
        sent = max(0, self.traffic.bytes_sent - before.bytes_sent) / passed_s
        received = max(0, self.traffic.bytes_recv - before.bytes_recv) / passed_s
        facts = f"{(sent + received) / 1000:.1f} kB/s on the network"
        if close:
            facts += f", {sent / 1000:.1f} out and {received / 1000:.1f} in"
        return feel("wind", math.log10(1 + sent + received) / 8, facts)  # 100 MB/s is a full storm

    def daylight(self, close: bool) -> Reading:
        now = time.localtime()
        facts = f"{now.tm_hour:02d}:{now.tm_min:02d}"
        if close:
            facts += f", {(time.time() - psutil.boot_time()) / 3600:.1f} hours since the machine woke"
        hour = now.tm_hour + now.tm_min / 60
        return feel("daylight", (1 + math.cos(hour / 12 * math.pi)) / 2, facts)  # 0 at noon, 1 at midnight

    def pulse(self, close: bool) -> Reading:
        facts = f"a cycle took {self.latency_ms:.0f} ms, usually {self.usual_ms:.0f}"
        if close:
            facts += f", {sum(psutil.Process().cpu_times()[:2]):.2f} s of CPU in this life"
        # Five times the usual is the limit; below 20 ms the scheduler's jitter would look like fever.
        level = self.latency_ms / (5 * max(20.0, self.usual_ms))
        self.usual_ms += 0.1 * (self.latency_ms - self.usual_ms)
        return feel("pulse", level, facts)

    def warmth(self, close: bool) -> Reading:
        # Some systems lack the function, others the sensor.
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        found = [(part.current, part.label or chip) for chip, parts in sensors.items() for part in parts]
        if not found:
            raise RuntimeError("this machine shows no thermometer")
        celsius, label = max(found)
        return feel("warmth", celsius / 100, f"{celsius:.0f} °C" + (f" at {label}" if close else ""))
