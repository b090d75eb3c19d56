// Who is called for which type: `on("sense.project", …)`, `on("wave.*", …)`. Pure but for the handlers themselves.
import type { EventTypes } from "./catalogue.gen.ts";
import { parsePatterns } from "./patterns.ts";
import type { Event } from "./wire.ts";

/** An event of a type of the vocabulary: its data has the fields that the catalogue names. */
export type EventOf<Type extends keyof EventTypes> = Omit<Event, "type" | "data"> & {
  readonly type: Type;
  readonly data: Readonly<EventTypes[Type]>;
};

export type Handler = (event: Event) => void;

export class Handlers {
  readonly #exact = new Map<string, Set<Handler>>();
  readonly #patterns = new Map<Handler, (type: string) => boolean>();

  /** Calls `handler` for each event of these types until what is returned is called. Throws on what is no pattern. */
  add(types: string, handler: Handler): () => void {
    // Each is a handler of its own, though the same function be given twice.
    const own: Handler = (event) => handler(event);
    if (/[*,-]/.test(types)) {
      this.#patterns.set(own, parsePatterns(types));
      return () => void this.#patterns.delete(own);
    }
    parsePatterns(types);
    const handlers = this.#exact.get(types) ?? new Set();
    this.#exact.set(types, handlers.add(own));
    return () => void handlers.delete(own);
  }

  /** A handler that throws takes the event from nobody else. */
  call(event: Event): void {
    for (const handler of this.#exact.get(event.type) ?? []) guarded(handler, event);
    for (const [handler, matches] of this.#patterns) if (matches(event.type)) guarded(handler, event);
  }
}

/** Calls it; what it throws is reported where the page's own uncaught errors are. */
export function guarded<Told>(handler: ((told: Told) => void) | undefined, told: Told): void {
  try {
    handler?.(told);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
