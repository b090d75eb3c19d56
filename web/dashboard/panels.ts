// What stands beside the list: the cycle, the mind and the errors; written at most ten times a second.
import { render } from "lit/html.js";

import type { Cycle } from "../mind/cycle.ts";
import { currentCycle, findCycle } from "../mind/mind.ts";
import { type CyclePanelEvents, cyclePanel } from "./cycle-panel.ts";
import type { Insistence } from "./ask.ts";
import { byId } from "./element.ts";
import { errorsPanel } from "./errors-panel.ts";
import { mindPanel } from "./mind-panel.ts";
import type { Store } from "./store.ts";

const INTERVAL_MS = 100;
const CALM_INTERVAL_MS = 1_000;

export interface PanelEvents {
  readonly onFilterCycle: (cycle: Cycle) => void;
  readonly onEvent: (id: string) => void;
  /** Another cycle than the newest is shown, or the newest again (null). */
  readonly onPinned: (key: string | null) => void;
  /** Fetches a cycle that the page does not know; null where there is none, undefined where it is not wanted any more. */
  readonly findCycle: (name: string, how: Insistence) => Promise<Cycle | null | undefined>;
}

export class Panels {
  #store: Store;
  readonly #on: CyclePanelEvents;
  readonly #events: PanelEvents;
  readonly #isCalm = matchMedia("(prefers-reduced-motion: reduce)");
  #pinned: string | null = null;
  /** A cycle that was asked for, under that name; null while it is not there, and what became of it. */
  #fetched: { readonly name: string; readonly cycle: Cycle | null; readonly told: string } | null = null;
  #shownMs = 0;
  #shownEvents = -1;
  #may: (type: string) => boolean = () => true;

  constructor(store: Store, events: PanelEvents) {
    this.#store = store;
    this.#events = events;
    this.#on = {
      onPick: (cycle) => this.pin(cycle.key),
      onStep: (by) => this.step(by),
      onNewest: () => this.pin(null),
      onFilter: events.onFilterCycle,
      onEvent: events.onEvent,
    };
  }

  /** What the token allows. */
  setGranted(may: (type: string) => boolean): void {
    this.#may = may;
    this.#shownMs = 0;
  }

  /** Shows another store, the past or the present again, and in it the cycle that is under way there. */
  turnTo(store: Store): void {
    this.#store = store;
    this.#shownMs = 0;
    if (this.#pinned !== null) this.pin(null);
  }

  /** Shows this cycle, by key or number, whatever comes; null follows the newest. */
  pin(name: string | null): void {
    this.#pinned = name;
    this.#shownMs = 0;
    this.#events.onPinned(name);
    if (name !== null && this.#cycle() === null) void this.#fetch(name);
  }

  step(by: 1 | -1): void {
    const { cycles } = this.#store.mind;
    const shown = this.#cycle();
    const at = shown === null ? -1 : cycles.indexOf(shown);
    // One that was fetched from long ago has no neighbours here.
    const next = at < 0 ? null : cycles[at + by];
    if (next != null) this.pin(next === cycles.at(-1) ? null : next.key);
  }

  /** Whether something has come since, or a stage is under way, whose bar grows. */
  get isStale(): boolean {
    return this.#shownEvents !== this.#store.mind.events || this.#cycle()?.outcome === "running";
  }

  /** `nowMs` is this machine's clock, `mindMs` what it is for the mind that is shown. False if it is too soon. */
  show(nowMs: number, mindMs: number): boolean {
    const interval = this.#isCalm.matches ? CALM_INTERVAL_MS : INTERVAL_MS;
    if (nowMs - this.#shownMs < interval || (!this.isStale && nowMs - this.#shownMs < CALM_INTERVAL_MS)) return false;
    this.#shownMs = nowMs;
    this.#shownEvents = this.#store.mind.events;
    const { mind } = this.#store;
    render(cyclePanel({ state: mind, cycle: this.#cycle(), pinned: this.#pinned, sought: this.#fetched?.told ?? "", nowMs: mindMs, may: this.#may }, this.#on), byId("cycle-body"));
    render(errorsPanel(mind.errors, mindMs, this.#may, this.#on), byId("errors-body"));
    render(mindPanel(mind, mindMs, this.#may), byId("mind-body"));
    return true;
  }

  async #fetch(name: string): Promise<void> {
    const tell = (told: string, cycle: Cycle | null = null): void => {
      this.#fetched = { name, cycle, told };
      this.#shownMs = 0;
    };
    const isWanted = (): boolean => this.#fetched?.name === name && this.#pinned === name;
    const looking = `Looking for cycle ${name}…`;
    tell(looking);
    try {
      const onWait = (why: string): void => tell(`${looking} ${why}. It is tried again.`);
      const cycle = await this.#events.findCycle(name, { isWanted, onWait });
      if (isWanted()) tell(`There is no cycle ${name} in the log.`, cycle ?? null);
    } catch (error) {
      if (isWanted()) tell(`Cycle ${name} cannot be read: ${(error as Error).message}.`);
    }
  }

  #cycle(): Cycle | null {
    const { mind } = this.#store;
    if (this.#pinned === null) return currentCycle(mind);
    return findCycle(mind, this.#pinned) ?? (this.#fetched?.name === this.#pinned ? this.#fetched.cycle : null);
  }
}
