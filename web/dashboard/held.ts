// What the page holds: the newest 10,000 items, each with its place in the order of arrival.
import type { Event, Gap } from "../client/wire.ts";
import { FAMILIES, type Family, familyOf } from "./family.ts";

interface Arrived {
  /** Counts from 0 in the order of arrival. */
  readonly seq: number;
}

export interface EventItem extends Arrived {
  readonly kind: "event";
  readonly event: Event;
  readonly family: Family;
}

export interface GapItem extends Arrived {
  readonly kind: "gap";
  readonly gap: Gap;
}

export type Item = EventItem | GapItem;

/** A ring: what arrives when it is full takes the place of the oldest. */
export class Held {
  /** How many events of each family are held. */
  readonly counts: ReadonlyMap<Family, number>;
  readonly #counts = new Map<Family, number>(FAMILIES.map((family) => [family, 0]));
  readonly #items: Item[] = [];
  readonly #itemsMax: number;
  #end = 0;

  constructor(itemsMax = 10_000) {
    this.#itemsMax = itemsMax;
    this.counts = this.#counts;
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
    this.#add({ kind: "event", event, family: familyOf(event.type), seq: this.#end });
  }

  addGap(gap: Gap): void {
    this.#add({ kind: "gap", gap, seq: this.#end });
  }

  /** The newest item for which this holds. */
  findLast(holds: (item: Item) => boolean, before: number = this.#end): Item | null {
    for (let at = Math.min(before, this.#end) - 1; at >= this.start; at -= 1) {
      const item = this.#items[at % this.#itemsMax] as Item;
      if (holds(item)) return item;
    }
    return null;
  }

  /** The oldest item from a seq on for which this holds. */
  findNext(holds: (item: Item) => boolean, from: number): Item | null {
    for (const item of this.from(from)) if (holds(item)) return item;
    return null;
  }

  /** The items from a seq on, oldest first; those no longer held are left out. */
  *from(seq: number): Generator<Item> {
    for (let at = Math.max(seq, this.start); at < this.#end; at += 1) {
      yield this.#items[at % this.#itemsMax] as Item;
    }
  }

  #add(item: Item): void {
    const at = this.#end % this.#itemsMax;
    this.#count(this.#items[at], -1);
    this.#count(item, 1);
    this.#items[at] = item;
    this.#end += 1;
  }

  #count(item: Item | undefined, change: 1 | -1): void {
    if (item?.kind === "event") this.#counts.set(item.family, (this.#counts.get(item.family) as number) + change);
  }
}
