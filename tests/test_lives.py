"""The golden lives are what `tests/lives.py` makes of their events; the page folds the same file (`web/mind`)."""

from __future__ import annotations

import json

from tests.lives import GOLDEN, golden, life, summary


def test_the_golden_lives_are_current() -> None:
    assert golden() == GOLDEN.read_text("utf-8"), "run: .venv/bin/python -m tests.lives"


def test_the_golden_lives_hold_what_is_hard() -> None:
    cycles = [cycle for case in json.loads(GOLDEN.read_text("utf-8")) for cycle in case["summary"]["cycles"]]

    assert any(not cycle["ended"] for cycle in cycles)
    assert any(cycle["failures"] for cycle in cycles)
    assert any(len([c for c in cycles if c["number"] == cycle["number"]]) > 1 for cycle in cycles)


def test_a_pain_ends_with_its_last_word() -> None:
    events = life(0)
    told = {"type": "state.pain", "data": {"type": "strain", "intensity": 0, "context": ""}}

    assert "strain" not in summary([*events, {**events[-1], **told}])["hurts"]
