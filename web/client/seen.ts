// Tells an event that was appended again: the same `by` at another place of the log.

/** The last seq of each producer; the twin of `Seen` in src/broadcast/log/position.py. */
export class Seen {
  readonly #last = new Map<string, number>();
  readonly #producersMax: number;

  /** So many producers are remembered; then the one silent for longest is forgotten. */
  constructor(producersMax = 4096) {
    this.#producersMax = producersMax;
  }

  get size(): number {
    return this.#last.size;
  }

  /** Whether this identity was not had before; remembers it. An event without identity is always new. */
  isNew(by: unknown): boolean {
    const parts = typeof by === "string" ? /^(.+):(\d+)$/.exec(by) : null;
    if (parts === null) return true;
    const producer = parts[1] as string;
    const seq = Number(parts[2]);
    if (seq <= (this.#last.get(producer) ?? 0)) return false;
    // A Map keeps the order of insertion: deleting first makes the newest the last.
    this.#last.delete(producer);
    this.#last.set(producer, seq);
    if (this.#last.size > this.#producersMax) {
      this.#last.delete(this.#last.keys().next().value as string);
    }
    return true;
  }
}
