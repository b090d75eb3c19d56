"""The specification's tables of event types, and whether an event has exactly the fields of its table."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from tests.mind_world import Event

SPECIFICATION = Path(__file__).parents[2] / "shared" / "spec" / "000_1ee672acb3dbbb94.txt"
TABLES = {
    "cycle.start": "{day, session}",
    "cycle.end": "{duration_ms}",
    "daemon.start": "{mode, interval}",
    "daemon.stop": "{reason}",
    "sense.project": "{sense, projection}",
    "sense.all": "{projections: [...]}",
    "wave.send": "{signal: {nodes, emotion, drive_bias}}",
    "wave.result": "{contexts: [{id, desc, resonance}...], count}",
    "window.update": "{entered: [...], left: [...], current: [...]}",
    "observe": "{assessment, familiar, novelty_score}",
    "decision": "{intention, target, rationale}",
    "critic.evaluate": "{agent, verdict, confidence, reasoning}",
    "execute": "{action, target, method}",
    "render": "{changes: [...]}",
    "context.write": "{context: {nodes, edges, emotion, result, rule}}",
    "state.mood": "{old, new}",
    "state.focus": "{old, new}",
    "state.drive": "{drive, hunger, satisfied_by}",
    "state.pain": "{type, intensity, context}",
    "error": "{source, message, traceback}",
}
"""The event types of the specification with their data, word for word."""


def shape_of(text: str) -> Any:
    """`{a, b: [{c}...]}` as {"a": None, "b": [{"c": None}]}; None stands for anything."""
    as_json = re.sub(r"(\w+)(?=[,}])", r"\1: None", text).replace("...", "")
    return ast.literal_eval(re.sub(r"(\w+):", r'"\1":', as_json))


def has_shape(value: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        same = isinstance(value, dict) and list(value) == list(shape)
        return same and all(has_shape(value[key], inner) for key, inner in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(element, inner) for inner in shape for element in value)
    return True


def assert_shapes(events: list[Event]) -> None:
    wrong = [event for event in events if not has_shape(event["data"], shape_of(TABLES[event["type"]]))]
    assert wrong == []
