"""The vocabulary: every event type of the specification and our own, with its fields and its one-line digest.

Data only. The TypeScript types and the digests of the page are generated from it, by
`scripts/generate_catalogue_ts.py`. It describes and does not police: `emit()` takes any type and any data, so
a reader must expect every field to be missing or of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CATALOGUE", "EventType", "Field", "Kind"]

Kind = Literal["text", "integer", "number", "list", "object", "any"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event's data.

    Args:
        name: its key.
        kind: what a producer puts there by convention.
        meaning: a few words for people.
        inside: the fields of an object or of each element of a list, where the specification names them.
    """

    name: str
    kind: Kind
    meaning: str
    inside: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class EventType:
    """One event type.

    Args:
        name: what stands in `type`.
        group: the heading it stands under.
        fields: its data, in the specification's order.
        when: on what occasion it is emitted, in the specification's words.
        digest: the template of its one-line digest; `broadcast.digest` describes the language.
    """

    name: str
    group: str
    fields: tuple[Field, ...]
    when: str
    digest: str


_LIFECYCLE: Final = "Lifecycle"
_BODY: Final = "Body (Senses)"
_MEMORY: Final = "Memory (Wave Retrieval)"
_OBSERVER: Final = "Observer"
_DECISION: Final = "Decision + Execution"
_WRITING: Final = "Context Writing"
_STATE: Final = "State"
_ERRORS: Final = "Errors"
_OWN: Final = "Broadcast"

