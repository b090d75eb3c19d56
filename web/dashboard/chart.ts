// Counts over time as stacked bars, one path for each family. Pure: what it makes is text for an SVG.
import { FAMILIES, type Family } from "./family.ts";
import { sum } from "./throughput.ts";

export const BAR = 3;
export const HEIGHT = 40;

export interface Stack {
  readonly family: Family;
  /** In a box of `BAR` times the number of columns by `HEIGHT`; the tallest column fills it. */
  readonly path: string;
}

/** `columns` are counts by family, in the families' order. Families without an event have no path. */
export function stacks(columns: readonly ArrayLike<number>[], least = 4): Stack[] {
  const most = columns.reduce((max, column) => Math.max(max, sum(Array.from(column))), least);
  const paths = FAMILIES.map(() => "");
  for (const [i, column] of columns.entries()) {
    let below = 0;
    for (let family = 0; family < FAMILIES.length; family += 1) {
      const count = column[family] as number;
      if (count === 0) continue;
      // A single event must be visible beside a thousand.
      const height = Math.max(1.5, (count / most) * HEIGHT);
      paths[family] += `M${i * BAR} ${tenth(HEIGHT - below)}v${tenth(-height)}h${BAR - 0.75}v${tenth(height)}z`;
      below += height;
    }
  }
  return FAMILIES.map((family, i) => ({ family, path: paths[i] as string })).filter(({ path }) => path !== "");
}

/** A term for the filter box that means the events between two times. */
export function rangeTerm(fromMs: number, toMs: number): string {
  // What is told of a second comes a little later than it happened.
  const [from, to] = [fromMs - 1_000, toMs].map((ms) => new Date(ms).toISOString().slice(0, 19));
  return `ts:${from}..${to}`;
}

function tenth(value: number): number {
  return Number(value.toFixed(1));
}

export function chartLabel(columns: readonly ArrayLike<number>[]): string {
  const sums = columns.map((column) => sum(Array.from(column)));
  const most = Math.max(0, ...sums);
  return `The last ${columns.length / 60} minutes: ${sum(sums)} events, ${most} in the busiest second`;
}
