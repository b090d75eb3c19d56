// The state of a mind, folded from its events: `step(state, event)`. Pure: no clock, no DOM; the same for what happens
// now and for what is played again. Every list is bounded, and each step shares what it did not change, so that a
// state can be kept as a snapshot for nothing.
import type { Event } from "../client/wire.ts";
import { beginCycle, type Cycle, endCycle, failureOf, runOf, stepCycle } from "./cycle.ts";
import { type Drives, type Errors, NO_ERRORS, type Pain, withDrive, withFailure, withPain } from "./feelings.ts";
import { fieldOf, newest, textOf, timeOf } from "./values.ts";
import { NO_WINDOW, type Window, withNames, withWindow } from "./window.ts";

const CYCLES_MAX = 60;
const CHANGES_MAX = 64;
const PRODUCERS_MAX = 64;

/** What a mood or a focus became, and when. */
export interface Change {
  readonly old: string;
  readonly now: string;
  readonly atMs: number;
  readonly id: string;
}

export interface Daemon {
  /** Null: nothing was heard of it, which is no news. */
  readonly running: boolean | null;
  readonly atMs: number;
  /** How it runs, or why it ended. */
  readonly why: string;
  /** Which producer it is. */
  readonly run: string;
}

export interface MindState {
  readonly events: number;
  readonly lastMs: number | null;
  /** When the mind itself last said anything but that it stops. */
  readonly spokeMs: number | null;
  /** In the order they began; the newest last. */
  readonly cycles: readonly Cycle[];
  /** The last of those no longer among `cycles` that decided something. */
  readonly decidedBefore: Cycle | null;
  /** Newest last. */
  readonly moods: readonly Change[];
  readonly focuses: readonly Change[];
  readonly drives: Drives;
  /** The strongest first; then those that are over, the newest first. */
  readonly pains: readonly Pain[];
  readonly window: Window;
  readonly errors: Errors;
  readonly daemon: Daemon;
  /** Whether each producer that the bridges spoke of is up. */
  readonly producers: ReadonlyMap<string, boolean>;
  /** Events that producers said they had to drop. */
  readonly dropped: number;
}

export const NO_MIND: MindState = {
  events: 0,
  lastMs: null,
  spokeMs: null,
  cycles: [],
  decidedBefore: null,
  moods: [],
  focuses: [],
  drives: new Map(),
  pains: [],
  window: NO_WINDOW,
  errors: NO_ERRORS,
  daemon: { running: null, atMs: 0, why: "", run: "" },
  producers: new Map(),
  dropped: 0,
};

/** The state with one more event. Never throws, whatever the event's data holds. */
export function step(state: MindState, event: Event): MindState {
  const atMs = timeOf(event);
  const speaks = event.type !== "daemon.stop" && !event.type.startsWith("broadcast.");
  const counted = {
    ...state,
    events: state.events + 1,
    lastMs: Math.max(state.lastMs ?? 0, atMs),
    spokeMs: speaks ? Math.max(state.spokeMs ?? 0, atMs) : state.spokeMs,
  };
  return withFeeling(withCycle(counted, event), event, atMs);
}

/** The newest cycle; null before the first. */
export function currentCycle(state: MindState): Cycle | null {
  return state.cycles.at(-1) ?? null;
}

/** The newest cycle that has decided something. */
export function lastDecided(state: MindState): Cycle | null {
  return state.cycles.findLast(hasDecided) ?? state.decidedBefore;
}

/** By its key, or by its number: then the newest of that number. */
export function findCycle(state: MindState, name: string): Cycle | null {
  return state.cycles.findLast(({ key, number }) => key === name || String(number) === name) ?? null;
}

/** The cycle that an event belongs to; null outside of all, and where it is not known any more. */
export function cycleOf({ cycles }: MindState, event: Event): Cycle | null {
  return event.cycle === 0 ? null : (cycles[placeOf(cycles, event)] ?? null);
}

function withCycle(state: MindState, event: Event): MindState {
  if (event.type === "cycle.start") return withCycles(state, begun(state.cycles, event));
  // 0 is outside of all cycles; what broadcast itself says belongs to none.
  if (event.cycle === 0 || event.type.startsWith("broadcast.")) return state;
  const index = placeOf(state.cycles, event);
  const known = state.cycles[index];
  const cycles = movedOn(state.cycles, event);
  if (known === undefined) return withCycles(state, [...cycles, beginCycle(event)]);
  return { ...state, cycles: cycles.with(index, stepCycle(known, event)) };
}

function withCycles(state: MindState, cycles: readonly Cycle[]): MindState {
  const gone = cycles.slice(0, Math.max(0, cycles.length - CYCLES_MAX)).findLast(hasDecided);
  return { ...state, cycles: newest(cycles, CYCLES_MAX), decidedBefore: gone ?? state.decidedBefore };
}

