// The log's past, as `GET /history` gives it: the same whether it lies in memory, in the stream or in PostgreSQL.
import type { Event } from "../client/wire.ts";
import type { Cut } from "../time/cut.ts";
import type { Cycle } from "../mind/cycle.ts";
import { findCycle, type MindState, NO_MIND, step } from "../mind/mind.ts";
import { RECALLED, recall } from "../mind/recall.ts";
import type { Bucket, Span } from "../time/minimap.ts";
import { Asker, AskError, type Insistence } from "./ask.ts";
import { idBefore } from "./links.ts";

const PAGE_EVENTS = 1_000;

/** What the map is drawn of. */
export interface Census {
  readonly extent: Span;
  readonly buckets: readonly Bucket[];
  readonly bucketMs: number;
}

/** What lies before a place in the log. */
export interface Before {
  /** The newest, oldest first. */
  readonly events: readonly Event[];
  /** The mind before these. */
  readonly begin: MindState;
  /** Whether nothing lies before these. */
  readonly isFirst: boolean;
}

export interface PastPage {
  readonly events: readonly Event[];
  /** Where the next page begins; null behind the last. */
  readonly next: string | null;
}

interface CycleAnswer {
  readonly start: Event;
  /** All of it, its start with them. */
  readonly events: readonly Event[];
}

/** Every question is asked once, and throws an `AskError` where it is not answered; `insist` asks until it is. */
export class Past {
  readonly #asker: Asker;

  constructor(bridge: URL, token: () => string | undefined) {
    this.#asker = new Asker(bridge, token);
  }

  /** As `Asker.insist`. */
  insist<T>(ask: () => Promise<T>, how: Insistence): Promise<T | undefined> {
    return this.#asker.insist(ask, how);
  }

  /** As `Asker.hurry`. */
  hurry(): void {
    this.#asker.hurry();
  }

  /** Null where there is nothing yet. */
  async census(): Promise<Census | null> {
    const answer = await this.#ask("history", { bucket: "auto" });
    const { extent, buckets, bucket_s: bucketS } = answer as {
      extent: { first: string | null; last: string | null };
      buckets: { ts: string; types: Record<string, number> }[];
      bucket_s: number;
    };
    if (extent.first === null || extent.last === null) return null;
    const [fromMs, toMs] = [Date.parse(extent.first), Date.parse(extent.last)];
    return {
      // A moment at least, so that there is something to stand on.
      extent: { fromMs, toMs: Math.max(toMs, fromMs + 1_000) },
      buckets: buckets.map(({ ts, types }) => ({ fromMs: Date.parse(ts), types })),
      bucketMs: bucketS * 1000,
    };
  }

  async before({ until }: Pick<Cut, "until">): Promise<Before> {
    const { events, next } = await this.#page({ until, order: "desc" });
    const first = events.at(-1);
    const begin = first === undefined || next === null ? NO_MIND : await this.mindBefore(first);
    return { events: events.toReversed(), begin, isFirst: next === null };
  }

  /** What the mind felt before an event. */
  async mindBefore({ id }: Event): Promise<MindState> {
    const felt = RECALLED.map(async ([types, count]) => {
      const { events } = await this.#page({ types, until: id, order: "desc", limit: String(count + 1) });
      return events.filter((event) => event.id !== id).slice(0, count).reverse();
    });
    return recall((await Promise.all(felt)).flat());
  }

  /** What follows a place; with `next`, what is behind that which was had. */
  behind({ since }: Pick<Cut, "since">, next: string | null): Promise<PastPage> {
    return this.#page({ since, ...(next === null ? {} : { cursor: next }) });
  }

  /** Where a cycle begins, the last before an event or the first behind it; null where there is none. */
  async cycleStart(by: 1 | -1, { id }: Event): Promise<Event | null> {
    const range = by < 0 ? { until: idBefore(id), order: "desc" } : { since: id };
    const { events } = await this.#page({ ...range, types: "cycle.start", limit: "1" });
    return events[0] ?? null;
  }

  /** Null if the log does not have it, or does not show it to this viewer. */
  async event(id: string): Promise<Event | null> {
    const { events } = await this.#page({ since: idBefore(id), until: id, limit: "1" });
    return events.find((event) => event.id === id) ?? null;
  }

  /** A cycle by the id of its `cycle.start`, or the newest of a number; null where the log has none. */
  async cycle(name: string): Promise<Cycle | null> {
    const [path, query] = name.includes("-") ? [`cycles/${name}`, {}] : ["cycles", { cycle: name }];
    try {
      const { start, events } = (await this.#ask(path, query)) as CycleAnswer;
      return findCycle(events.reduce(step, NO_MIND), start.id);
    } catch (error) {
      if (error instanceof AskError && error.kind === "absent") return null;
      throw error;
    }
  }

  async #page(query: Readonly<Record<string, string>>): Promise<PastPage> {
    return (await this.#ask("history", { limit: String(PAGE_EVENTS), ...query })) as PastPage;
  }

  #ask(path: string, query: Readonly<Record<string, string>>): Promise<unknown> {
    return this.#asker.ask(path, query);
  }
}
