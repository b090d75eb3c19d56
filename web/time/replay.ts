// Playing the past: which events are due, at which speed, and where in them one stands. Pure: the clock is handed in, and
// events are given to it a page at a time; it says when it wants more.
//
//     loading ──events──► playing ◄──► paused
//        ▲                   │
//        └──had all it has───┴──no more to come──► ended
import type { Event } from "../client/wire.ts";
import { type MindState, NO_MIND, step } from "../mind/mind.ts";
import { Reel } from "../mind/reel.ts";
import { timeOf } from "../mind/values.ts";

export const SPEEDS = [0.5, 1, 2, 4, 8, 16, 32, 64] as const;

export type Status = "loading" | "playing" | "paused" | "ended";

/** Where nothing happened for longer than this, a replay waits no longer. */
const IDLE_MS = 2_000;
/** Fewer events than this ahead, and more are wanted. */
const AHEAD = 1_000;
/** Behind what has been played so much stays; what is older is fetched again if one goes back to it. */
const KEPT = 50_000;
/** So many are given out at one tick, whatever is due: the rest comes with the next. */
const TICK_EVENTS_MAX = 500;

export class Replay {
  #status: Status = "loading";
  #speed = 1;
  #reel: Reel;
  /** How many of the reel's events have been played. */
  #played = 0;
  #state: MindState;
  #isWhole = false;
  /** Whether the log begins where the reel does. */
  #isFirst: boolean;
  /** When the next event is due, on the caller's clock; null while nothing runs. */
  #dueMs: number | null = null;
  /** What is to be gone on with when events have come. */
  #wants: "playing" | "paused" = "playing";

  /**
   * `before` are events from before the place where it begins, and `begin` the mind before these: what is known there.
   * `isFirst` says that nothing lies before them in the log.
   */
  constructor(before: readonly Event[], begin: MindState = NO_MIND, { keptMax = KEPT, isFirst = false } = {}) {
    this.#isFirst = isFirst;
    // A place may be gone back to as far as the events that are kept reach; a night at 64 times is more than a page holds.
    // What lies ahead, at most AHEAD events and the page that follows on them, counts besides.
    this.#reel = new Reel({ eventsMax: keptMax + 3 * AHEAD, begin });
    for (const event of before) this.#reel.add(event);
    this.#played = this.#reel.length;
    this.#state = this.#reel.state;
  }

  get status(): Status {
    return this.#status;
  }

  get speed(): number {
    return this.#speed;
  }

  /** The mind, after what has been played. */
  get state(): MindState {
    return this.#state;
  }

  /** How many events have been played, those from before the beginning with them. */
  get played(): number {
    return this.#played;
  }

  get loaded(): number {
    return this.#reel.length;
  }

  /** Whether it plays, or will as soon as there is something to play. */
  get plays(): boolean {
    return this.#wants === "playing";
  }

  /** When the last event that was played happened, or before the first, when that does; null where there is none. */
  get atMs(): number | null {
    const last = this.#reel.event(Math.max(0, this.#played - 1));
    return last === undefined ? null : timeOf(last);
  }

