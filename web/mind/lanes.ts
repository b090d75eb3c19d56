// The stages of a cycle, as lanes of its waterfall. Pure.

export const LANES = ["sense", "wave", "observe", "decide", "critics", "act", "write"] as const;
export type Lane = (typeof LANES)[number];

/** By the first word of an event's type. */
export const LANE_OF: ReadonlyMap<string, Lane> = new Map([
  ["sense", "sense"],
  ["wave", "wave"],
  ["window", "wave"],
  ["observe", "observe"],
  ["decision", "decide"],
  ["critic", "critics"],
  ["execute", "act"],
  ["render", "act"],
  ["context", "write"],
]);

/** Null for what happens beside the stages: states, errors, the cycle's own ends, what a mind invents. */
export function laneOf(type: string): Lane | null {
  return LANE_OF.get(type.split(".", 1)[0] as string) ?? null;
}
