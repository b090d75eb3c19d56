// What the page knows of the mind: a step for each thing that arrives. No clock and no DOM in here.
import type { Cursor, Event, Gap } from "../client/wire.ts";
import { goneSince, type MindState, NO_MIND, step } from "../mind/mind.ts";
import { timeOf } from "../mind/values.ts";
import { familyOf } from "./family.ts";
import { Held } from "./held.ts";
import { Throughput } from "./throughput.ts";

// An event that arrives this late was not live: it counts at its own time, not at its arrival.
const LATE_MS = 3_000;
// How much of the delay of the newest event is in the one shown: it follows, and does not tremble.
const LAG_SHARE = 0.1;

/** The mind's own clock, on which ages are counted. */
export interface Clock {
  readonly nowMs: number;
  /** Until when it was heard of: whether what lasted until then still does, nobody knows. */
  readonly heardMs: number;
}

export class Store {
  readonly held = new Held();
  readonly throughput = new Throughput();
  mind: MindState = NO_MIND;
  seen = 0;
  errors = 0;
  gaps = 0;
  /** Events known to be missing. Some gaps cannot say how many. */
  lost = 0;
  cycle: unknown = null;
  day: unknown = null;
  /** When the newest event happened, on this machine's clock; null before the first. */
  lastEventMs: number | null = null;
  /** From an event's `ts` to its arrival here; null before the first live one. */
  lagMs: number | null = null;
  /** The `n` of the log's newest event when this page came: what lies up to there is caught up with. Null if not known. */
  head: number | null = null;
  /** How far the bridge's clock is ahead of this machine's. */
  clockOffsetMs = 0;
  /** Since when events are counted, on this machine's clock, and whether the log has older ones; null before the first. */
  #counted: { readonly fromMs: number; readonly hasOlder: boolean } | null = null;
  /** The seq from which on nothing was passed over. */
  #begin = 0;

  event(event: Event, nowMs: number): void {
    const atMs = this.#happenedMs(event, nowMs);
    this.seen += 1;
    this.#counted ??= { fromMs: atMs, hasOlder: (event.n ?? 1) > 1 };
    this.errors += event.type === "error" ? 1 : 0;
    this.lastEventMs = Math.max(this.lastEventMs ?? 0, atMs);
    if (atMs === nowMs && !this.#isCaughtUpWith(event)) this.#measureLag(event, nowMs);
    this.throughput.add(familyOf(event.type), atMs, nowMs);
    this.held.addEvent(event);
    this.mind = step(this.mind, event);
    this.#follow(event);
  }

  /** The first event since when all was seen; null where that is no longer held. */
  get first(): Event | null {
    if (this.held.start > this.#begin) return null;
    const item = this.held.findNext(({ kind }) => kind === "event", this.#begin);
    return item?.kind === "event" ? item.event : null;
  }

  /** What the mind was before the first event: it is lived anew from there, while all that came is still held. */
  recall(begin: MindState): void {
    if (this.first === null) return;
    this.mind = begin;
    for (const item of this.held.from(this.#begin)) if (item.kind === "event") this.mind = step(this.mind, item.event);
  }

  /** A store of the past: these events, and the mind after them. */
  static of(events: readonly Event[], mind: MindState): Store {
    const store = new Store();
    for (const event of events) store.replayed(event, mind);
    return store;
  }

  /** An event of the past, and the mind after it; it counts for no rate and no lag. */
  replayed(event: Event, mind: MindState): void {
    this.held.addEvent(event);
    this.mind = mind;
    this.#follow(event);
  }

  /** Too much was missed to be lived through: what follows is the newest, and a row tells what lies between. */
  passOver(gap: Gap): void {
    this.held.addGap(gap);
    this.#begin = this.held.end;
    this.#counted = null;
    this.mind = NO_MIND;
  }

  gap(gap: Gap): void {
    // Another log counts from another beginning.
    if (gap.reason === "reset" || gap.reason === "rewound") this.head = null;
    this.gaps += 1;
    this.lost += typeof gap.lost === "number" ? gap.lost : 0;
    this.held.addGap(gap);
  }

  /** Before this time, on this machine's clock, events happened that were never here; null where none are known of. */
  get unknownBeforeMs(): number | null {
    return this.#counted?.hasOlder === true ? this.#counted.fromMs : null;
  }

  /** What the clock says where the mind's time is `nowMs`, as far as it can be heard. */
  clock(nowMs: number, isHeard: boolean): Clock {
    const endMs = goneSince(this.mind)?.atMs ?? (isHeard ? nowMs : (this.mind.lastMs ?? nowMs));
    return { nowMs, heardMs: Math.min(nowMs, endMs) };
  }

  /** How many events a reader that stands here is behind the log as that was when it came. */
  toGo(cursor: Cursor | null): number {
    const n = cursor?.n ?? null;
    return this.head === null || n === null ? 0 : Math.max(0, this.head - n);
  }

  #follow(event: Event): void {
    // Events from outside a cycle carry cycle 0 and do not end the one that is under way.
    if (event.type === "cycle.start" || (event.cycle !== 0 && !event.type.startsWith("broadcast."))) {
      this.cycle = event.cycle;
      this.day = event.day;
    }
  }

  #isCaughtUpWith({ n }: Event): boolean {
    return this.head !== null && n !== undefined && n <= this.head;
  }

  #measureLag(event: Event, nowMs: number): void {
    const lag = Math.max(0, nowMs + this.clockOffsetMs - timeOf(event));
    this.lagMs = this.lagMs === null ? lag : this.lagMs + (lag - this.lagMs) * LAG_SHARE;
  }

  /** The log's own time of the event, or now where that is near enough or unknown. */
  #happenedMs(event: Event, nowMs: number): number {
    const logged = Number.parseInt(event.id, 10) - this.clockOffsetMs;
    return logged < nowMs - LATE_MS ? logged : nowMs;
  }
}
