// What a mind felt, did and decided before the first of the events that are at hand: a mood, and a cycle, may last for
// longer than a page of events reaches. So the last events of each kind are asked for by themselves. Pure.
import type { Event } from "../client/wire.ts";
import { type Cycle, endCycle } from "./cycle.ts";
import { findCycle, type MindState, NO_MIND, step, withFeeling } from "./mind.ts";
import { timeOf } from "./values.ts";

const ERRORS_RECALLED = 50;

/** How many of each kind are asked for: of moods and focuses a history, of drives and pains enough to meet each name. */
export const RECALLED: readonly (readonly [types: string, events: number])[] = [
  ["state.mood", 20],
  ["state.focus", 20],
  ["state.drive", 100],
  ["state.pain", 100],
  ["window.update", 20],
  ["daemon.*", 1],
  ["error", ERRORS_RECALLED],
];

/** The state that these events leave behind, each kind oldest first: feelings and errors alone, no cycle and no count. */
export function recall(events: readonly Event[]): MindState {
  const state = events.reduce((before, event) => withFeeling(before, event, timeOf(event)), NO_MIND);
  // As many as were asked for: there may be more of them.
  return { ...state, errors: { ...state.errors, more: state.errors.count >= ERRORS_RECALLED } };
}

/** The state with the cycle that was the last to begin, and the last that decided; they may be the same. */
export function withRecalled(state: MindState, last: Cycle | null, decided: Cycle | null): MindState {
  const before = decided === null || decided.key === last?.key ? null : endCycle(decided, decided.lastMs, "cut off");
  return { ...state, cycles: last === null ? [] : [last], decidedBefore: before };
}

/** The cycle that begins with the first of these events, as it was when the last of them had come. */
export function cycleFrom(events: readonly Event[]): Cycle | null {
  const start = events[0];
  return start === undefined ? null : findCycle(events.reduce(step, NO_MIND), start.id);
}
