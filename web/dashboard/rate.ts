// How many events came in each of the last 60 seconds. Times are milliseconds on any one clock.

export const SECONDS = 60;

export class Rate {
  // One more than is shown: the second that has not ended yet.
  readonly #counts = new Uint32Array(SECONDS + 1);
  #second = 0;

  add(atMs: number, nowMs: number): void {
    this.#advance(nowMs);
    const second = Math.min(Math.floor(atMs / 1000), this.#second);
    if (second < this.#second - SECONDS || second < 0) return;
    const slot = second % this.#counts.length;
    this.#counts[slot] = (this.#counts[slot] as number) + 1;
  }

  /** The counts of the last 60 whole seconds, oldest first. */
  history(nowMs: number): number[] {
    this.#advance(nowMs);
    return Array.from({ length: SECONDS }, (_, i) => this.#at(this.#second - SECONDS + i));
  }

  /** Events in the last whole second. */
  perSecond(nowMs: number): number {
    this.#advance(nowMs);
    return this.#at(this.#second - 1);
  }

  #at(second: number): number {
    return second < 0 ? 0 : (this.#counts[second % this.#counts.length] as number);
  }

  #advance(nowMs: number): void {
    const now = Math.floor(nowMs / 1000);
    if (now - this.#second > SECONDS) this.#counts.fill(0);
    else for (let s = this.#second + 1; s <= now; s += 1) this.#counts[s % this.#counts.length] = 0;
    this.#second = Math.max(this.#second, now);
  }
}
