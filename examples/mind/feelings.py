"""Feelings: pain, hunger and mood follow from what was sensed. Pure functions."""

from collections.abc import Collection, Iterable, Mapping

from senses import Reading

PAIN_BEGINS, PAIN_ENDS = 0.85, 0.7  # two levels, so that a reading which trembles at the border does not flicker
NUMB = 0.3  # how much it hurts that a sense, or the memory file, does not answer
PAINLESS = ("wind", "daylight")  # a storm and the night do no harm

Pains = dict[str, tuple[float, str]]  # what hurts, by its type: how much, and why
Hunger = dict[str, float]  # by drive
LEANS_ON = {
    "rest": ("breath", "pulse", "warmth"),
    "order": ("weight", "ground"),
    "curiosity": ("wind", "daylight"),
    "presence": (),
}  # the drives, and the senses that count more while each is hungry


def pains_of(readings: Iterable[Reading], failures: Mapping[str, str], before: Collection[str]) -> Pains:
    pains = {f"numb.{source}": (NUMB, why) for source, why in failures.items()}
    for reading in readings:
        kind = f"strain.{reading.sense}"
        if reading.level >= (PAIN_ENDS if kind in before else PAIN_BEGINS):
            pains[kind] = (reading.level, reading.phrase)
    return pains


def hunger_after(hunger: Hunger, strain: float, novelty: float, slowness: float, unsorted: int) -> Hunger:
    """How hungry each drive is one cycle later."""
    moved = {
        "rest": hunger["rest"] + 0.3 * strain * (1 - slowness) - 0.12,  # who is slow rests already
        "order": unsorted / 60,
        "curiosity": hunger["curiosity"] + 0.1 * (1 - novelty) - 0.3 * novelty,  # what is new feeds it
        "presence": 0.8 * slowness,
    }
    return {drive: round(min(1.0, max(0.0, value)), 3) for drive, value in moved.items()}


def mood_of(strain: float, novelty: float, hunger: Hunger) -> str:
    """What hurts comes before what is new, and that before what is missing."""
    if strain >= PAIN_BEGINS:
        return "strained"
    if novelty >= 0.5:
        return "curious"
    return "restless" if max(hunger.values()) >= 0.75 else "calm"
