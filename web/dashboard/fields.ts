// The data of an event as rows that people can read: what is nested is indented, whatever its depth. Pure.

export interface FieldRow {
  readonly key: string;
  /** As the filter box names it; empty where it cannot be named. */
  readonly path: string;
  readonly depth: number;
  /** Null for an object or a list that has rows of its own. */
  readonly value: string | null;
  /** How many it holds, for an object or a list. */
  readonly size: number;
  /** What of a list is left out here; null where nothing is. */
  readonly hidden: { readonly count: number; readonly place: string } | null;
}

const DEPTH_MAX = 12;
const ENTRIES_SHOWN = 10;

/** At most so many rows, of long lists the beginning unless their place is in `open`; `more`: whether there would be others. */
export function fieldRows(
  data: unknown, rowsMax: number, open: ReadonlySet<string>,
): { readonly rows: readonly FieldRow[]; readonly more: boolean } {
  const rows: FieldRow[] = [];
  let more = false;
  const push = (row: Partial<FieldRow> & Pick<FieldRow, "key" | "depth">): void => {
    if (rows.length >= rowsMax) more = true;
    else rows.push({ path: "", value: null, size: 0, hidden: null, ...row });
  };
  const visit = (value: unknown, { key, path, depth, place }: Place): void => {
    if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return push({ key, path, depth, value: plain(value) });
    const count = Array.isArray(value) && !open.has(place) ? Math.max(0, value.length - ENTRIES_SHOWN) : 0;
    const hidden = count === 0 ? null : { count, place };
    // A filter cannot ask for several at once.
    if (isFigures(value)) return push({ key, path: value.length === 1 ? path : "", depth, value: figures(value, count), hidden });
    const entries = Object.entries(value);
    if (depth >= 0) push({ key, depth, value: entries.length === 0 ? "(empty)" : null, size: entries.length });
    for (const [name, inner] of entries.slice(0, entries.length - count)) {
      if (more) return;
      const inside = pathTo(path, name, Array.isArray(value));
      visit(inner, { key: name, path: inside, depth: depth + 1, place: `${place}/${name}` });
    }
    if (hidden !== null) push({ key: "", depth: depth + 1, hidden });
  };
  visit(data, { key: "", path: "", depth: -1, place: "" });
  return { rows, more };
}

interface Place extends Pick<FieldRow, "key" | "path" | "depth"> {
  readonly place: string;
}

function plain(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

/** A list of numbers and the like. Texts have a row each: they may be long, and each is a term for the filter. */
function isFigures(value: object): value is unknown[] {
  return Array.isArray(value) && value.length > 0 && value.every((each) => each === null || /^(number|boolean)$/.test(typeof each));
}

function figures(list: readonly unknown[], hidden: number): string {
  return `${list.slice(0, list.length - hidden).map(plain).join(", ")}${hidden === 0 ? "" : " …"}`;
}

/** The elements of a list are sought under the list's own name. */
function pathTo(path: string, name: string, inList: boolean): string {
  if (inList) return path;
  if (!/^\w+$/.test(name) || (path === "" && !/^[A-Za-z_]/.test(name))) return "\0";
  return path === "" ? name : `${path}.${name}`;
}

/** Whether the filter box can name it: neither hidden under an odd key, nor taken for a field of the envelope. */
export function isNameable(path: string): boolean {
  return path !== "" && !path.includes("\0") && !["type", "cycle", "day", "id", "by"].includes(path);
}
