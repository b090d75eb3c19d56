// What a mind felt before the first of the events that are at hand: a mood may last for longer than a page of events
// reaches. So the last events of each kind of feeling are asked for by themselves. Pure.
import type { Event } from "../client/wire.ts";
import { type MindState, NO_MIND, step } from "./mind.ts";

/** How many of each kind are asked for: of moods and focuses a history, of drives and pains enough to meet each name. */
export const RECALLED: readonly (readonly [types: string, events: number])[] = [
  ["state.mood", 20],
  ["state.focus", 20],
  ["state.drive", 100],
  ["state.pain", 100],
  ["window.update", 20],
  ["daemon.*", 1],
];

/** The state that these events leave behind, each kind oldest first: feelings alone, no cycle and no count. */
export function recall(events: readonly Event[]): MindState {
  const felt = events.reduce((state, event) => step(state, { ...event, cycle: 0 }), NO_MIND);
  return { ...felt, events: 0, lastMs: null, spokeMs: null };
}
