// Data of a mind may hold anything: these read it as what is wanted, or say that it is not there. Pure.

const CHARS_MAX = 2_000;

/** The value as text, cut; empty where there is none. */
export function textOf(value: unknown, charsMax: number = CHARS_MAX): string {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length <= charsMax ? text : `${ownCopy(text.slice(0, charsMax - 1))}…`;
}

/** Cut off a long text, a short one would keep all of it in memory: engines only point into it. */
function ownCopy(text: string): string {
  return ` ${text}`.slice(1);
}

/** A finite number, also where it is written as a text; else null. */
export function numberOf(value: unknown): number | null {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : null;
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function fieldOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

/** What names a thing among others: itself, or its `id`; and what it is called, where that is another. */
export function nameOf(value: unknown): { readonly key: string; readonly desc: string } {
  const id = fieldOf(value, "id") ?? fieldOf(value, "name") ?? fieldOf(value, "desc") ?? value;
  return { key: textOf(id, 120), desc: textOf(fieldOf(value, "desc") ?? fieldOf(value, "name"), 200) };
}

/** When an event happened; by its place in the log where its `ts` is no time. */
export function timeOf(event: { readonly ts: string; readonly id: string }): number {
  const ms = Date.parse(event.ts);
  return Number.isNaN(ms) ? Number.parseInt(event.id, 10) || 0 : ms;
}

/** The end of a list, at most so long. */
export function newest<Item>(list: readonly Item[], max: number): readonly Item[] {
  return list.length <= max ? list : list.slice(list.length - max);
}
