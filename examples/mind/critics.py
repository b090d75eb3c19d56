"""Critics: each judges a proposal by a criterion of its own, and may veto it."""

from collections.abc import Sequence
from typing import NamedTuple

from memory import Echo

HARM = -0.1  # what let strain rise by more than this, on average, is not done again


class Proposal(NamedTuple):
    """Something that could be done: what it wins is a drive's hunger; win and cost are from 0 to 1."""

    action: str
    target: str
    drive: str
    win: float
    cost: float
    cost_of: str


Judgement = tuple[str, float, str]  # “approve” or “veto”, how sure the critic is, from 0 to 1, and why


def thrift(proposal: Proposal, echoes: Sequence[Echo]) -> Judgement:
    """Does it cost more than it wins?"""
    win, cost = proposal.win, proposal.cost
    why = f"{proposal.action} wins {win:.2f} and costs {cost:.2f} ({proposal.cost_of})"
    return "veto" if cost > win else "approve", round(abs(win - cost), 2), why


def experience(proposal: Proposal, echoes: Sequence[Echo]) -> Judgement:
    """What came of it, in the moments of the past that resonate with this one?"""
    alike = [(resonance, context.gain) for resonance, context in echoes if context.action == proposal.action]
    if len(alike) < 2:  # a single end may be chance
        return "approve", 0.1, f"too few such moments to know what {proposal.action} brings"
    total = sum(resonance for resonance, _ in alike)
    gain = sum(resonance * gain for resonance, gain in alike) / total
    change = round(-gain, 2) + 0.0  # never “-0.00”
    why = f"{len(alike)} times {proposal.action} in such a moment changed strain by {change:+.2f}"
    verdict = "veto" if gain < HARM and proposal.action != "stay" else "approve"
    return verdict, round(total / len(alike), 2), why


CRITICS = (thrift, experience)
