// What kinds of events there are for the eye: each has a word and a colour, never the colour alone. Pure.

export const FAMILIES = [
  "sense", "wave", "observe", "decide", "critics", "act", "write", "state", "error", "life", "other",
] as const;
export type Family = (typeof FAMILIES)[number];

const BY_PREFIX: ReadonlyMap<string, Family> = new Map([
  ["sense", "sense"],
  ["wave", "wave"],
  ["window", "wave"],
  ["observe", "observe"],
  ["decision", "decide"],
  ["critic", "critics"],
  ["execute", "act"],
  ["render", "act"],
  ["context", "write"],
  ["state", "state"],
  ["error", "error"],
  ["cycle", "life"],
  ["daemon", "life"],
  ["broadcast", "life"],
]);

export function familyOf(type: string): Family {
  return BY_PREFIX.get(type.split(".", 1)[0] as string) ?? "other";
}
