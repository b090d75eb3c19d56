// What kinds of events there are for the eye: each has a word and a colour, never the colour alone. Pure.

import { LANE_OF, LANES } from "../mind/lanes.ts";

export const FAMILIES = [...LANES, "state", "error", "life", "other"] as const;
export type Family = (typeof FAMILIES)[number];

/** The stages of a cycle, and what stands beside them. */
const BY_PREFIX: ReadonlyMap<string, Family> = new Map<string, Family>([
  ...LANE_OF,
  ["state", "state"],
  ["error", "error"],
  ["cycle", "life"],
  ["daemon", "life"],
  ["broadcast", "life"],
]);

export function familyOf(type: string): Family {
  return BY_PREFIX.get(type.split(".", 1)[0] as string) ?? "other";
}
