// Which types of events are meant: `sense.*`, `cycle.start`, `-state.drive`, with commas between. Pure.
//
// The same language as src/broadcast/filters.py: an event passes if any plain pattern matches (none at all counts as
// `*`) and no negated one does.

export type Matches = (type: string) => boolean;

const PATTERNS_MAX = 64;
const PATTERN_CHARS_MAX = 256;
const STEM = /^[^\s,*\u0000-\u001f\u007f-][^\s,*\u0000-\u001f\u007f]*$/u;

export class FilterError extends Error {}

/** Throws a FilterError that names the pattern. */
export function parsePatterns(text: string): Matches {
  const patterns = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  if (patterns.length > PATTERNS_MAX) throw new FilterError(`at most ${PATTERNS_MAX} patterns`);
  return patternsMatcher(patterns);
}

/** The same of patterns already apart. Throws a FilterError that names the pattern. */
export function patternsMatcher(patterns: readonly string[]): Matches {
  for (const pattern of patterns) check(pattern);
  const wanted = patterns.filter((pattern) => !pattern.startsWith("-")).map(matcher);
  const unwanted = patterns.filter((pattern) => pattern.startsWith("-")).map((pattern) => matcher(pattern.slice(1)));
  return (type) =>
    (wanted.length === 0 || wanted.some((matches) => matches(type))) && !unwanted.some((matches) => matches(type));
}

function check(pattern: string): void {
  const bare = pattern.replace(/^-/, "");
  const fits = pattern.length <= PATTERN_CHARS_MAX && (bare === "*" || STEM.test(bare.replace(/\.\*$/, "")));
  if (!fits) throw new FilterError(`“${pattern.slice(0, 60)}” is no pattern; try sense.* or -state.drive`);
}

function matcher(pattern: string): Matches {
  if (pattern === "*") return () => true;
  if (!pattern.endsWith(".*")) return (type) => type === pattern;
  const prefix = pattern.slice(0, -1);
  return (type) => type.startsWith(prefix);
}
