// The pane that shows one item whole: its fields, its JSON, and what is related to it.
import { html, nothing, render, type TemplateResult } from "lit/html.js";

import type { Event } from "../client/wire.ts";
import { timeOf } from "../mind/values.ts";
import { digest } from "./digest.ts";
import { byId, setText } from "./element.ts";
import { familyOf } from "./family.ts";
import { fieldList, ROWS_STEP } from "./field-list.ts";
import { gapText } from "./gap.ts";
import type { EventItem, Held, Item } from "./held.ts";
import { jsonPieces } from "./json.ts";
import { linkTo } from "./links.ts";
import type { RelatedEvents } from "./past.ts";
import { printable } from "./printable.ts";
import { shown } from "./shown.ts";
import { ago, eventTime, span } from "./time.ts";

const COPIED_MS = 1_500;
const RELATED_MAX = 100;
const AGE_MS = 1_000;
const TEXT_CHARS_MAX = 4_000;
const TABS = ["Fields", "JSON", "Related"] as const;
type Tab = (typeof TABS)[number];

export interface DetailEvents {
  /** The time on the mind's own clock. */
  readonly now: () => number;
  readonly onClose: () => void;
  readonly onOpen: (item: Item) => void;
  /** Add this term to the filter. */
  readonly onTerm: (term: string) => void;
  readonly onCycle: (event: Event) => void;
  /** Looks in the log for what is related to an event that this page does not hold. */
  readonly findRelated: (event: Event) => Promise<RelatedEvents>;
}

interface Related {
  readonly before: Item | null;
  readonly after: Item | null;
  readonly cycle: readonly EventItem[];
}

/** An event that was fetched, and is not held. */
export function fetchedItem(event: Event): EventItem {
  return { kind: "event", event, family: familyOf(event.type), seq: -1 };
}

/** All of it, as it is on the wire. */
function wholeOf(item: Item): unknown {
  return item.kind === "event" ? item.event : item.gap;
}

export class Detail {
  item: Item | null = null;
  #tab: Tab = "Fields";
  #said = "";
  /** How many rows of fields are shown, whether long texts are shown whole, and which long lists are. */
  #rowsMax = ROWS_STEP;
  #whole = false;
  #lists: ReadonlySet<string> = new Set();
  /** What was asked of the log about an event that this page does not hold; null while nothing was. */
  #fetched: { readonly of: Item; readonly related: Related | "sought" | "unknown" } | null = null;
  readonly #root = byId("detail");
  #held: Held;
  readonly #events: DetailEvents;

  constructor(held: Held, events: DetailEvents) {
    this.#held = held;
    this.#events = events;
    setInterval(() => !document.hidden && this.#showAge(), AGE_MS);
  }

  /** Looks for what is related in what is held elsewhere. */
  show(held: Held): void {
    this.#held = held;
  }

  get isOpen(): boolean {
    return this.item !== null;
  }

  open(item: Item): void {
    if (this.item === item) return;
    this.item = item;
    this.#said = "";
    this.#rowsMax = ROWS_STEP;
    this.#whole = false;
    this.#lists = new Set();
    this.#fetched = null;
    this.#render();
    this.#root.querySelector(".detail-body")?.scrollTo(0, 0);
  }

  close(): void {
    this.item = null;
    this.#render();
  }

  /** The event, or the gap, as JSON: the open one, or one that is only selected. */
  copyJson(item: Item | null): void {
    if (item === null) return;
    void this.#copy(JSON.stringify(wholeOf(item), null, 2), "JSON copied");
  }

  copyLink(item: Item | null): void {
    if (item?.kind !== "event") return;
    const address = new URL(location.href);
    address.hash = linkTo({ kind: "event", id: item.event.id });
    void this.#copy(address.href, "Link copied");
  }

  async #copy(text: string, done: string): Promise<void> {
    // Only a page that came over TLS or from this machine may write to the clipboard.
    const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
    this.#say(await written.then(() => done, () => "Copying is not allowed here"));
    setTimeout(() => this.#say(""), COPIED_MS);
  }

  #say(text: string): void {
    this.#said = text;
    // Where nothing is open, it is said where the page says things.
    setText(byId("notice"), this.isOpen ? "" : text);
    this.#render();
  }

