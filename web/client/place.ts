// Where this viewer stands, kept from what the bridge says, so that a new connection goes on from there. Pure.
import { Seen } from "./seen.ts";
import type { Cursor, Event, Gap, Hello, Position } from "./wire.ts";

export class Place {
  #cursor: Cursor | null;
  readonly #seen = new Seen();

  constructor(since: Cursor | null = null) {
    this.#cursor = since;
  }

  get cursor(): Cursor | null {
    return this.#cursor;
  }

  hello(hello: Hello): void {
    // A bridge that cannot read the log yet has no position to give: ours stays what it was.
    if (typeof hello.id === "string") this.#cursor = { id: hello.id, n: hello.n ?? null, epoch: hello.epoch ?? null };
  }

  /** Takes an event in; false if this viewer has had it. */
  event(event: Event): boolean {
    if (typeof event.id === "string") this.#moveTo(event.id, event.n ?? null);
    return this.#seen.isNew(event.by);
  }

  position(position: Position): void {
    this.#moveTo(position.id, position.n ?? null);
  }

  gap(gap: Gap): void {
    if (this.#cursor === null || (gap.reason !== "reset" && gap.reason !== "rewound")) return;
    // The log goes on under another epoch, which only the next hello names. Keeping the old one would make
    // every reconnect until then look like another reset.
    this.#cursor = { ...this.#cursor, n: null, epoch: null };
  }

  #moveTo(id: string, n: number | null): void {
    this.#cursor = { id, n, epoch: this.#cursor?.epoch ?? null };
  }
}
