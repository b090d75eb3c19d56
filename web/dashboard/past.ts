// The log's past, as `GET /history` gives it: the same whether it lies in memory, in the stream or in PostgreSQL.
import type { Event } from "../client/wire.ts";
import { type Cycle, runOf } from "../mind/cycle.ts";
import { type Cut, cutBehind } from "../time/cut.ts";
import { findCycle, type MindState, NO_MIND, step } from "../mind/mind.ts";
import { cycleFrom, RECALLED, recall, withRecalled } from "../mind/recall.ts";
import type { Bucket, Span } from "../time/minimap.ts";
import { Asker, AskError, type Insistence } from "./ask.ts";
import { idBefore, isBefore } from "./links.ts";

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

  /** Of all of the log, or of a part, in buckets as narrow as suits it; null where there is nothing yet. */
  async census(part: Span | null = null): Promise<Census | null> {
    const answer = await this.#ask("history", { bucket: "auto", ...(part === null ? {} : rangeOf(part)) });
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

  /** Where cycles begin in a part, at most so many. */
  async cycleStarts(part: Span, max: number): Promise<readonly Event[]> {
    return (await this.#page({ ...rangeOf(part), types: "cycle.start", limit: String(max) })).events;
  }

  async before({ until }: Pick<Cut, "until">): Promise<Before> {
    const { events, next } = await this.#page({ until, order: "desc" });
    const first = events.at(-1);
    const begin = first === undefined || next === null ? NO_MIND : await this.mindBefore(first);
    return { events: events.toReversed(), begin, isFirst: next === null };
  }

  /** What the mind felt before an event, what it did, and what it had decided last. */
  async mindBefore(event: Event): Promise<MindState> {
    const felt = RECALLED.map(([types, count]) => this.#lastBefore(event, types, count));
    const [events, { last, decided }] = await Promise.all([Promise.all(felt), this.#cyclesBefore(event)]);
    return withRecalled(recall(events.flat()), last, decided);
  }

  /** The last cycle that began before an event, and the last that decided; they may be the same. */
  async #cyclesBefore(event: Event): Promise<{ readonly last: Cycle | null; readonly decided: Cycle | null }> {
    const [start, [decision]] = await Promise.all([this.cycleStart(-1, event), this.#lastBefore(event, "decision", 1)]);
    if (start === null) return { last: null, decided: null };
    if (decision === undefined || isBefore(start, decision)) {
      const last = await this.#cycleBefore(start, event);
      return { last, decided: decision === undefined ? null : last };
    }
    const other = await this.cycleStart(-1, decision);
    const [last, decided] = await Promise.all([start, other].map((each) => this.#cycleBefore(each, event)));
    return { last: last ?? null, decided: decided ?? null };
  }

  /** The last events of some types before one, oldest first. */
  async #lastBefore({ id }: Event, types: string, count: number): Promise<readonly Event[]> {
    const { events } = await this.#page({ types, until: idBefore(id), order: "desc", limit: String(count) });
    return events.toReversed();
  }

  /** A cycle as far as it had come before an event. */
  async #cycleBefore(start: Event | null, event: Event): Promise<Cycle | null> {
    if (start === null) return null;
    const found = await this.#cycle(`cycles/${start.id}`);
    return found === null ? null : cycleFrom(found.events.filter((each) => isBefore(each, event)));
  }

  /** What follows a place; with `next`, what is behind that which was had. */
  behind({ since }: Pick<Cut, "since">, next: string | null): Promise<PastPage> {
    return this.#page({ since, ...(next === null ? {} : { cursor: next }) });
  }

  /** Where a cycle begins, the last before an event or the first behind it; null where there is none. */
  async cycleStart(by: 1 | -1, { id }: Pick<Event, "id">): Promise<Event | null> {
    const range = by < 0 ? { until: idBefore(id), order: "desc" } : { since: id };
    const { events } = await this.#page({ ...range, types: "cycle.start", limit: "1" });
    return events[0] ?? null;
  }

  /** Where a cycle is over: before the next one begins, with all that it left behind. Null while none follows. */
  async cycleEnd(start: Event): Promise<Cut | null> {
    const next = await this.cycleStart(1, start);
    return next === null ? null : cutBehind(idBefore(next.id));
  }

  /** Null if the log does not have it, or does not show it to this viewer. */
  async event(id: string): Promise<Event | null> {
    const { events } = await this.#page({ since: idBefore(id), until: id, limit: "1" });
    return events.find((event) => event.id === id) ?? null;
  }

  /** A cycle by the id of its `cycle.start` or of any of its events, or the newest of a number; null where there is none. */
  async cycle(name: string): Promise<Cycle | null> {
    const found = name.includes("-")
      ? ((await this.#cycle(`cycles/${name}`)) ?? (await this.#cycleAround(name)))
      : await this.#cycle("cycles", { cycle: name });
    return found === null ? null : findCycle(found.events.reduce(step, NO_MIND), found.start.id);
  }

  async #cycle(path: string, query: Readonly<Record<string, string>> = {}): Promise<CycleAnswer | null> {
    try {
      return (await this.#ask(path, query)) as CycleAnswer;
    } catch (error) {
      if (error instanceof AskError && error.kind === "absent") return null;
      throw error;
    }
  }

  /** The cycle that an event lies in: the last of its number that its own run began before it. */
  async #cycleAround(id: string): Promise<CycleAnswer | null> {
    const event = await this.event(id);
    const start = event === null ? null : await this.#startOf(event);
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
    const cycle = start === null ? [] : ((await this.#cycle(`cycles/${start.id}`))?.events ?? []);
    return {
      before: before.events.find((each) => each.id !== id) ?? null,
      after: after.events[0] ?? null,
      cycle: cycle.filter((each) => runOf(each) === runOf(event)),
    };
  }

  async #page(query: Readonly<Record<string, string>>): Promise<PastPage> {
    return (await this.#ask("history", { limit: String(PAGE_EVENTS), ...query })) as PastPage;
  }

  #ask(path: string, query: Readonly<Record<string, string>>): Promise<unknown> {
    return this.#asker.ask(path, query);
  }
}

function rangeOf({ fromMs, toMs }: Span): { readonly since: string; readonly until: string } {
  return { since: new Date(fromMs).toISOString(), until: new Date(toMs).toISOString() };
}