  /** The oldest of what is loaded, and the newest. */
  get ends(): { readonly first: Event | undefined; readonly last: Event | undefined } {
    return { first: this.#reel.event(0), last: this.#reel.event(this.#reel.length - 1) };
  }

  /** Whether the log has anything before what is loaded, as far as is known. */
  get goesFartherBack(): boolean {
    return !this.#isFirst && this.#reel.length > 0;
  }

  /** Whether the log has anything behind what is loaded, as far as is known. */
  get goesFartherOn(): boolean {
    return !this.#isWhole;
  }

  /** Whether a step back, by event or by cycle, leads anywhere. */
  canStepBack(by: "event" | "cycle"): boolean {
    if (this.goesFartherBack) return true;
    return by === "event" ? this.#played > 0 : this.#cyclePlace(-1) !== null;
  }

  /** Whether a page more should be fetched. */
  get wantsMore(): boolean {
    return !this.#isWhole && this.#reel.length - this.#played < AHEAD;
  }

  /** The newest of the events that have been played, oldest first, at most so many. */
  recent(max: number): Event[] {
    const from = Math.max(0, this.#played - max);
    return Array.from({ length: this.#played - from }, (_, i) => this.#reel.event(from + i) as Event);
  }

  /** Events that follow what is there; `isLast` if none follow them. */
  load(events: readonly Event[], isLast: boolean): void {
    for (const event of events) {
      const gone = this.#reel.add(event);
      this.#played -= gone;
      if (gone > 0) this.#isFirst = false;
    }
    this.#isWhole ||= isLast;
    if (this.#status === "loading" && this.#hasNext) this.#status = this.#wants;
    else if (this.#status === "loading" && this.#isWhole) this.#status = "ended";
  }

  play(): void {
    this.#wants = "playing";
    if (this.#status === "paused") this.#goOn();
  }

  pause(): void {
    this.#wants = "paused";
    this.#dueMs = null;
    if (this.#status === "playing") this.#status = "paused";
  }

  setSpeed(speed: number, nowMs: number): void {
    // What is left of the wait is left at the new speed.
    if (this.#dueMs !== null) this.#dueMs = nowMs + (Math.max(0, this.#dueMs - nowMs) * this.#speed) / speed;
    this.#speed = speed;
  }

  /** The events that are due; call it again soon. */
  tick(nowMs: number): Event[] {
    if (this.#status !== "playing") return [];
    this.#dueMs ??= nowMs;
    const due: Event[] = [];
    while (this.#hasNext && this.#dueMs <= nowMs && due.length < TICK_EVENTS_MAX) {
      due.push(this.#advance());
      this.#dueMs += this.#waitMs() / this.#speed;
    }
    // Where a tick could not give out all, the lateness is not kept: what is seen must not race after it.
    if (this.#dueMs < nowMs) this.#dueMs = nowMs;
    if (!this.#hasNext) this.#goOn();
    return due;
  }

  /** The next event, played now; null if there is none. It pauses. */
  stepForward(): Event | null {
    this.pause();
    return this.#hasNext ? this.#advance() : null;
  }

  /** To before the event played last, and pauses; false where nothing was played, or what lies before is not loaded. */
  stepBack(): boolean {
    this.pause();
    if (this.#played === 1 && this.goesFartherBack) return false;
    return this.#goTo(this.#played - 1);
  }

  /** To where the next cycle, or the one before this, is over, and pauses; false where that is not loaded. */
  stepCycle(by: 1 | -1): boolean {
    this.pause();
    const count = this.#cyclePlace(by);
    return count !== null && this.#goTo(count);
  }

  /** The `cycle.start` of the cycle one stands in (-1), or of the next (1); undefined where it is not loaded. */
  startBeside(by: 1 | -1): Event | undefined {
    const at = by < 0 ? this.#startBefore(this.#played) : this.#startFrom(this.#played);
    return at === null ? undefined : this.#reel.event(at);
  }

  /** To the last event at or before a time, if it lies within what is loaded; false if it does not. */
  seek(atMs: number): boolean {
    const first = this.#reel.event(0);
    const last = this.#reel.event(this.#reel.length - 1);
    if (first === undefined || last === undefined || atMs < timeOf(first)) return false;
    if (atMs > timeOf(last) && !this.#isWhole) return false;
    return this.#goTo(this.#countAt(atMs));
  }

  get #hasNext(): boolean {
    return this.#played < this.#reel.length;
  }

  /**
   * How many events have been played where the next cycle, or the one before this, is over: all before the
   * `cycle.start` that follows on it, so that what it left behind is there, too. Null where that is not loaded.
   */
  #cyclePlace(by: 1 | -1): number | null {
    if (by > 0) {
      const next = this.#startFrom(this.#played);
      return next === null ? null : this.#startFrom(next + 1);
    }
    const own = this.#startBefore(this.#played);
    return own === null || this.#startBefore(own) === null ? null : own;
  }

  /** The first `cycle.start` at a place or behind it; null where none is loaded. */
  #startFrom(place: number): number | null {
    for (let at = place; at < this.#reel.length; at += 1) if (this.#isStart(at)) return at;
    return null;
  }

  /** The last `cycle.start` before a place; null where none is loaded. */
  #startBefore(place: number): number | null {
    for (let at = place - 1; at >= 0; at -= 1) if (this.#isStart(at)) return at;
    return null;
  }

  #isStart(at: number): boolean {
    return this.#reel.event(at)?.type === "cycle.start";
  }

  #advance(): Event {
    const event = this.#reel.event(this.#played) as Event;
    this.#played += 1;
    this.#state = step(this.#state, event);
    return event;
  }

  /** From the event played last to the next, as it was lived, but for idle time. */
  #waitMs(): number {
    const [last, next] = [this.#reel.event(this.#played - 1), this.#reel.event(this.#played)];
    if (last === undefined || next === undefined) return 0;
    return Math.min(IDLE_MS, Math.max(0, timeOf(next) - timeOf(last)));
  }

  #goTo(count: number): boolean {
    if (count < 0 || count > this.#reel.length) return false;
    this.#played = count;
    this.#state = this.#reel.at(count);
    this.#dueMs = null;
    if (this.#status !== "loading" || this.#hasNext) this.#goOn();
    return true;
  }

  #goOn(): void {
    if (this.#hasNext) this.#status = this.#wants;
    else this.#status = this.#isWhole ? "ended" : "loading";
    if (this.#status !== "playing") this.#dueMs = null;
  }

  /** How many events have happened at a time. The log's order is not strictly that of `ts`: what is late counts late. */
  #countAt(atMs: number): number {
    let [low, high] = [0, this.#reel.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (timeOf(this.#reel.event(middle) as Event) <= atMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
