// One line that says what an event holds: the same text that `broadcast tail` shows.
//
// The twin of src/broadcast/digest.py, which describes the template language and the form of every kind of value;
// tests/golden/digests.json holds both to it. Everything here is lazy: 160 characters are shown of data that may have
// 64 KiB and any depth, and a page does this for every row that scrolls by.
import { DIGESTS } from "../client/catalogue.gen.ts";

const CHARS_MAX = 160;
const NAMING_KEYS = ["desc", "name", "id"];

type Json = Readonly<Record<string, unknown>>;

interface Section {
  readonly optional: boolean;
  /** Text and hole in turn. */
  readonly parts: readonly string[];
}

const templates: ReadonlyMap<string, readonly Section[]> = new Map(
  Object.entries(DIGESTS).map(([type, template]) => [type, sections(template)]),
);

/** What an event holds, in at most 160 characters. Not escaped: `printable` does that. */
export function digest(event: { readonly type: string; readonly data?: unknown }): string {
  const data = event.data === undefined ? {} : event.data;
  const template = templates.get(event.type);
  const fits = template?.some((section) => section.parts.some((part, i) => i % 2 === 1 && !isEmpty(data, part)));
  return cut(template !== undefined && fits ? filled(template, data) : compact(data));
}

function sections(template: string): Section[] {
  return template.split(/\[([^\]]*)\]/).map((text, i) => ({
    optional: i % 2 === 1,
    parts: text.split(/\{(#?[a-z0-9_.]+(?:\|[a-z]+\|[a-z]+)?)\}/),
  }));
}

function* filled(template: readonly Section[], data: unknown): Generator<string> {
  for (const { optional, parts } of template) {
    if (optional && parts.some((part, i) => i % 2 === 1 && isEmpty(data, part))) continue;
    for (const [i, part] of parts.entries()) {
      if (i % 2 === 0) yield part;
      else yield* holeText(data, part);
    }
  }
}

function isEmpty(data: unknown, hole: string): boolean {
  const value = found(data, hole);
  return value === null || value === "" || (Array.isArray(value) && value.length === 0 && !hole.startsWith("#"));
}

function* holeText(data: unknown, hole: string): Generator<string> {
  const held = found(data, hole);
  const [, one, many] = hole.split("|");
  if (held === null) {
    if (many !== undefined) yield many;
    return;
  }
  const value = Array.isArray(held) && hole.startsWith("#") ? held.length : held;
  if (Array.isArray(value)) yield* joined(value);
  else yield* shown(value);
  if (many !== undefined) yield ` ${value === 1 ? one : many}`;
}

function found(data: unknown, hole: string): unknown {
  let value = data;
  for (const key of (hole.split("|", 1)[0] as string).replace("#", "").split(".")) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return null;
    value = value[key];
  }
  return typeof value === "number" && !Number.isFinite(value) ? null : value;
}

function* joined(list: readonly unknown[]): Generator<string> {
  for (const [i, element] of list.entries()) {
    if (i > 0) yield ", ";
    yield* shown(named(element));
  }
}

/** What names an object among others, where it has such a thing. */
function named(element: unknown): unknown {
  if (!isObject(element)) return element;
  const names = NAMING_KEYS.map((key) => found(element, key));
  return names.find((name) => (typeof name === "string" && name !== "") || typeof name === "number") ?? element;
}

function* shown(value: unknown): Generator<string> {
  if (typeof value === "string") yield value;
  else yield* compact(value);
}

function* compact(value: unknown): Generator<string> {
  if (Array.isArray(value)) yield* compactList(value);
  else if (isObject(value)) yield* compactObject(value);
  else if (typeof value === "number" && Number.isFinite(value)) yield numberText(value);
  else yield JSON.stringify(value) ?? "null";
}

function* compactList(list: readonly unknown[]): Generator<string> {
  yield "[";
  for (const [i, element] of list.entries()) {
    if (i > 0) yield ",";
    yield* compact(element);
  }
  yield "]";
}

function* compactObject(object: Json): Generator<string> {
  let before = "{";
  for (const key of Object.keys(object)) {
    yield `${before}${JSON.stringify(key)}:`;
    yield* compact(object[key]);
    before = ",";
  }
  yield before === "{" ? "{}" : "}";
}

function numberText(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const text = value.toFixed(3).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

function cut(pieces: Generator<string>): string {
  let text = "";
  for (const piece of pieces) {
    text += piece;
    // A character takes one or two of JavaScript's units, so more than this certainly is too long.
    if (text.length > 2 * CHARS_MAX) break;
  }
  if (text.length <= CHARS_MAX) return text;
  const characters = Array.from(text.slice(0, 2 * CHARS_MAX + 2));
  return characters.length <= CHARS_MAX ? text : `${characters.slice(0, CHARS_MAX - 1).join("")}…`;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
