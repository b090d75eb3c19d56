// What the page holds: the newest 10,000 items, each with its place in the order of arrival.
import type { Event, Gap } from "../client/wire.ts";

interface Arrived {
  /** Counts from 0 in the order of arrival. */
  readonly seq: number;
}

export interface EventItem extends Arrived {
  readonly kind: "event";
  readonly event: Event;
}

export interface GapItem extends Arrived {
  readonly kind: "gap";
  readonly gap: Gap;
}

export type Item = EventItem | GapItem;

/** A ring: what arrives when it is full takes the place of the oldest. */
export class Held {
  readonly #items: Item[] = [];
  readonly #itemsMax: number;
  #end = 0;

  constructor(itemsMax = 10_000) {
    this.#itemsMax = itemsMax;
  }

  /** The seq of the oldest item. */
  get start(): number {
    return Math.max(0, this.#end - this.#itemsMax);
  }

  /** The seq of the next item to arrive. */
  get end(): number {
    return this.#end;
  }

  get length(): number {
    return this.#end - this.start;
  }

  addEvent(event: Event): void {
    this.#add({ kind: "event", event, seq: this.#end });
  }

  addGap(gap: Gap): void {
    this.#add({ kind: "gap", gap, seq: this.#end });
  }

  #add(item: Item): void {
    this.#items[this.#end % this.#itemsMax] = item;
    this.#end += 1;
  }

  /** The items from a seq on, oldest first; those no longer held are left out. */
  *from(seq: number): Generator<Item> {
    for (let at = Math.max(seq, this.start); at < this.#end; at += 1) {
      yield this.#items[at % this.#itemsMax] as Item;
    }
  }
}
