"""Feelings: strain, pain, hunger and mood follow from what was sensed. Pure functions."""

from collections.abc import Iterable, Mapping

from senses import Reading

PAIN_BEGINS, PAIN_ENDS = 0.85, 0.7  # two levels, so that a reading which trembles at the border does not flicker
NUMB = 0.3  # how much it hurts that a sense, or the memory file, does not answer
PAINLESS = ("wind", "daylight")  # a storm and the night do no harm
LEANS_ON = {
    "rest": ("breath", "pulse", "warmth"),
    "order": ("weight", "ground"),
    "curiosity": ("wind", "daylight"),
    "presence": (),
}
"""The drives, and the senses that count more while each is hungry."""


def strain_of(readings: Iterable[Reading]) -> float:
    """The highest level among the senses that can hurt."""
    return max((reading.level for reading in readings if reading.sense not in PAINLESS), default=0.0)


def pains_of(
    readings: Iterable[Reading], failures: Mapping[str, str], before: Iterable[str]
) -> dict[str, tuple[float, str]]:
    """What hurts now, by its type: how much, and why. What hurt before ends later than it began."""
    pains = {f"numb.{source}": (NUMB, message) for source, message in failures.items()}
    held = set(before)
    for reading in readings:
        kind = f"strain.{reading.sense}"
        hurts_from = PAIN_ENDS if kind in held else PAIN_BEGINS
        if reading.sense not in PAINLESS and reading.level >= hurts_from:
            pains[kind] = (reading.level, reading.phrase)
    return pains


def hunger_after(
    hunger: Mapping[str, float], *, strain: float, novelty: float, unsorted: int, slowness: float
) -> dict[str, float]:
    """How hungry each drive is one cycle later; all numbers but the count `unsorted` are from 0 to 1."""
    moved = {
        "rest": hunger["rest"] + 0.3 * strain - 0.12,
        "order": unsorted / 60,
        "curiosity": hunger["curiosity"] + 0.1 * (1 - novelty) - 0.3 * novelty,  # what is new feeds it
        "presence": 0.8 * slowness,
    }
    return {drive: round(min(1.0, max(0.0, value)), 3) for drive, value in moved.items()}


def mood_of(*, strain: float, novelty: float, hunger: Mapping[str, float]) -> str:
    """What hurts comes before what is new, and that before what is missing."""
    if strain >= PAIN_BEGINS:
        return "strained"
    if novelty >= 0.5:
        return "curious"
    return "restless" if max(hunger.values()) >= 0.75 else "calm"
