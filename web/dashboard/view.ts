// What of the held items the list shows. Pure.
//
// Rules:
// 1. Following, the view takes in what arrives and lets go of what is no longer held.
// 2. Away (scrolled up) or paused, it stays exactly as it is, so that nothing moves under the reader's eyes;
//    what arrives is counted in `fresh`, and another filter looks no further than where it ends.
// 3. Gaps pass every filter: what is missing concerns every reader.
import type { Matches } from "./filter.ts";
import type { Held, Item } from "./held.ts";

export type Mode = "following" | "away" | "paused";

export class View {
  items: Item[] = [];
  /** How many items have gone away before the first one. */
  offset = 0;
  /** Items that pass the filter and wait behind the frozen view. */
  fresh = 0;
  mode: Mode = "following";
  #matches: Matches = () => true;
  #next = 0;
  /** Where the view ends while it is frozen. */
  #frozenAt = 0;
  #held: Held;

  constructor(held: Held) {
    this.#held = held;
  }

  /** Looks at what has arrived since. */
  sync(): void {
    const arrived = this.#arrived();
    if (this.mode === "following") {
      for (const item of arrived) this.items.push(item);
      this.#trim();
    } else {
      this.fresh += arrived.length;
    }
  }

  /** Shows what is held elsewhere, from its end on. */
  show(held: Held): void {
    this.#held = held;
    this.offset = 0;
    this.follow();
  }

  setFilter(matches: Matches): void {
    this.#matches = matches;
    this.#rebuild();
    if (this.mode === "following") return;
    // Another filter looks at what stood there, not at what came since.
    const isFresh = ({ seq }: Item): boolean => seq >= this.#frozenAt;
    this.fresh = this.items.filter(isFresh).length;
    this.items = this.items.filter((item) => !isFresh(item));
  }

  follow(): void {
    this.mode = "following";
    this.#rebuild();
  }

  freeze(mode: "away" | "paused"): void {
    this.sync();
    if (this.mode === "following") this.#frozenAt = this.#held.end;
    this.mode = mode;
  }

  /** Takes in what waits and stays away; says how many rows went away at the beginning. */
  extend(): number {
    const before = this.items;
    this.#rebuild();
    this.#frozenAt = this.#held.end;
    const kept = before.findIndex((item) => item.seq >= this.#held.start);
    return kept < 0 ? before.length : kept;
  }

  #rebuild(): void {
    this.#next = 0;
    this.fresh = 0;
    this.items = this.#arrived();
  }

  #arrived(): Item[] {
    const arrived: Item[] = [];
    for (const item of this.#held.from(this.#next)) {
      if (item.kind === "gap" || this.#matches(item.event)) arrived.push(item);
    }
    this.#next = this.#held.end;
    return arrived;
  }

  #trim(): void {
    const kept = this.items.findIndex((item) => item.seq >= this.#held.start);
    this.offset += this.items.splice(0, kept < 0 ? this.items.length : kept).length;
  }
}
