// The log's past, as `GET /history` gives it: the same whether it lies in memory, in the stream or in PostgreSQL.
import type { Event } from "../client/wire.ts";
import { type Cycle, runOf } from "../mind/cycle.ts";
import { findCycle, type MindState, NO_MIND, step } from "../mind/mind.ts";
import { RECALLED, recall } from "../mind/recall.ts";
import type { Bucket, Span } from "../time/minimap.ts";
import { idBefore } from "./links.ts";

const PAGE_EVENTS = 1_000;

/** What the map is drawn of. */
export interface Census {
  readonly extent: Span;
  readonly buckets: readonly Bucket[];
  readonly bucketMs: number;
}

export interface PastPage {
  readonly events: readonly Event[];
  /** Where the next page begins; null behind the last. */
  readonly next: string | null;
}

export interface RelatedEvents {
  readonly before: Event | null;
  readonly after: Event | null;
  readonly cycle: readonly Event[];
}

interface CycleAnswer {
  readonly start: Event;
  /** All of it, its start with them. */
  readonly events: readonly Event[];
}

export class Past {
  readonly #bridge: URL;
  readonly #token: () => string | undefined;

  constructor(bridge: URL, token: () => string | undefined) {
    this.#bridge = bridge;
    this.#token = token;
  }

  /** Null where there is nothing yet. Throws where the bridge does not say. */
  async census(): Promise<Census | null> {
    const answer = await this.#ask({ bucket: "auto" });
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

  /** The last events before a time, oldest first, and the mind before these. */
  async before(atMs: number): Promise<{ readonly events: readonly Event[]; readonly begin: MindState }> {
    const { events, next } = await this.#page({ until: new Date(atMs - 1).toISOString(), order: "desc" });
    const first = events.at(-1);
    const begin = first === undefined || next === null ? NO_MIND : await this.mindBefore(first);
    return { events: events.toReversed(), begin };
  }

  /** What the mind felt before an event. */
  async mindBefore({ id }: Event): Promise<MindState> {
    const felt = RECALLED.map(async ([types, count]) => {
      const { events } = await this.#page({ types, until: id, order: "desc", limit: String(count + 1) });
      return events.filter((event) => event.id !== id).slice(0, count).reverse();
    });
    return recall((await Promise.all(felt)).flat());
  }

  /** Events from a time on; with `next`, those behind what was had. */
  from(atMs: number, next: string | null): Promise<PastPage> {
    return this.#page({ since: new Date(atMs).toISOString(), ...(next === null ? {} : { cursor: next }) });
  }

  /** A cycle by the id of its `cycle.start` or of any of its events, or the newest of a number; null where there is none. */
  async cycle(name: string): Promise<Cycle | null> {
    try {
      if (!name.includes("-")) return await this.#cycle("cycles", { cycle: name });
      return await this.#cycle(`cycles/${name}`).catch(() => this.#cycleOf(name));
    } catch {
      return null;
    }
  }

  async #cycle(path: string, query: Readonly<Record<string, string>> = {}): Promise<Cycle | null> {
    const { start, events } = (await this.#ask(query, path)) as CycleAnswer;
    return findCycle(events.reduce(step, NO_MIND), start.id);
  }

  /** The cycle that an event lies in: the last of its number that its own run began before it. */
  async #cycleOf(id: string): Promise<Cycle | null> {
    const event = (await this.#page({ since: idBefore(id), limit: "1" })).events[0];
    const start = event?.id === id ? await this.#startOf(event) : null;
    return start === null ? null : this.#cycle(`cycles/${start.id}`);
  }

  async #startOf(event: Event): Promise<Event | null> {
    if (event.cycle === 0) return null;
    const { events } = await this.#page({ types: "cycle.start", until: event.id, order: "desc" });
    return events.find((each) => each.cycle === event.cycle && runOf(each) === runOf(event)) ?? null;
  }

  /** The events of its cycle, and those of its type before and after it. */
  async related(event: Event): Promise<RelatedEvents> {
    const { type: types, id } = event;
    const [before, after, start] = await Promise.all([
      this.#page({ types, until: id, order: "desc", limit: "2" }),
      this.#page({ types, since: id, limit: "1" }),
      this.#startOf(event),
    ]);
    const cycle = start === null ? [] : ((await this.#ask({}, `cycles/${start.id}`)) as CycleAnswer).events;
    return {
      before: before.events.find((each) => each.id !== id) ?? null,
      after: after.events[0] ?? null,
      cycle: cycle.filter((each) => runOf(each) === runOf(event)),
    };
  }

  async #page(query: Readonly<Record<string, string>>): Promise<PastPage> {
    return (await this.#ask({ limit: String(PAGE_EVENTS), ...query })) as PastPage;
  }

  async #ask(query: Readonly<Record<string, string>>, path = "history"): Promise<unknown> {
    const token = this.#token();
    const address = new URL(`${path}?${new URLSearchParams(query)}`, this.#bridge);
    const answer = await fetch(address, token === undefined ? {} : { headers: { Authorization: `Bearer ${token}` } });
    if (answer.status === 404) throw new Error("this bridge does not serve it");
    const body = (await answer.json()) as { detail?: string };
    if (!answer.ok) throw new Error(body.detail ?? `the bridge answered ${answer.status}`);
    return body;
  }
}
