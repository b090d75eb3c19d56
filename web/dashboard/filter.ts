// What the reader wants to see, as it is written in the filter box. Pure.
//
//     sense.* -sense.all          types, as everywhere in broadcast
//     rain "dark clouds" -wind    words: somewhere in the event, whatever their case; "-" means not
//     cycle:41  cycle:40..45      events of these cycles; day: likewise
//     ts:2026-02-14T19:01         events of this minute, by their own clock; ts:A..B from one time to another
//     drive:rest  signal.emotion:calm  type:error
//                                 fields of the data by their path: a text that holds the value, a number that is it
//
// Terms stand side by side, with spaces or commas between. What is said twice of one field is either; all else must
// hold together. src/broadcast/search.py is this module's twin; tests/golden/filters.json holds both to it.
import { DIGESTS } from "../client/catalogue.gen.ts";
import { FilterError, patternsMatcher } from "../client/patterns.ts";
import type { Event } from "../client/wire.ts";

export { FilterError };
export type Matches = (event: Event) => boolean;

interface Term {
  readonly not: boolean;
  /** `type`, `cycle`, `day`, `ts`, `by`, `id`, or a path in the data; empty for a word. */
  readonly field: string;
  readonly value: string;
}

const TERMS_MAX = 64;
const VALUE_CHARS_MAX = 256;
const TIME = String.raw`(\d{4}(?:-\d\d(?:-\d\d(?:T\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?)?)?)Z?`;
const TIMES = new RegExp(String.raw`^${TIME}(?:\.\.${TIME})?$`);
const TERM = /(-?)(?:([A-Za-z_][\w.]*):)?(?:"([^"]*)"?|([^\s,"]+))|[^\s,]/gu;

/** Throws a FilterError that names the term. */
export function parseFilter(text: string): Matches {
  const terms = [...text.matchAll(TERM)].map(term).filter(({ value, field }) => value !== "" || field !== "");
  if (terms.length > TERMS_MAX) throw new FilterError(`at most ${TERMS_MAX} terms`);
  if (terms.length === 0) return () => true;
  const types = terms.filter(({ field }) => field === "type").map(({ not, value }) => (not ? `-${value}` : value));
  const typeMatches = patternsMatcher(types);
  const others = terms.filter(({ field }) => field !== "type");
  const unwanted = others.filter(({ not }) => not).map(matcher);
  const wanted = groups(others.filter(({ not }) => !not));
  return (event) =>
    typeMatches(event.type) &&
    wanted.every((either) => either.some((holds) => holds(event))) &&
    !unwanted.some((holds) => holds(event));
}

/** The number of the only cycle, 0 being none, whose events such a filter shows; null where it names none, or several. */
export function soleCycle(text: string): number | null {
  const named = [...text.matchAll(TERM)].map(term).filter(({ field, not }) => field === "cycle" && !not);
  const value = named[0]?.value ?? "";
  return named.length === 1 && /^[1-9]\d{0,14}$/.test(value) ? Number(value) : null;
}

/** A term for the filter box that means this field and value. */
export function termFor(field: string, value: string, not = false): string {
  const plain = /^[^\s,"]+$/.test(value);
  return `${not ? "-" : ""}${field}:${plain ? value : `"${value.replaceAll('"', "")}"`}`;
}

function term([whole, minus, field, quoted, bare]: RegExpMatchArray): Term {
  const value = quoted ?? bare;
  const isOption = quoted === undefined && value?.startsWith("-") && (field === undefined || field === "type");
  if (value === undefined || isOption) throw new FilterError(`“${whole.slice(0, 40)}” means nothing`);
  if (value.length > VALUE_CHARS_MAX) throw new FilterError(`at most ${VALUE_CHARS_MAX} characters in one term`);
  const isType = field === undefined && quoted === undefined && looksLikeType(value);
  return { not: minus === "-", field: isType ? "type" : (field ?? ""), value };
}

function looksLikeType(word: string): boolean {
  return word.includes("*") || Object.hasOwn(DIGESTS, word) || /^[a-z_]+(\.[a-z_]+)+$/.test(word);
}

/** Words must all be there; of the values of one field one is enough. */
function groups(terms: readonly Term[]): Matches[][] {
  const byField = new Map<string, Matches[]>();
  for (const [i, each] of terms.entries()) {
    const key = each.field === "" ? `word ${i}` : each.field;
    byField.set(key, [...(byField.get(key) ?? []), matcher(each)]);
  }
  return [...byField.values()];
}

function matcher({ field, value }: Term): Matches {
  if (field === "") {
    const word = value.toLowerCase();
    return (event) => searched(event).includes(word);
  }
  if (field === "cycle" || field === "day") return numberMatcher(field, value);
  if (field === "ts") return timeMatcher(value);
  if (field === "id") return (event) => event.id === value;
  if (field === "by") return (event) => String(event.by ?? "").startsWith(value);
  const sought = value.toLowerCase();
  const path = field.split(".");
  return (event) => holds(at(event.data, path), sought);
}

function numberMatcher(field: "cycle" | "day", text: string): Matches {
  const range = /^(\d+)(?:\.\.(\d+))?$/.exec(text);
  if (range === null) throw new FilterError(`${field}:${text.slice(0, 40)} – a number, or two with “..” between`);
  const least = Number(range[1]);
  const most = Number(range[2] ?? range[1]);
  if (most < least) throw new FilterError(`${field}:${text.slice(0, 40)} – the first is the larger one`);
  return (event) => event[field] >= least && event[field] <= most;
}

function timeMatcher(text: string): Matches {
  const range = TIMES.exec(text);
  if (range === null) throw new FilterError(`ts:${text.slice(0, 40)} – a time, 2026-02-14T19:01, or two with “..” between`);
  const least = range[1] as string;
  const most = range[2] ?? least;
  if (most < least.slice(0, most.length)) throw new FilterError(`ts:${text.slice(0, 40)} – the first is the later one`);
  // Texts of one form, in UTC: they are in order as their times are; and a minute has all of its seconds.
  return ({ ts }) => typeof ts === "string" && ts >= least && ts.slice(0, most.length) <= most;
}

function at(value: unknown, path: readonly string[]): unknown {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

function holds(value: unknown, sought: string): boolean {
  if (Array.isArray(value)) return value.some((element) => holds(element, sought));
  if (typeof value === "string") return value.toLowerCase().includes(sought);
  return value !== undefined && typeof value !== "object" && String(value) === sought;
}

// Made where a word is sought for the first time; gone with the event. Of long ones only the last is kept: a page that
// is searched must not weigh twice as much as one that is not.
const KEPT_CHARS_MAX = 600;
const texts = new WeakMap<Event, string>();
let last: { readonly event: Event; readonly text: string } | null = null;

function searched(event: Event): string {
  if (last?.event === event) return last.text;
  const kept = texts.get(event);
  if (kept !== undefined) return kept;
  const text = `${event.type} ${JSON.stringify(event.data)}`.toLowerCase();
  if (text.length <= KEPT_CHARS_MAX) texts.set(event, text);
  else last = { event, text };
  return text;
}
