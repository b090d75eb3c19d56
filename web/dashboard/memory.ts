// A mood, or what was decided, may be older than what a viewer is given when it comes: that is asked for by itself.
import type { Past } from "./past.ts";
import type { Store } from "./store.ts";

export class Memory {
  readonly #past: Past;
  readonly #store: Store;
  readonly #onRecalled: () => void;
  #hasAsked = false;

  constructor(past: Past, store: Store, onRecalled: () => void) {
    this.#past = past;
    this.#store = store;
    this.#onRecalled = onRecalled;
  }

  /** What is held begins elsewhere from now on. */
  forget(): void {
    this.#hasAsked = false;
  }

  /** Asks, once there is an event before which it may lie; not twice. */
  async recall(): Promise<void> {
    const { first } = this.#store;
    if (this.#hasAsked || first === null) return;
    this.#hasAsked = true;
    const isWanted = (): boolean => first === this.#store.first;
    try {
      const begin = await this.#past.insist(() => this.#past.mindBefore(first), { isWanted, onWait: () => {} });
      if (begin !== undefined && isWanted()) this.#store.recall(begin);
    } catch {
      // It may not be read: then it is known when it changes.
    }
    this.#onRecalled();
  }
}
