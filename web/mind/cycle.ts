// One cycle, folded from its events. Pure: every step makes a new value that shares what did not change.
import type { Event } from "../client/wire.ts";
import { type Lane, laneOf } from "./lanes.ts";
import { newest, numberOf, textOf, timeOf } from "./values.ts";

const BARS_MAX = 128;
const VERDICTS_MAX = 24;
const FAILURES_MAX = 8;
const TRACEBACK_CHARS_MAX = 8_000;

/** From the first event of a stage to the first of the next. */
export interface Bar {
  readonly lane: Lane;
  readonly fromMs: number;
  /** Null while the stage runs. */
  readonly toMs: number | null;
  readonly events: number;
  readonly firstId: string;
}

export interface Verdict {
  readonly agent: string;
  readonly verdict: string;
  readonly confidence: number | null;
  readonly reasoning: string;
  readonly id: string;
}

export interface Decision {
  readonly intention: string;
  readonly target: string;
  readonly rationale: string;
  readonly atMs: number;
  readonly id: string;
}

export interface Failure {
  readonly source: string;
  readonly message: string;
  readonly traceback: string;
  readonly atMs: number;
  readonly id: string;
  readonly cycle: number;
  /** By this its cycle is found, since numbers begin again with every run: that one's key, or where it is not at hand, this event's id. Empty outside of all. */
  readonly cycleKey: string;
}

export interface Cycle {
  /** The id of its `cycle.start`; where that was not seen, the id of its first event. */
  readonly key: string;
  readonly number: number;
  readonly day: number;
  /** The producer: numbers begin again with each. */
  readonly run: string;
  /** Whether its `cycle.start` was seen. */
  readonly whole: boolean;
  readonly fromMs: number;
  /** Null while it runs. */
  readonly toMs: number | null;
  /** As the mind itself measured it. */
  readonly durationMs: number | null;
  /** `cut off`: another cycle, or the mind's end, came before its `cycle.end`. */
  readonly outcome: "running" | "ended" | "cut off";
  readonly bars: readonly Bar[];
  /** Stages beyond those in `bars`. */
  readonly barsHidden: number;
  readonly decision: Decision | null;
  /** In the order they spoke; a critic may speak of several proposals. */
  readonly critics: readonly Verdict[];
  readonly failures: readonly Failure[];
  readonly failureCount: number;
  readonly assessment: string;
  readonly novelty: number | null;
  readonly action: string;
  /** How many contexts resonated; null before the wave came back. */
  readonly resonated: number | null;
  readonly events: number;
  readonly lastMs: number;
}

export function runOf(event: Event): string {
  const by = typeof event.by === "string" ? event.by : "";
  return by.slice(0, Math.max(0, by.lastIndexOf(":")));
}

export function beginCycle(event: Event): Cycle {
  const fromMs = timeOf(event);
  const begun: Cycle = {
    key: event.id, number: event.cycle, day: event.day, run: runOf(event), whole: event.type === "cycle.start",
    fromMs, toMs: null, durationMs: null, outcome: "running", bars: [], barsHidden: 0, decision: null, critics: [],
    failures: [], failureCount: 0, assessment: "", novelty: null, action: "", resonated: null, events: 0,
    lastMs: fromMs,
  };
  return stepCycle(begun, event);
}

/** The cycle with one more of its events. */
export function stepCycle(cycle: Cycle, event: Event): Cycle {
  const atMs = Math.max(timeOf(event), cycle.fromMs);
  const counted = { ...cycle, events: cycle.events + 1, lastMs: Math.max(cycle.lastMs, atMs) };
  return withFacts(withLane(counted, event, atMs), event, atMs);
}

/** The cycle as one that will have no more events. */
export function endCycle(cycle: Cycle, atMs: number, outcome: "ended" | "cut off"): Cycle {
  if (cycle.outcome !== "running") return cycle;
  return { ...cycle, outcome, toMs: Math.max(atMs, cycle.fromMs), bars: closed(cycle.bars, atMs) };
}

function withLane(cycle: Cycle, event: Event, atMs: number): Cycle {
  const lane = laneOf(event.type);
  if (lane === null) return cycle;
  const last = cycle.bars.at(-1);
  // What comes late, after the end, belongs to its cycle but opens no bar.
  if (cycle.outcome !== "running") return cycle;
  if (last?.lane === lane) {
    return { ...cycle, bars: [...cycle.bars.slice(0, -1), { ...last, events: last.events + 1 }] };
  }
  if (cycle.bars.length >= BARS_MAX) return { ...cycle, barsHidden: cycle.barsHidden + 1 };
  // The first stage has been under way since the cycle began: its first event tells what came of it.
  const fromMs = last === undefined ? cycle.fromMs : Math.max(atMs, last.fromMs);
  const bar: Bar = { lane, fromMs, toMs: null, events: 1, firstId: event.id };
  return { ...cycle, bars: [...closed(cycle.bars, atMs), bar] };
}

function closed(bars: readonly Bar[], atMs: number): readonly Bar[] {
  const last = bars.at(-1);
  if (last === undefined || last.toMs !== null) return bars;
  return [...bars.slice(0, -1), { ...last, toMs: Math.max(atMs, last.fromMs) }];
}

function withFacts(cycle: Cycle, event: Event, atMs: number): Cycle {
  const { data } = event;
  switch (event.type) {
    case "cycle.end":
      return { ...endCycle(cycle, atMs, "ended"), durationMs: numberOf(data["duration_ms"]) };
    case "wave.result":
      return { ...cycle, resonated: numberOf(data["count"]) };
    case "observe":
      return { ...cycle, assessment: textOf(data["assessment"]), novelty: numberOf(data["novelty_score"]) };
    case "decision":
      return { ...cycle, decision: decisionOf(event) };
    case "critic.evaluate":
      return { ...cycle, critics: newest([...cycle.critics, verdictOf(event)], VERDICTS_MAX) };
    case "execute":
      return { ...cycle, action: [textOf(data["action"]), textOf(data["target"])].filter(Boolean).join(" → ") };
    case "error":
      return {
        ...cycle,
        failures: newest([...cycle.failures, failureOf(event, cycle.key)], FAILURES_MAX),
        failureCount: cycle.failureCount + 1,
      };
    default:
      return cycle;
  }
}

function decisionOf(event: Event): Decision {
  const { intention, target, rationale } = event.data;
  return {
    intention: textOf(intention),
    target: textOf(target),
    rationale: textOf(rationale),
    atMs: timeOf(event),
    id: event.id,
  };
}

function verdictOf({ data, id }: Event): Verdict {
  return {
    agent: textOf(data["agent"], 80),
    verdict: textOf(data["verdict"], 80),
    confidence: numberOf(data["confidence"]),
    reasoning: textOf(data["reasoning"]),
    id,
  };
}

export function failureOf(event: Event, cycleKey: string): Failure {
  return {
    source: textOf(event.data["source"], 120),
    message: textOf(event.data["message"]),
    traceback: textOf(event.data["traceback"], TRACEBACK_CHARS_MAX),
    atMs: timeOf(event),
    id: event.id,
    cycle: event.cycle,
    cycleKey,
  };
}
