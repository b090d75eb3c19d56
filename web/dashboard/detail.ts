// The pane that shows one item whole: its fields, its JSON, and what is related to it.
import { html, nothing, render, type TemplateResult } from "lit/html.js";
import { setStyle } from "./set-style.ts";

import type { Event } from "../client/wire.ts";
import { digest } from "./digest.ts";
import { byId } from "./element.ts";
import { fieldRows, isNameable } from "./fields.ts";
import { termFor } from "./filter.ts";
import { gapText } from "./gap.ts";
import type { EventItem, Held, Item } from "./held.ts";
import { jsonPieces } from "./json.ts";
import { linkTo } from "./links.ts";
import { printable } from "./printable.ts";
import { shown } from "./shown.ts";
import { eventTime, span } from "./time.ts";

const COPIED_MS = 1_500;
const RELATED_MAX = 200;
const TABS = ["Fields", "JSON", "Related"] as const;
type Tab = (typeof TABS)[number];

export interface DetailEvents {
  readonly onClose: () => void;
  readonly onOpen: (item: Item) => void;
  /** Add this term to the filter. */
  readonly onTerm: (term: string) => void;
  readonly onCycle: (event: Event) => void;
}

export class Detail {
  item: Item | null = null;
  #tab: Tab = "Fields";
  #said = "";
  readonly #root = byId("detail");
  #held: Held;
  readonly #events: DetailEvents;

  constructor(held: Held, events: DetailEvents) {
    this.#held = held;
    this.#events = events;
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
    this.#render();
    this.#root.querySelector(".detail-body")?.scrollTo(0, 0);
  }

  close(): void {
    this.item = null;
    this.#render();
  }

  /** The event, or the gap, as JSON. */
  copyJson(): void {
    if (this.item === null) return;
    void this.#copy(JSON.stringify(this.item.kind === "event" ? this.item.event : this.item.gap, null, 2), "JSON copied");
  }

  copyLink(): void {
    if (this.item?.kind !== "event") return;
    const address = new URL(location.href);
    address.hash = linkTo({ kind: "event", id: this.item.event.id });
    void this.#copy(address.href, "Link copied");
  }

  async #copy(text: string, done: string): Promise<void> {
    // Only a page that came over TLS or from this machine may write to the clipboard.
    const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
    this.#said = await written.then(() => done, () => "Copying is not allowed here");
    this.#render();
    setTimeout(() => {
      this.#said = "";
      this.#render();
    }, COPIED_MS);
  }

  #render(): void {
    this.#root.hidden = this.item === null;
    render(this.item === null ? nothing : this.#pane(this.item), this.#root);
  }

  #pane(item: Item): TemplateResult {
    const title = item.kind === "event" ? shown(item.event.type, 200) : "gap";
    return html`
      <div class="detail-head" data-family=${item.kind === "event" ? item.family : "gap"}>
        <h2 id="detail-title">${title}</h2>
        <span class="copied" id="detail-said" role="status">${this.#said}</span>
        <button type="button" class="quiet-button" id="detail-copy" title="Copy as JSON  c" @click=${() => this.copyJson()}>Copy</button>
        ${item.kind === "event"
          ? html`<button type="button" class="quiet-button" id="detail-link" title="Copy a link to it  y" @click=${() => this.copyLink()}>Link</button>`
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
      ${fact("time", time)}
      ${cycle === 0
        ? nothing
        : html`<div class="fact"><dt>cycle</dt><dd><button type="button" class="link" @click=${() => this.#events.onCycle(event)}>${shown(String(cycle), 20)}</button></dd></div>`}
      ${fact("day", day)} ${fact("n", n)} ${fact("id", id)} ${fact("by", by)}
    </dl>`;
  }

  #body(item: Item): unknown {
    const value = item.kind === "event" ? item.event.data : item.gap;
    if (this.#tab === "JSON") return this.#json(value);
    if (this.#tab === "Related" && item.kind === "event") return this.#related(item);
    return this.#fields(value);
  }

  #json(value: unknown): TemplateResult {
    const pieces = jsonPieces(value);
    return html`<pre id="detail-json" class="json">${pieces.map(({ text, kind }) => html`<span class="json-${kind}">${text}</span>`)}</pre>`;
  }

  #fields(value: unknown): TemplateResult {
    const { rows, more } = fieldRows(value);
    if (rows.length === 0) return html`<p class="none">No data.</p>`;
    return html`<ul class="fields">
        ${rows.map(
          ({ key, path, depth, value: text, size }) => html`<li style=${setStyle({ "--depth": String(depth) })}>
            <span class="key">${shown(key, 80)}</span>
            ${text === null ? html`<span class="size">${size} ${size === 1 ? "entry" : "entries"}</span>` : this.#value(text)}
            ${text === null || text === "" || !isNameable(path) || text.length > 120 ? nothing : this.#terms(path, text)}
          </li>`,
        )}
      </ul>
      ${more ? html`<p class="note">The rest is under JSON.</p>` : nothing}`;
  }

  #value(text: string): TemplateResult {
    if (!text.includes("\n")) return html`<span class="value">${printable(text)}</span>`;
    return html`<pre class="value" tabindex="0" aria-label="Text">${text.trimEnd().split("\n").map(printable).join("\n")}</pre>`;
  }

  #terms(path: string, text: string): TemplateResult {
    const value = text.replaceAll('"', "");
    return html`<span class="terms">
      <button type="button" class="icon-button" aria-label=${`Show only ${path} ${shown(value, 40)}`} title="Show only these" @click=${() => this.#events.onTerm(termFor(path, value))}>+</button>
      <button type="button" class="icon-button" aria-label=${`Leave out ${path} ${shown(value, 40)}`} title="Leave these out" @click=${() => this.#events.onTerm(termFor(path, value, true))}>−</button>
    </span>`;
  }

  #related(item: EventItem): TemplateResult {
    const { event, seq } = item;
    const isAlike = (other: Item): boolean => other.kind === "event" && other.event.type === event.type;
    const before = this.#held.findLast(isAlike, seq);
    const after = this.#held.findNext(isAlike, seq + 1);
    const cycle = event.cycle === 0 ? [] : this.#ofCycle(event);
    return html`<p class="siblings">
        <button type="button" ?disabled=${before === null} @click=${() => before !== null && this.#events.onOpen(before)}>‹ before of this type</button>
        <button type="button" ?disabled=${after === null} @click=${() => after !== null && this.#events.onOpen(after)}>next of this type ›</button>
      </p>
      ${event.cycle === 0 ? html`<p class="none">It happened outside of a cycle.</p>` : html`<h3>Cycle ${shown(String(event.cycle), 12)}</h3>`}
      <ol class="related">${cycle.map((each) => this.#relatedRow(each, item))}</ol>
      ${cycle.length >= RELATED_MAX ? html`<p class="note">The first ${RELATED_MAX}.</p>` : nothing}`;
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
