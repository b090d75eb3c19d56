// Drives, pains and errors, folded from their events. Pure.
import type { Event } from "../client/wire.ts";
import type { Failure } from "./cycle.ts";
import { numberOf, textOf } from "./values.ts";

const DRIVES_MAX = 64;
const PAINS_MAX = 64;
const GROUPS_MAX = 50;

export interface Drive {
  readonly hunger: number | null;
  readonly satisfiedBy: string;
  readonly atMs: number;
}

/** By name, in the order they were first told of. */
export type Drives = ReadonlyMap<string, Drive>;

export interface Pain {
  readonly type: string;
  readonly intensity: number | null;
  readonly context: string;
  readonly sinceMs: number;
  /** Null while it hurts. */
  readonly resolvedMs: number | null;
  readonly id: string;
}

/** Errors with the same source and the same first line of their message. */
export interface ErrorGroup {
  readonly count: number;
  readonly last: Failure;
}

export interface Errors {
  readonly count: number;
  /** Whether there may be others before those that were counted. */
  readonly more: boolean;
  /** The newest first. */
  readonly groups: readonly ErrorGroup[];
}

export const NO_ERRORS: Errors = { count: 0, more: false, groups: [] };

export function withDrive(drives: Drives, { data }: Event, atMs: number): Drives {
  const name = textOf(data["drive"], 80);
  if (!drives.has(name) && drives.size >= DRIVES_MAX) return drives;
  const drive = { hunger: numberOf(data["hunger"]), satisfiedBy: textOf(data["satisfied_by"], 200), atMs };
  return new Map([...drives, [name, drive]]);
}

/** No intensity is a pain that is over; a pain without a number hurts, nobody knows how much. */
export function withPain(pains: readonly Pain[], { data, id }: Event, atMs: number): readonly Pain[] {
  const type = textOf(data["type"], 120);
  const intensity = numberOf(data["intensity"]);
  const before = pains.find((pain) => pain.type === type && pain.resolvedMs === null);
  const isOver = intensity !== null && intensity <= 0;
  if (isOver && before === undefined) return pains;
  const told = textOf(data["context"], 400);
  const pain: Pain = isOver
    ? { ...(before as Pain), resolvedMs: atMs, context: told || (before as Pain).context }
    : { type, intensity, context: told, sinceMs: before?.sinceMs ?? atMs, resolvedMs: null, id };
  const others = pains.filter((other) => other.type !== type);
  return [...others, pain].sort(byUrgency).slice(0, PAINS_MAX);
}

function byUrgency(one: Pain, other: Pain): number {
  if (one.resolvedMs !== null && other.resolvedMs !== null) return other.resolvedMs - one.resolvedMs;
  if (one.resolvedMs !== null) return 1;
  if (other.resolvedMs !== null) return -1;
  return (other.intensity ?? 0) - (one.intensity ?? 0) || one.sinceMs - other.sinceMs;
}

export function withFailure(errors: Errors, failure: Failure): Errors {
  const isAlike = ({ last }: ErrorGroup): boolean =>
    last.source === failure.source && firstLine(last.message) === firstLine(failure.message);
  const alike = errors.groups.find(isAlike);
  const group = { count: (alike?.count ?? 0) + 1, last: failure };
  const others = errors.groups.filter((other) => other !== alike);
  return { ...errors, count: errors.count + 1, groups: [group, ...others].slice(0, GROUPS_MAX) };
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] as string;
}
