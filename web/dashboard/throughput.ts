// How many events of each family came in each of the last five minutes' seconds. Times are milliseconds on any clock.
import { FAMILIES, type Family } from "./family.ts";

export const SECONDS = 300;

// One more than is shown: the second that has not ended yet.
const SLOTS = SECONDS + 1;
const KINDS = FAMILIES.length;

export class Throughput {
  readonly #counts = new Uint32Array(SLOTS * KINDS);
  #second = 0;

  add(family: Family, atMs: number, nowMs: number): void {
    this.#advance(nowMs);
    const second = Math.min(Math.floor(atMs / 1000), this.#second);
    if (second < this.#second - SECONDS || second < 0) return;
    const slot = (second % SLOTS) * KINDS + FAMILIES.indexOf(family);
    this.#counts[slot] = (this.#counts[slot] as number) + 1;
  }

  /** The counts of the last whole seconds, oldest first; in each those of the families, in their order. */
  history(nowMs: number): Uint32Array[] {
    this.#advance(nowMs);
    return Array.from({ length: SECONDS }, (_, i) => this.#at(this.#second - SECONDS + i));
  }

  /** Events in the last whole second. */
  perSecond(nowMs: number): number {
    this.#advance(nowMs);
    return sum(this.#at(this.#second - 1));
  }

  #at(second: number): Uint32Array {
    if (second < 0) return new Uint32Array(KINDS);
    const from = (second % SLOTS) * KINDS;
    return this.#counts.subarray(from, from + KINDS);
  }

  #advance(nowMs: number): void {
    const now = Math.floor(nowMs / 1000);
    if (now - this.#second > SECONDS) this.#counts.fill(0);
    else for (let s = this.#second + 1; s <= now; s += 1) this.#at(s).fill(0);
    this.#second = Math.max(this.#second, now);
  }
}

export function sum(counts: Iterable<number>): number {
  let total = 0;
  for (const count of counts) total += count;
  return total;
}