_TYPES: Final = (
    EventType(
        "cycle.start",
        _LIFECYCLE,
        (Field("day", "integer", "virtual day"), Field("session", "any", "which session of the mind")),
        "Daemon begins a cycle",
        "day {day}[, session {session}]",
    ),
    EventType(
        "cycle.end",
        _LIFECYCLE,
        (Field("duration_ms", "number", "how long the cycle took, milliseconds"),),
        "Cycle complete",
        "{duration_ms} ms",
    ),
    EventType(
        "daemon.start",
        _LIFECYCLE,
        (Field("mode", "text", "how the daemon runs"), Field("interval", "number", "pause between cycles")),
        "Daemon process starts",
        "{mode}[, interval {interval}]",
    ),
    EventType(
        "daemon.stop",
        _LIFECYCLE,
        (Field("reason", "text", "why it stops"),),
        "Daemon process stops",
        "{reason}",
    ),
    EventType(
        "sense.project",
        _BODY,
        (Field("sense", "text", "which sense"), Field("projection", "text", "the phrase it projects")),
        "A sense projects a phrase",
        # The specification's own daemon emits it without `sense`.
        "[{sense}: ]{projection}",
    ),
    EventType(
        "sense.all",
        _BODY,
        (Field("projections", "list", "what all senses projected"),),
        "All senses completed",
        "{#projections|projection|projections}[: {projections}]",
    ),
    EventType(
        "wave.send",
        _MEMORY,
        (
            Field(
                "signal",
                "object",
                "what is searched for",
                (
                    Field("nodes", "list", "the nodes it sets out from"),
                    Field("emotion", "any", "the emotion it carries"),
                    Field("drive_bias", "any", "how drives bend it"),
                ),
            ),
        ),
        "Wave sent to context store",
        "{signal.nodes}[ · {signal.emotion}][ · bias {signal.drive_bias}]",
    ),
    EventType(
        "wave.result",
        _MEMORY,
        (
            Field(
                "contexts",
                "list",
                "what resonated",
                (
                    Field("id", "any", "which context"),
                    Field("desc", "text", "what it is about"),
                    Field("resonance", "number", "how strongly it resonated"),
                ),
            ),
            Field("count", "integer", "how many contexts resonated"),
        ),
        "Contexts that resonated",
        "{count|context|contexts}[: {contexts}]",
    ),
    EventType(
        "window.update",
        _MEMORY,
        (
            Field("entered", "list", "contexts that came in"),
            Field("left", "list", "contexts that went out"),
            Field("current", "list", "contexts that are in now"),
        ),
        "Window state changed",
        "[+{#entered}][ −{#left}][ = {#current}][: {current}]",
    ),
    EventType(
        "observe",
        _OBSERVER,
        (
            Field("assessment", "text", "what the observer makes of it"),
            Field("familiar", "any", "whether, or what of it, is known"),
            Field("novelty_score", "number", "how new it is"),
        ),
        "Observer evaluates situation",
        "{assessment}[ · familiar {familiar}][ · novelty {novelty_score}]",
    ),
    EventType(
        "decision",
        _DECISION,
        (
            Field("intention", "text", "what is meant to be done"),
            Field("target", "any", "to what or whom"),
            Field("rationale", "text", "why"),
        ),
        "Decision made",
        "{intention}[ → {target}][: {rationale}]",
    ),
    EventType(
        "critic.evaluate",
        _DECISION,
        (
            Field("agent", "text", "which critic"),
            Field("verdict", "text", "what it says"),
            Field("confidence", "number", "how sure it is"),
            Field("reasoning", "text", "why"),
        ),
        "Critic agent speaks",
        "[{agent}: ]{verdict}[ ({confidence})][: {reasoning}]",
    ),
    EventType(
        "execute",
        _DECISION,
        (
            Field("action", "text", "what is done"),
            Field("target", "any", "to what or whom"),
            Field("method", "text", "by which means"),
        ),
        "Action taken",
        "{action}[ → {target}][ by {method}]",
    ),
    EventType(
        "render",
        _DECISION,
        (Field("changes", "list", "what was brought in line"),),
        "Model synced to reality",
        "{#changes|change|changes}[: {changes}]",
    ),
    EventType(
        "context.write",
        _WRITING,
        (
            Field(
                "context",
                "object",
                "what is remembered",
                (
                    Field("nodes", "list", "its nodes"),
                    Field("edges", "list", "how they hang together"),
                    Field("emotion", "any", "the emotion it carries"),
                    Field("result", "any", "what came of it"),
                    Field("rule", "any", "what was learnt"),
                ),
            ),
        ),
        "New context stored",
        "{#context.nodes|node|nodes}[, {#context.edges|edge|edges}][ · {context.emotion}]"
        "[ → {context.result}][ · {context.rule}]",
    ),
    EventType(
        "state.mood",
        _STATE,
        (Field("old", "any", "the mood before"), Field("new", "any", "the mood now")),
        "Mood changed",
        "[{old} ]→ {new}",
    ),
    EventType(
        "state.focus",
        _STATE,
        (Field("old", "any", "the focus before"), Field("new", "any", "the focus now")),
        "Focus changed",
        "[{old} ]→ {new}",
    ),
    EventType(
        "state.drive",
        _STATE,
        (
            Field("drive", "text", "which drive"),
            Field("hunger", "number", "how hungry it is"),
            Field("satisfied_by", "any", "what stills it"),
        ),
        "Drive state changed",
        "{drive}[ · hunger {hunger}][ · satisfied by {satisfied_by}]",
    ),
    EventType(
        "state.pain",
        _STATE,
        (
            Field("type", "text", "which pain"),
            Field("intensity", "number", "how strong it is"),
            Field("context", "any", "what it is about"),
        ),
        "Pain registered/resolved",
        "{type}[ {intensity}][: {context}]",
    ),
    EventType(
        "error",
        _ERRORS,
        (
            Field("source", "text", "where it went wrong"),
            Field("message", "text", "what went wrong"),
            Field("traceback", "text", "how the program came there"),
        ),
        "Something went wrong",
        "[{source}: ]{message}",
    ),
    EventType(
        "broadcast.lost",
        _OWN,
        (
            Field("count", "integer", "how many events"),
            Field("reason", "text", "why they could not be kept"),
            Field("first_ts", "text", "`ts` of the first of them"),
            Field("last_ts", "text", "`ts` of the last of them"),
            Field("producer", "text", "whose they were"),
        ),
        "A producer had to drop events",
        "{count|event|events}[: {reason}][, {first_ts} to {last_ts}]",
    ),
    EventType(
        "broadcast.producer",
        _OWN,
        (
            Field("state", "text", "`up` or `down`"),
            Field("producer", "text", "its name, as in `by`"),
            Field("host", "text", "the machine it runs on"),
            Field("pid", "integer", "its process there"),
        ),
        "A producer has come, or is gone",
        "{state}: {producer}",
    ),
    EventType(
        "broadcast.limited",
        _OWN,
        (
            Field("withheld", "object", "how many events, by the pattern that limits them"),
            Field("first_ts", "text", "`ts` of the first of them"),
            Field("last_ts", "text", "`ts` of the last of them"),
            Field("producer", "text", "whose they were"),
        ),
        "A producer withheld events over its limits",
        "withheld {withheld}[, {first_ts} to {last_ts}]",
    ),
    EventType(
        "broadcast.gap",
        _OWN,
        (
            Field("after", "text", "id of the last event before the gap"),
            Field("before", "text", "id of the first event after it"),
            Field("lost", "integer", "how many events of the log; nothing where it cannot be known"),
            Field("reason", "text", "trimmed, slow, rewound or reset"),
        ),
        "Events can no longer be given to this reader",
        "[{lost|event|events} ]{reason}",
    ),
    EventType(
        "broadcast.malformed",
        _OWN,
        (
            Field("id", "text", "the entry's place in the log"),
            Field("reason", "text", "what is wrong with it"),
        ),
        "An entry of the log is no valid event",
        "[{id}: ]{reason}",
    ),
    EventType(
        "broadcast.erased",
        _OWN,
        (
            Field("ids", "list", "the ids that were named, if any"),
            Field("types", "text", "the filter that was named, if any"),
            Field("from", "text", "not older than this, by `ts`"),
            Field("to", "text", "not newer than this"),
            Field("until", "text", "id of the newest event that may be meant"),
            Field("stream", "integer", "how many were blanked in the stream"),
            Field("archive", "integer", "how many in the archive"),
        ),
        "Events were erased: whoever has them forgets them",
        "erased[ {types}][ from {from}][ to {to}][: {stream} in the stream][, {archive} in the archive]",
    ),
    EventType(
        "broadcast.blank",
        _OWN,
        (Field("reason", "text", "why: erased"),),
        "Here was an event that is gone",
        "{reason}",
    ),
)

CATALOGUE: Final[dict[str, EventType]] = {event_type.name: event_type for event_type in _TYPES}
"""Every known type by its name, in the specification's order, our own last."""
