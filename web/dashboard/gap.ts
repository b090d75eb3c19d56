// A gap in words.
import type { Gap } from "../client/wire.ts";
import { printable } from "./printable.ts";

const REASONS: ReadonlyMap<string, string> = new Map([
  ["trimmed", "the log no longer holds them"],
  ["slow", "this page could not keep up"],
  ["rewound", "Redis came back without its last moments"],
  ["reset", "the log was begun anew"],
]);

export function gapText(gap: Gap): string {
  if (gap.reason === "passed") return `${count(gap.lost)} passed over, to be with the newest: Past has them`;
  return `${missing(gap.lost)}: ${REASONS.get(gap.reason) ?? printable(String(gap.reason))}`;
}

function missing(lost: number | null): string {
  if (typeof lost !== "number") return "an unknown number of events may be missing";
  return `${count(lost)} missing`;
}

function count(lost: number | null): string {
  if (lost === null) return "events";
  return `${lost.toLocaleString("en")} ${lost === 1 ? "event" : "events"}`;
}