function hasDecided({ decision }: Cycle): boolean {
  return decision !== null;
}

function begun(cycles: readonly Cycle[], event: Event): readonly Cycle[] {
  const run = runOf(event);
  const atMs = timeOf(event);
  const others = cycles.map((cycle) => (cycle.run === run ? endCycle(cycle, atMs, "cut off") : cycle));
  return [...others, beginCycle(event)];
}

/** A run that speaks of a later cycle has left the one before, though neither its beginning nor its end was told. */
function movedOn(cycles: readonly Cycle[], event: Event): readonly Cycle[] {
  const run = runOf(event);
  const isLeft = (cycle: Cycle): boolean =>
    cycle.run === run && cycle.number < event.cycle && !cycle.whole && cycle.outcome === "running";
  if (!cycles.some(isLeft)) return cycles;
  return cycles.map((cycle) => (isLeft(cycle) ? endCycle(cycle, cycle.lastMs, "ended") : cycle));
}

/**
 * Whose event it is: of the cycles with its number the newest of its own run, or the one that a run was seen to begin
 * and has not ended, since a mind may speak by several processes; -1 if of none.
 */
function placeOf(cycles: readonly Cycle[], event: Event): number {
  const run = runOf(event);
  const own = cycles.findLastIndex((cycle) => cycle.number === event.cycle && cycle.run === run);
  if (own >= 0) return own;
  const isShared = (cycle: Cycle): boolean => cycle.number === event.cycle && cycle.whole && cycle.outcome === "running";
  return cycles.findLastIndex(isShared);
}

/** The state with what an event says, whatever cycle it belongs to. */
export function withFeeling(state: MindState, event: Event, atMs: number): MindState {
  const { data } = event;
  switch (event.type) {
    case "state.mood":
      return { ...state, moods: newest([...state.moods, changeOf(event, atMs)], CHANGES_MAX) };
    case "state.focus":
      return { ...state, focuses: newest([...state.focuses, changeOf(event, atMs)], CHANGES_MAX) };
    case "state.drive":
      return { ...state, drives: withDrive(state.drives, event, atMs) };
    case "state.pain":
      return { ...state, pains: withPain(state.pains, event, atMs) };
    case "wave.result":
      return { ...state, window: withNames(state.window, data["contexts"]) };
    case "window.update":
      return { ...state, window: withWindow(state.window, event) };
    case "error":
      return { ...state, errors: withFailure(state.errors, failureOf(event, cycleOf(state, event)?.key ?? (event.cycle === 0 ? "" : event.id))) };
    case "daemon.start":
      return { ...state, daemon: { running: true, atMs, why: textOf(data["mode"], 200), run: runOf(event) } };
    case "daemon.stop":
      return gone(state, { running: false, atMs, why: textOf(data["reason"], 200), run: runOf(event) });
    case "broadcast.producer":
      return withProducer(state, event, atMs);
    case "broadcast.lost":
      return { ...state, dropped: state.dropped + (Number(data["count"]) || 0) };
    default:
      return state;
  }
}

function withProducer(state: MindState, { data }: Event, atMs: number): MindState {
  const name = textOf(data["producer"], 200);
  const up = data["state"] === "up";
  const others = [...state.producers].filter(([other]) => other !== name);
  const producers = new Map([...newest(others, PRODUCERS_MAX - 1), [name, up] as const]);
  if (up) return { ...state, producers };
  const isMind = name === state.daemon.run || name === currentCycle(state)?.run;
  const why = "its process is gone";
  return gone({ ...state, producers }, isMind ? { running: false, atMs, why, run: name } : null, name, atMs);
}

/** What a producer had under way when it went will have no more events. */
function gone(state: MindState, daemon: Daemon | null, run = daemon?.run, atMs = daemon?.atMs ?? 0): MindState {
  const cycles = state.cycles.map((cycle) => (cycle.run === run ? endCycle(cycle, atMs, "cut off") : cycle));
  // A mind that has said why it stops is not gone for another reason when its process has ended, too.
  const isKnown = state.daemon.running === false && state.daemon.run === run;
  return { ...state, cycles, daemon: daemon === null || isKnown ? state.daemon : daemon };
}

/** Since when, and why, the mind lives no more; null while it does, or while nothing is known of that. */
export function goneSince({ daemon, spokeMs }: MindState): { readonly atMs: number; readonly why: string } | null {
  return daemon.running === false && (spokeMs ?? 0) <= daemon.atMs ? daemon : null;
}

function changeOf({ data, id }: Event, atMs: number): Change {
  return { old: textOf(data["old"], 200), now: textOf(fieldOf(data, "new"), 200), atMs, id };
}
