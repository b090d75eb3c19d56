"""Critics: each judges a proposal by a criterion of its own, and may veto it."""

from collections.abc import Sequence
from dataclasses import dataclass

from memory import Echo

HARM = -0.1  # what let strain rise by more than this, on average, is not done again
WITNESSES_MIN = 2  # a single bad end may be chance


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that could be done: what it wins is a drive's hunger; win and cost are from 0 to 1."""

    action: str
    target: str
    drive: str
    win: float
    cost: float
    cost_of: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a critic says; the fields are those of the event."""

    agent: str
    verdict: str
    confidence: float
    reasoning: str


def thrift(proposal: Proposal, echoes: Sequence[Echo]) -> Judgement:
    """Does it cost more than it wins?"""
    win, cost = proposal.win, proposal.cost
    reasoning = f"{proposal.action} wins {win:.2f} and costs {cost:.2f} ({proposal.cost_of})"
    return Judgement("thrift", "veto" if cost > win else "approve", round(abs(win - cost), 2), reasoning)


def experience(proposal: Proposal, echoes: Sequence[Echo]) -> Judgement:
    """What came of it, in the moments of the past that resonate with this one?"""
    alike = [echo for echo in echoes if echo.context.action == proposal.action]
    if len(alike) < WITNESSES_MIN:
        return Judgement("experience", "approve", 0.1, f"too few such moments to know what {proposal.action} brings")
    resonance = sum(echo.resonance for echo in alike)
    gain = sum(echo.resonance * echo.context.gain for echo in alike) / resonance
    change = round(-gain, 2) + 0.0  # never “-0.00”
    reasoning = f"{len(alike)} times {proposal.action} in such a moment changed strain by {change:+.2f}"
    verdict = "veto" if gain < HARM and proposal.action != "stay" else "approve"
    return Judgement("experience", verdict, round(resonance / len(alike), 2), reasoning)


CRITICS = (thrift, experience)
