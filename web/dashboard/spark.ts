// The last minute as bars, one a second.
import { SECONDS } from "./rate.ts";

const BAR = 2;
const HEIGHT = 24;

/** The path of the bars in a box of 120 by 24; the tallest fills it. Pure. */
export function sparkPath(counts: readonly number[]): string {
  const most = Math.max(4, ...counts);
  return counts
    .map((count, i) => {
      // A single event must be visible beside a thousand.
      const height = count === 0 ? 0 : Math.max(1.5, (count / most) * HEIGHT);
      return count === 0 ? "" : `M${i * BAR} ${HEIGHT}v${-Number(height.toFixed(1))}h${BAR - 0.5}V${HEIGHT}z`;
    })
    .join("");
}

export function sparkLabel(counts: readonly number[]): string {
  const sum = counts.reduce((total, count) => total + count, 0);
  return `Last ${SECONDS} seconds: ${sum} events, at most ${Math.max(0, ...counts)} in one second`;
}