  #render(): void {
    this.#root.hidden = this.item === null;
    render(this.item === null ? nothing : this.#pane(this.item), this.#root);
    this.#showAge();
  }

  /** How long ago it was; that alone changes while it is open. */
  #showAge(): void {
    if (this.item?.kind !== "event") return;
    setText(byId("detail-age"), `(${ago(this.#events.now() - timeOf(this.item.event))})`);
  }

  #pane(item: Item): TemplateResult {
    const title = item.kind === "event" ? shown(item.event.type, 200) : "gap";
    return html`
      <div class="detail-head" data-family=${item.kind === "event" ? item.family : "gap"}>
        <h2 id="detail-title">${title}</h2>
        <span class="copied" id="detail-said" role="status">${this.#said}</span>
        <button type="button" class="quiet-button" id="detail-copy" title="Copy as JSON  c" @click=${() => this.copyJson(item)}>Copy</button>
        ${item.kind === "event"
          ? html`<button type="button" class="quiet-button" id="detail-link" title="Copy a link to it  y" @click=${() => this.copyLink(item)}>Link</button>`
          : nothing}
        <button type="button" class="icon-button" id="detail-close" aria-label="Close" @click=${this.#events.onClose}>✕</button>
      </div>
      ${item.kind === "event" ? this.#facts(item.event) : html`<p class="note">${gapText(item.gap)}</p>`}
      <div class="detail-tabs" role="tablist" aria-label="How it is shown">
        ${TABS.map((tab) => this.#tabButton(tab))}
      </div>
      <div class="detail-body" role="tabpanel" id="detail-panel" aria-label=${this.#tab} tabindex="0">${this.#body(item)}</div>
    `;
  }

  #tabButton(tab: Tab): TemplateResult {
    return html`<button type="button" role="tab" aria-selected=${String(tab === this.#tab)} aria-controls="detail-panel"
      @click=${() => {
        this.#tab = tab;
        this.#render();
      }}>${tab}</button>`;
  }

  #facts(event: Event): TemplateResult {
    const { ts, cycle, day, id, by, n } = event;
    const local = new Date(ts);
    const time = Number.isNaN(local.getTime()) ? ts : `${local.toLocaleString("sv")}.${ts.slice(20, 23)}`;
    const fact = (name: string, value: unknown): TemplateResult | typeof nothing =>
      value === undefined
        ? nothing
        : html`<div class="fact"><dt>${name}</dt><dd>${printable(String(value)).slice(0, 160)}</dd></div>`;
    return html`<dl class="facts" id="detail-facts">
      <div class="fact"><dt>time</dt><dd>${printable(time).slice(0, 160)} <span id="detail-age"></span></dd></div>
      ${cycle === 0
        ? nothing
        : html`<div class="fact"><dt>cycle</dt><dd><button type="button" class="link" @click=${() => this.#events.onCycle(event)}>${shown(String(cycle), 20)}</button></dd></div>`}
      ${fact("day", day)} ${fact("n", n)} ${fact("id", id)} ${fact("by", by)}
    </dl>`;
  }

  #body(item: Item): unknown {
    const value = item.kind === "event" ? item.event.data : item.gap;
    if (this.#tab === "JSON") return this.#json(wholeOf(item));
    if (this.#tab === "Related" && item.kind === "event") return this.#related(item);
    return this.#fields(value);
  }

  #json(value: unknown): TemplateResult {
    const { pieces, rest } = jsonPieces(value);
    return html`<pre id="detail-json" class="json">${pieces.map(({ text, kind }) => html`<span class="json-${kind}">${text}</span>`)}${this.#text(rest)}</pre>`;
  }

  #fields(value: unknown): TemplateResult {
    return fieldList(value, {
      rowsMax: this.#rowsMax,
      open: this.#lists,
      text: (text) => this.#text(text),
      onMore: () => this.#show({ rowsMax: this.#rowsMax + ROWS_STEP }),
      onOpen: (place) => this.#show({ lists: new Set([...this.#lists, place]) }),
      onTerm: this.#events.onTerm,
    });
  }

  /** A text on its lines; a long one is cut until all of it is asked for. */
  #text(text: string): TemplateResult {
    const isCut = !this.#whole && text.length > TEXT_CHARS_MAX;
    const lines = (isCut ? text.slice(0, TEXT_CHARS_MAX) : text).split("\n").map(printable).join("\n");
    const left = `… all of it: ${text.length.toLocaleString("en")} characters`;
    return html`${lines}${isCut ? html`<button type="button" class="link" @click=${() => this.#show({ whole: true })}>${left}</button>` : nothing}`;
  }

  #show({ rowsMax = this.#rowsMax, whole = this.#whole, lists = this.#lists }: { rowsMax?: number; whole?: boolean; lists?: ReadonlySet<string> }): void {
    this.#rowsMax = rowsMax;
    this.#whole = whole;
    this.#lists = lists;
    this.#render();
  }

  #related(item: EventItem): TemplateResult {
    const { event } = item;
    const related = this.#relatedTo(item);
    if (related === "sought") return html`<p class="none">Looking in the log…</p>`;
    if (related === "unknown") return html`<p class="none">What is related to it is not loaded, and the log did not say.</p>`;
    const { before, after, cycle } = related;
    return html`<p class="siblings">
        <button type="button" ?disabled=${before === null} @click=${() => before !== null && this.#events.onOpen(before)}>‹ before of this type</button>
        <button type="button" ?disabled=${after === null} @click=${() => after !== null && this.#events.onOpen(after)}>next of this type ›</button>
      </p>
      ${event.cycle === 0 ? html`<p class="none">It happened outside of a cycle.</p>` : html`<h3>Cycle ${shown(String(event.cycle), 12)}</h3>`}
      <ol class="related">${cycle.map((each) => this.#relatedRow(each, item))}</ol>
      ${cycle.length >= RELATED_MAX ? html`<p class="note">The first ${RELATED_MAX}.</p>` : nothing}`;
  }

  /** Of an event that is held from what is held; the neighbours of another are in the log. */
  #relatedTo(item: EventItem): Related | "sought" | "unknown" {
    const { event, seq } = item;
    if (seq >= this.#held.start) {
      const isAlike = (other: Item): boolean => other.kind === "event" && other.event.type === event.type;
      const [before, after] = [this.#held.findLast(isAlike, seq), this.#held.findNext(isAlike, seq + 1)];
      return { before, after, cycle: event.cycle === 0 ? [] : this.#ofCycle(event) };
    }
    if (this.#fetched?.of !== item) {
      this.#fetched = { of: item, related: "sought" };
      void this.#fetch(item);
    }
    return this.#fetched.related;
  }

  async #fetch(item: EventItem): Promise<void> {
    let related: Related | "unknown";
    try {
      const { before, after, cycle } = await this.#events.findRelated(item.event);
      const items = cycle.slice(0, RELATED_MAX).map((event) => (event.id === item.event.id ? item : fetchedItem(event)));
      related = { before: before && fetchedItem(before), after: after && fetchedItem(after), cycle: items };
    } catch {
      related = "unknown";
    }
    if (this.#fetched?.of !== item) return;
    this.#fetched = { of: item, related };
    this.#render();
  }

  /** The events of its cycle that are held; of its own run, since numbers begin again with each. */
  #ofCycle({ cycle, by }: Event): EventItem[] {
    const run = by?.slice(0, by.lastIndexOf(":"));
    const found: EventItem[] = [];
    for (const item of this.#held.from(0)) {
      if (item.kind !== "event" || item.event.cycle !== cycle) continue;
      if (run !== undefined && item.event.by?.slice(0, item.event.by.lastIndexOf(":")) !== run) continue;
      if (found.push(item) >= RELATED_MAX) break;
    }
    return found;
  }

  #relatedRow(item: EventItem, open: EventItem): TemplateResult {
    const { seconds, millis } = eventTime(item.event.ts);
    const distance = Date.parse(item.event.ts) - Date.parse(open.event.ts);
    const away = Number.isNaN(distance) ? "" : `${distance < 0 ? "−" : "+"}${span(Math.abs(distance))}`;
    return html`<li>
      <button type="button" data-family=${item.family} aria-current=${item === open ? "true" : nothing} @click=${() => this.#events.onOpen(item)}>
        <span class="time" title=${seconds + millis}>${item === open ? "this" : away}</span>
        <span class="type">${shown(item.event.type, 60)}</span>
        <span class="digest">${printable(digest(item.event))}</span>
      </button>
    </li>`;
  }
}
