// How long to wait before the next attempt to connect.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

/** Twice as long each time, at most 10 s; half of it is chance, so that a thousand viewers do not return as one. */
export function backoffMs(attempt: number, random: number = Math.random()): number {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return longest * (0.5 + random / 2);
}
