// The window: which contexts the mind has in view, which have just come, which have just gone. Pure.
import type { Event } from "../client/wire.ts";
import { fieldOf, listOf, nameOf, numberOf, timeOf } from "./values.ts";

const CONTEXTS_MAX = 200;
const NAMES_MAX = 512;

export interface Known {
  readonly desc: string;
  readonly resonance: number | null;
}

export interface Window {
  readonly current: readonly string[];
  readonly entered: readonly string[];
  readonly left: readonly string[];
  readonly atMs: number | null;
  /** What is known of contexts, by their key: a window names them, a wave describes them. */
  readonly known: ReadonlyMap<string, Known>;
}

export const NO_WINDOW: Window = { current: [], entered: [], left: [], atMs: null, known: new Map() };

export function withNames(window: Window, contexts: unknown): Window {
  const known = new Map(window.known);
  for (const context of listOf(contexts).slice(0, CONTEXTS_MAX)) learn(known, context);
  return { ...window, known: bounded(known) };
}

export function withWindow(window: Window, event: Event): Window {
  const known = new Map(window.known);
  const keys = (name: string): string[] =>
    listOf(event.data[name])
      .slice(0, CONTEXTS_MAX)
      .map((context) => learn(known, context));
  const [entered, left] = [keys("entered"), keys("left")];
  const told = Array.isArray(event.data["current"]) ? keys("current") : null;
  // A mind that tells only what changed has in view what it had, less what left, and what came.
  const current = told ?? [...window.current.filter((key) => !left.includes(key)), ...entered].slice(-CONTEXTS_MAX);
  return { current, entered, left, atMs: timeOf(event), known: bounded(known) };
}

function learn(known: Map<string, Known>, context: unknown): string {
  const { key, desc } = nameOf(context);
  const before = known.get(key);
  const resonance = numberOf(fieldOf(context, "resonance")) ?? before?.resonance ?? null;
  if (desc !== "" || before !== undefined) {
    known.delete(key); // so that what is forgotten first is what was told of longest ago
    known.set(key, { desc: desc || (before?.desc ?? ""), resonance });
  }
  return key;
}

function bounded(known: Map<string, Known>): ReadonlyMap<string, Known> {
  while (known.size > NAMES_MAX) known.delete(known.keys().next().value as string);
  return known;
}
