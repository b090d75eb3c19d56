// What the page holds: the newest 10,000 items, or fewer where they are large, each with its place in the order of
// arrival.
import type { Event, Gap } from "../client/wire.ts";
import { FAMILIES, type Family, familyOf } from "./family.ts";
import { weightOf } from "./weight.ts";

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

/** So many bytes of events are held: what they are made into beside it has as much again in a page of 60 MB. */
const BYTES_MAX = 24_000_000;

/** A ring: what arrives when it is full takes the place of the oldest. */
export class Held {
  /** How many events of each family are held. */
  readonly counts: ReadonlyMap<Family, number>;
  readonly #counts = new Map<Family, number>(FAMILIES.map((family) => [family, 0]));
  readonly #items: (Item | undefined)[] = [];
  readonly #weights: Uint32Array;
  readonly #itemsMax: number;
  readonly #bytesMax: number;
  #bytes = 0;
  #start = 0;
  #end = 0;

  constructor(itemsMax = 10_000, bytesMax = BYTES_MAX) {
    this.#itemsMax = itemsMax;
    this.#bytesMax = bytesMax;
    this.#weights = new Uint32Array(itemsMax);
    this.counts = this.#counts;
  }

  /** The seq of the oldest item. */
  get start(): number {
    return this.#start;
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
    if (this.length >= this.#itemsMax) this.#drop();
    const bytes = weightOf(item.kind === "event" ? item.event : item.gap);
    this.#count(item, 1);
    this.#items[at] = item;
    this.#weights[at] = bytes;
    this.#bytes += bytes;
    this.#end += 1;
    // The newest stays, whatever it weighs.
    while (this.#bytes > this.#bytesMax && this.length > 1) this.#drop();
  }

  #drop(): void {
    const at = this.#start % this.#itemsMax;
    this.#count(this.#items[at] as Item, -1);
    this.#bytes -= this.#weights[at] as number;
    this.#items[at] = undefined;
    this.#start += 1;
  }

  #count(item: Item, change: 1 | -1): void {
    if (item.kind === "event") this.#counts.set(item.family, (this.#counts.get(item.family) as number) + change);
  }
}
