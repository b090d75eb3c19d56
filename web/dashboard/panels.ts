// What stands beside the list: the cycle, the mind and the errors; written at most ten times a second.
import { html, nothing, render, type TemplateResult } from "lit/html.js";

import type { Cycle } from "../mind/cycle.ts";
import { currentCycle, findCycle } from "../mind/mind.ts";
import { type CyclePanelEvents, cyclePanel } from "./cycle-panel.ts";
import { byId, setText } from "./element.ts";
import { type ErrorsPanelEvents, errorsPanel, GROUPS_STEP } from "./errors-panel.ts";
import { mindPanel } from "./mind-panel.ts";
import type { Past } from "./past.ts";
import type { Clock, Store } from "./store.ts";

const INTERVAL_MS = 100;
const CALM_INTERVAL_MS = 1_000;

export interface PanelEvents {
  readonly onFilterCycle: (cycle: Cycle) => void;
  readonly onEvent: (id: string) => void;
  /** The reader wants to see more. */
  readonly onChanged: () => void;
  /** Another cycle than the newest is shown, or the newest again (null). */
  readonly onPinned: (key: string | null) => void;
}

export class Panels {
  #store: Store;
  /** Where cycles are that the page does not know. */
  readonly #past: Past;
  readonly #on: CyclePanelEvents & ErrorsPanelEvents;
  readonly #events: PanelEvents;
  readonly #isCalm = matchMedia("(prefers-reduced-motion: reduce)");
  #pinned: string | null = null;
  /** A cycle that was asked for, under that name; null while it is not there, and what became of it. */
  #fetched: { readonly name: string; readonly cycle: Cycle | null; readonly told: string } | null = null;
  /** What the notice says of a step; a step is under way while `#isStepping`. */
  #said = "";
  #isStepping = false;
  #errorGroupsMax = GROUPS_STEP;
  #shownMs = 0;
  #shownEvents = -1;
  #may: (type: string) => boolean = () => true;
  /** Null before it is known. */
  #isConnected: boolean | null = null;

  constructor(store: Store, past: Past, events: PanelEvents) {
    this.#store = store;
    this.#past = past;
    this.#events = events;
    this.#on = {
      onPick: (cycle) => this.pin(cycle.key),
      onStep: (by) => this.step(by),
      onNewest: () => this.pin(null),
      onFilter: events.onFilterCycle,
      onEvent: events.onEvent,
      onMore: () => {
        this.#errorGroupsMax += GROUPS_STEP;
        this.#shownMs = 0;
        events.onChanged();
      },
    };
  }

  /** What the token allows. */
  setGranted(may: (type: string) => boolean): void {
    this.#may = may;
    this.#shownMs = 0;
  }

  /** Whether what is not there would have been told. */
  set isConnected(is: boolean) {
    if (is !== this.#isConnected) this.#shownMs = 0;
    this.#isConnected = is;
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
    this.#say("");
    this.#events.onPinned(name);
    if (name !== null && this.#cycle() === null) void this.#fetch(name);
  }

  /** To the cycle before or after; beyond those that the page knows to those of the log. */
  step(by: 1 | -1): void {
    const { cycles } = this.#store.mind;
    const shown = this.#cycle();
    if (shown === null) return;
    const at = cycles.indexOf(shown);
    const next = at < 0 ? undefined : cycles[at + by];
    if (next !== undefined) this.#pinKnown(next);
    // Behind the newest there is nothing yet.
    else if (at < 0 || by < 0) void this.#stepInLog(shown, by);
  }

  /** Whether something has come since, or a stage is under way, whose bar grows. */
  get isStale(): boolean {
    return this.#shownEvents !== this.#store.mind.events || this.#cycle()?.outcome === "running";
  }

  /** `nowMs` is this machine's clock, `clock` that of the mind that is shown. False if it is too soon. */
  show(nowMs: number, clock: Clock): boolean {
    const interval = this.#isCalm.matches ? CALM_INTERVAL_MS : INTERVAL_MS;
    if (nowMs - this.#shownMs < interval || (!this.isStale && nowMs - this.#shownMs < CALM_INTERVAL_MS)) return false;
    this.#shownMs = nowMs;
    this.#shownEvents = this.#store.mind.events;
    const { mind } = this.#store;
    // Of a mind of which nothing was ever heard nothing is said.
    const isKnown = mind.events > 0 || this.#isConnected === true;
    const unknown = this.#isConnected === null ? nothing : html`<p class="void">Not connected: nothing is known</p>`;
    const cycle = (): TemplateResult =>
      cyclePanel({ state: mind, cycle: this.#cycle(), pinned: this.#pinned, sought: this.#fetched?.told ?? "", clock, may: this.#may }, this.#on);
    render(isKnown || this.#pinned !== null ? cycle() : unknown, byId("cycle-body"));
    render(isKnown ? errorsPanel(mind.errors, this.#errorGroupsMax, clock.nowMs, this.#may, this.#on) : nothing, byId("errors-body"));
    render(isKnown ? mindPanel(mind, clock, this.#may) : unknown, byId("mind-body"));
    return true;
  }

  #pinKnown(cycle: Cycle): void {
    this.pin(cycle === this.#store.mind.cycles.at(-1) ? null : cycle.key);
  }

  /** One step at a time: the next is from where it leads. */
  async #stepInLog(from: Cycle, by: 1 | -1): Promise<void> {
    if (this.#isStepping) return;
    this.#isStepping = true;
    const where = by < 0 ? "before" : "after";
    const isWanted = (): boolean => this.#cycle()?.key === from.key;
    const onWait = (why: string): void => this.#say(`Looking for the cycle ${where}… ${why}. It is tried again.`);
    try {
      const found = await this.#past.insist(() => this.#neighbour(from, by), { isWanted, onWait });
      if (!isWanted() || found === undefined) return;
      if (found === null) this.#say(`The log has no cycle ${where} this one.`);
      else this.#pinFound(found);
    } catch (error) {
      if (isWanted()) this.#say(`The cycle ${where} cannot be read: ${(error as Error).message}.`);
    } finally {
      this.#isStepping = false;
    }
  }

  /** Of what the log has, the whole cycle: the one that is shown stays until it is there. */
  async #neighbour({ key: id }: Cycle, by: 1 | -1): Promise<Cycle | null> {
    const start = await this.#past.cycleStart(by, { id });
    return start === null ? null : (findCycle(this.#store.mind, start.id) ?? this.#past.cycle(start.id));
  }

  #pinFound(cycle: Cycle): void {
    const known = findCycle(this.#store.mind, cycle.key);
    if (known !== null) return this.#pinKnown(known);
    this.#fetched = { name: cycle.key, cycle, told: "" };
    this.pin(cycle.key);
  }

  #say(sentence: string): void {
    if (sentence !== this.#said) setText(byId("notice"), sentence);
    this.#said = sentence;
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
      const cycle = await this.#past.insist(() => this.#past.cycle(name), { isWanted, onWait });
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
