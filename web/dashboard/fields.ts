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
}

const DEPTH_MAX = 12;

/** At most so many rows; `more` says whether there would be others. */
export function fieldRows(data: unknown, rowsMax: number): { readonly rows: readonly FieldRow[]; readonly more: boolean } {
  const rows: FieldRow[] = [];
  let more = false;
  const visit = (value: unknown, key: string, path: string, depth: number): void => {
    if (rows.length >= rowsMax) {
      more = true;
      return;
    }
    if (typeof value !== "object" || value === null || depth > DEPTH_MAX) {
      rows.push({ key, path, depth, value: typeof value === "string" ? value : (JSON.stringify(value) ?? ""), size: 0 });
      return;
    }
    const entries = Object.entries(value);
    if (depth >= 0) rows.push({ key, path: "", depth, value: entries.length === 0 ? "(empty)" : null, size: entries.length });
    for (const [name, inner] of entries) {
      visit(inner, name, pathTo(path, name, Array.isArray(value)), depth + 1);
      if (more) return;
    }
  };
  visit(data, "", "", -1);
  return { rows, more };
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
