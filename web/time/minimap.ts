// A map of the log over time: counts in buckets, seen through a view that can be zoomed and moved. Pure; times are
// milliseconds since 1970.
import { FAMILIES, familyOf } from "../dashboard/family.ts";

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** As `GET /history?bucket=` tells it, its time read. */
export interface Bucket {
  readonly fromMs: number;
  readonly types: Readonly<Record<string, number>>;
}

export interface Column {
  /** Events by family, in the families' order; parts of one where buckets are wider than columns. */
  readonly families: readonly number[];
  readonly cycles: number;
}

/** Nothing is looked at through a narrower view. */
export const LEAST_MS = 10_000;

export function lengthOf({ fromMs, toMs }: Span): number {
  return toMs - fromMs;
}

/** Where a time lies in the view, 0 at its beginning, 1 at its end; outside of it less or more. */
export function shareOf(view: Span, atMs: number): number {
  return (atMs - view.fromMs) / Math.max(1, lengthOf(view));
}

export function timeAt(view: Span, share: number): number {
  return view.fromMs + share * lengthOf(view);
}

/** The view `factor` times as long, with `aroundMs` where it was; never outside of `extent`. */
export function zoomed(view: Span, factor: number, aroundMs: number, extent: Span): Span {
  const length = Math.min(lengthOf(extent), Math.max(LEAST_MS, lengthOf(view) * factor));
  const share = Math.min(1, Math.max(0, shareOf(view, aroundMs)));
  return within({ fromMs: aroundMs - share * length, toMs: aroundMs + (1 - share) * length }, extent);
}

/** The view moved, as far as `extent` lets it. */
export function moved(view: Span, byMs: number, extent: Span): Span {
  return within({ fromMs: view.fromMs + byMs, toMs: view.toMs + byMs }, extent);
}

/** A span of the same length that lies in `extent`; all of `extent` where it is longer than that. */
export function within(span: Span, extent: Span): Span {
  const length = lengthOf(span);
  if (length >= lengthOf(extent)) return extent;
  const fromMs = Math.min(Math.max(span.fromMs, extent.fromMs), extent.toMs - length);
  return { fromMs, toMs: fromMs + length };
}

/** What the buckets come to in so many columns of the view: every event in the view is in exactly one of them. */
export function columnsOf(buckets: readonly Bucket[], bucketMs: number, view: Span, count: number): Column[] {
  const columns = Array.from({ length: count }, () => ({
    families: FAMILIES.map(() => 0),
    cycles: 0,
  }));
  const widthMs = lengthOf(view) / count;
  for (const { fromMs, types } of buckets) {
    const first = Math.max(0, Math.floor((fromMs - view.fromMs) / widthMs));
    const last = Math.min(count - 1, Math.floor((fromMs + bucketMs - 1 - view.fromMs) / widthMs));
    for (let i = first; i <= last; i += 1) {
      const column = columns[i] as (typeof columns)[number];
      const beginMs = Math.max(fromMs, view.fromMs + i * widthMs);
      const endMs = Math.min(fromMs + bucketMs, view.fromMs + (i + 1) * widthMs);
      addShare(column, types, Math.max(0, endMs - beginMs) / bucketMs);
    }
  }
  return columns;
}

/** Where in so many columns the buckets lie that have an event of this type: the middle of what is in the view. */
export function marksOf(
  type: string,
  buckets: readonly Bucket[],
  bucketMs: number,
  view: Span,
  count: number,
): number[] {
  const marked = buckets.filter((bucket) => (bucket.types[type] ?? 0) > 0 && overlaps(bucket, bucketMs, view));
  const middles = marked.map(({ fromMs }) => (Math.max(fromMs, view.fromMs) + Math.min(fromMs + bucketMs, view.toMs)) / 2);
  return [...new Set(middles.map((atMs) => Math.min(count - 1, Math.floor(shareOf(view, atMs) * count))))];
}

function overlaps({ fromMs }: Bucket, bucketMs: number, view: Span): boolean {
  return fromMs <= view.toMs && fromMs + bucketMs > view.fromMs;
}

/** The bucket in which a time lies; null where nothing happened about then. */
export function bucketAt(buckets: readonly Bucket[], bucketMs: number, atMs: number): Bucket | null {
  return buckets.find(({ fromMs }) => fromMs <= atMs && atMs < fromMs + bucketMs) ?? null;
}

function addShare(
  column: { families: number[]; cycles: number },
  types: Readonly<Record<string, number>>,
  share: number,
): void {
  for (const [type, events] of Object.entries(types)) {
    const family = FAMILIES.indexOf(familyOf(type));
    column.families[family] = (column.families[family] as number) + events * share;
    if (type === "cycle.start") column.cycles += events * share;
  }
}
