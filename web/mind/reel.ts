// Events in order with the states they lead to: any place among them can be gone to, from the nearest snapshot. Pure.
import type { Event } from "../client/wire.ts";
import { type MindState, NO_MIND, step } from "./mind.ts";

export class Reel {
  readonly #every: number;
  readonly #eventsMax: number;
  #events: Event[] = [];
  /** The state before the first event, before the one `every` further on, and so on. */
  #snapshots: MindState[];
  #state: MindState;

  /** A snapshot every so many events; of more events than `eventsMax` the oldest are let go, so many at a time. */
  constructor({ every = 500, eventsMax = 10_000, begin = NO_MIND }: { every?: number; eventsMax?: number; begin?: MindState } = {}) {
    this.#every = every;
    this.#eventsMax = eventsMax;
    this.#state = begin;
    this.#snapshots = [begin];
  }

  /** After the newest event. */
  get state(): MindState {
    return this.#state;
  }

  get length(): number {
    return this.#events.length;
  }

  event(index: number): Event | undefined {
    return this.#events[index];
  }

  /** Adds the newest event; says how many of the oldest were let go for it. */
  add(event: Event): number {
    this.#state = step(this.#state, event);
    this.#events.push(event);
    if (this.#events.length % this.#every === 0) this.#snapshots.push(this.#state);
    if (this.#events.length < this.#eventsMax + this.#every) return 0;
    this.#events = this.#events.slice(this.#every);
    this.#snapshots.shift();
    return this.#every;
  }

  /** The state when the first `count` of the events kept had come; what is no longer kept counts as come. */
  at(count: number): MindState {
    const wanted = Math.max(0, Math.min(count, this.#events.length));
    if (wanted === this.#events.length) return this.#state;
    const nearest = Math.floor(wanted / this.#every);
    let state = this.#snapshots[nearest] as MindState;
    for (let i = nearest * this.#every; i < wanted; i += 1) state = step(state, this.#events[i] as Event);
    return state;
  }
}
