// The map of the log: how much happened where, and above it where a cycle began, something failed, or something hurt.
import { html, svg, type TemplateResult } from "lit/html.js";

import type { Event } from "../client/wire.ts";
import { timeOf } from "../mind/values.ts";
import { bucketAt, type Column, columnsOf, marksOf, shareOf, type Span } from "../time/minimap.ts";
import { BAR, HEIGHT, stacks } from "./chart.ts";
import type { Census } from "./past.ts";
import { clockTime } from "./time.ts";

const COLUMNS = 240;
/** Above the bars: pains, errors and cycles, each in a row of its own. */
const ROWS = { "state.pain": 0, error: 7, "cycle.start": 14 } as const;
const ROW_HEIGHT = 5;
const ABOVE = 21;

export interface MapView {
  readonly census: Census;
  readonly view: Span;
  /** Where each cycle began; empty where they are too many to be told apart. */
  readonly starts: readonly Event[];
}

export function drawing({ census: { buckets, bucketMs }, view, starts }: MapView): TemplateResult {
  const columns = columnsOf(buckets, bucketMs, view, COLUMNS);
  const marks = (type: "state.pain" | "error"): string =>
    marksOf(type, buckets, bucketMs, view, COLUMNS).map((i) => tick((i + 0.5) * BAR, ROWS[type])).join("");
  const begun = starts.map((start) => tick(shareOf(view, timeOf(start)) * COLUMNS * BAR, ROWS["cycle.start"])).join("");
  const total = Math.round(columns.reduce((sum, { cycles }) => sum + cycles, 0));
  return html`<svg viewBox="0 0 ${COLUMNS * BAR} ${HEIGHT + ABOVE}" preserveAspectRatio="none" role="img" aria-label=${`About ${total} cycles in this stretch`}>
    <g transform="translate(0 ${ABOVE})">${stacks(columns.map(({ families }) => families), 0.1).map(({ family, path }) => svg`<path data-family=${family} d=${path} />`)}</g>
    <path class="mark" data-family="state" d=${marks("state.pain")} /><path class="mark" data-family="error" d=${marks("error")} />
    ${starts.length > 0 ? svg`<path class="mark" data-family="life" d=${begun} />` : svg`<path data-family="life" d=${density(columns)} />`}
  </svg>`;
}

/** A mark, as a line that is as thick on a narrow page as on a wide one. */
function tick(x: number, y: number): string {
  return `M${x.toFixed(1)} ${y}v${ROW_HEIGHT}`;
}

function density(columns: readonly Column[]): string {
  const most = Math.max(...columns.map(({ cycles }) => cycles));
  const bar = ({ cycles }: Column, i: number): string => {
    if (cycles === 0) return "";
    const height = Math.max(1.5, (cycles / most) * ROW_HEIGHT);
    return `M${i * BAR} ${ROWS["cycle.start"] + ROW_HEIGHT}v${-height.toFixed(1)}h${BAR}v${height.toFixed(1)}z`;
  };
  return columns.map(bar).join("");
}

export const LEGEND = html`<span class="legend">
  <span><i data-family="state"></i>pain</span> <span><i data-family="error"></i>error</span> <span><i data-family="life"></i>cycle</span>
</span>`;

/** What happened about a time, in words. */
export function toldAt({ census: { buckets, bucketMs }, starts }: MapView, atMs: number, nowMs: number): string {
  const { fromMs = atMs, types = {} } = bucketAt(buckets, bucketMs, atMs) ?? {};
  const count = (type: string): number => types[type] ?? 0;
  const events = Object.values(types).reduce((sum, each) => sum + each, 0);
  const cycle = starts.findLast((start) => timeOf(start) <= atMs)?.cycle;
  const parts = [
    clockTime(atMs, nowMs),
    cycle === undefined ? numbered(count("cycle.start"), "cycle") : `in cycle ${cycle}`,
    `${numbered(events, "event") || "no event"} in ${bucketMs / 1000} s from ${clockTime(fromMs, nowMs)}`,
    numbered(count("error"), "error"),
    numbered(count("state.pain"), "pain"),
  ];
  return parts.filter((part) => part !== "").join(" · ");
}

function numbered(count: number, what: string): string {
  return count === 0 ? "" : `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}
