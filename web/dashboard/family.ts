// What kinds of events there are for the eye: each has a word and a colour, never the colour alone. Pure.

import { LANE_OF, LANES } from "../mind/lanes.ts";

export const FAMILIES = [...LANES, "state", "error", "life", "other"] as const;
export type Family = (typeof FAMILIES)[number];

/** As they are called on the page. */
export const NAMES: Readonly<Record<Family, string>> = {
  ...(Object.fromEntries(FAMILIES.map((family) => [family, family])) as Record<Family, string>),
  life: "start/end",
};

/** What each means: the legend of its colour. */
export const MEANINGS: Readonly<Record<Family, string>> = {
  sense: "what it perceives",
  wave: "what it recalls, and has in view",
  observe: "what it makes of that",
  decide: "what it decides",
  critics: "what its critics say of it",
  act: "what it does, and what that changes",
  write: "what it keeps in memory",
  state: "mood, focus, drives, pain",
  error: "what went wrong",
  life: "cycles and processes, begun and ended",
  other: "all else",
};

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
