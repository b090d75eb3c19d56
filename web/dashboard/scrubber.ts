// The log over time, to go to any place of it: a map with a slider on it, and the controls of a player.
import { html, nothing, render, type TemplateResult } from "lit/html.js";

import type { Event as LogEvent } from "../client/wire.ts";
import { columnsOf, lengthOf, moved, shareOf, type Span, timeAt, zoomed } from "../time/minimap.ts";
import { SPEEDS } from "../time/replay.ts";
import { byId } from "./element.ts";
import { drawing, LEGEND, type MapView, toldAt } from "./map.ts";
import type { Census, Past } from "./past.ts";
import type { Player } from "./player.ts";
import { setStyle } from "./set-style.ts";
import { clockTime, span } from "./time.ts";

const STEPS = 10_000;
/** A pointer may stand at any of them; a key moves by so many, so that it is seen. */
const KEY_STEPS = 100;
const KEYS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
const ZOOM = 4;
/** So many cycles can be told apart. */
const STARTS_MAX = 100;
/** A view is looked at more closely when it has stood so long. */
const SETTLED_MS = 250;
/** While the mind lives on, the map is asked for again so often. */
const REFRESH_MS = 10_000;

/** A part of the log, looked at more closely. */
interface Near {
  readonly view: Span;
  readonly census: Census;
  readonly starts: readonly LogEvent[];
}

export interface ScrubberEvents {
  readonly onLive: () => void;
  readonly onClose: () => void;
  /** It is open now, or is not any more. */
  readonly onToggle: () => void;
}

export class Scrubber {
  readonly #root = byId("timeline");
  readonly #past: Past;
  readonly #player: Player;
  readonly #on: ScrubberEvents;
  #census: Census | null = null;
  #askedMs = 0;
  #near: Near | null = null;
  #settling: ReturnType<typeof setTimeout> | undefined;
  #view: Span = { fromMs: 0, toMs: 1 };
  #said = "";
  /** Where the slider is while it is dragged. */
  #previewMs: number | null = null;
  /** Where one goes to or stands: the last event before it may lie far back. `eventMs` is that one's, undefined on the way. */
  #sought: { readonly atMs: number; readonly eventMs: number | null | undefined } | null = null;
  /** Where the pointer is over the map. */
  #hoverMs: number | null = null;

  constructor(past: Past, player: Player, on: ScrubberEvents) {
    this.#past = past;
    this.#player = player;
    this.#on = on;
  }

  get isOpen(): boolean {
    return !this.#root.hidden;
  }

  /** Asks how far the log reaches, and shows it. */
  async open(): Promise<void> {
    this.#root.hidden = false;
    this.#on.onToggle();
    this.say("Looking how far the log reaches…");
    const onWait = (why: string): void => this.say(`The past cannot be read now: ${why}. It is tried again.`);
    try {
      const census = await this.#past.insist(() => this.#past.census(), { isWanted: () => this.isOpen, onWait });
      if (census === undefined) return;
      if (census !== null) this.#take(census, census.extent);
      this.say(census === null ? "The log is empty." : "");
    } catch (error) {
      this.say(`The past cannot be read: ${(error as Error).message}.`);
    }
  }

  close(): void {
    this.#root.hidden = true;
    this.#on.onToggle();
  }

  /** The mind lives on: so the map does. */
  extend(lastMs: number | null): void {
    const census = this.#census;
    if (!this.isOpen || census === null || lastMs === null || lastMs <= census.extent.toMs) return;
    const extent = { ...census.extent, toMs: lastMs };
    const isWhole = lengthOf(this.#view) >= lengthOf(census.extent);
    this.#census = { ...census, extent };
    if (isWhole) this.#view = extent;
    if (Date.now() - this.#askedMs > REFRESH_MS) void this.#refresh();
  }

  /** What hinders, as a sentence; empty where nothing does. */
  say(sentence: string): void {
    if (this.#said === sentence) return;
    this.#said = sentence;
    this.show();
  }

  zoom(by: 1 | -1): void {
    if (this.#census === null) return;
    this.#lookAt(zoomed(this.#view, by > 0 ? 1 / ZOOM : ZOOM, this.#atMs, this.#census.extent));
  }

  show(): void {
    if (!this.isOpen) return;
    const census = this.#census;
    render(html`${this.#controls(census)} ${census === null ? nothing : this.#map(census)}`, this.#root);
    const slider = this.#root.querySelector<HTMLInputElement>("#scrub");
    // Not while it is being moved: it would be torn from the hand.
    if (slider !== null && this.#previewMs === null && !slider.matches(":active")) {
      slider.value = String(Math.round(shareOf(this.#view, this.#thumbMs) * STEPS));
    }
  }

  get #thumbMs(): number {
    const [sought, { replay }] = [this.#sought, this.#player];
    if (sought === null) return this.#atMs;
    const isThere = replay?.plays === false && replay.atMs === sought.eventMs;
    return isThere || sought.eventMs === undefined ? sought.atMs : this.#atMs;
  }

  get #atMs(): number {
    return this.#player.replay?.atMs ?? this.#census?.extent.toMs ?? 0;
  }

  #take(census: Census, view: Span): void {
    this.#askedMs = Date.now();
    this.#census = census;
    this.#lookAt(view);
  }

  async #refresh(): Promise<void> {
    this.#askedMs = Date.now();
    const census = await this.#past.census().catch(() => null);
    if (census === null || this.#census === null) return;
    this.#take(census, lengthOf(this.#view) >= lengthOf(this.#census.extent) ? census.extent : this.#view);
  }

  #lookAt(view: Span): void {
    this.#view = view;
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => void this.#lookNear(), SETTLED_MS);
    this.show();
  }

  /** Narrower buckets, and cycles one by one, where the view has few enough. */
  async #lookNear(): Promise<void> {
    const [whole, view] = [this.#census, this.#view];
    if (whole === null || !this.isOpen) return;
    const [column] = columnsOf(whole.buckets, whole.bucketMs, view, 1);
    const isPart = lengthOf(view) < lengthOf(whole.extent);
    const [census, starts] = await Promise.all([
      isPart ? this.#past.census(view).catch(() => null) : whole,
      (column?.cycles ?? 0) <= STARTS_MAX ? this.#past.cycleStarts(view, STARTS_MAX + 1).catch(() => []) : [],
    ]);
    // What cannot be had is seen from afar, as before.
    if (census === null) return;
    this.#near = { view, census, starts: starts.length > STARTS_MAX ? [] : starts };
    this.show();
  }

  /** What is drawn: from near by, where that was looked at. */
  #drawn(census: Census): MapView {
    const [view, near] = [this.#view, this.#near];
    // What has happened since the last look is seen with the next.
    const isNear = near !== null && near.view.fromMs <= view.fromMs && near.view.toMs >= view.toMs - 2 * REFRESH_MS;
    if (!isNear) return { census, view, starts: [] };
    const isNarrower = near.census.bucketMs < census.bucketMs && near.view.toMs >= view.toMs;
    return { census: isNarrower ? near.census : census, view, starts: near.starts };
  }

  #controls(census: Census | null): TemplateResult {
    const player = this.#player;
    const { replay } = player;
    const isPlaying = replay !== null && replay.status !== "paused";
    const cannotBack = (by: "event" | "cycle"): boolean => (replay === null ? census === null : !replay.canStepBack(by));
    const play = replay === null ? "Play this stretch from its beginning" : isPlaying ? "Pause the replay" : "Play from here";
    return html`<div class="player">
      <button type="button" id="live" aria-pressed=${String(replay === null)} @click=${this.#on.onLive}>Live</button>
      ${button("cycle-back", "Back one cycle", "to-start", () => void player.stepCycle(-1), cannotBack("cycle"))}
      ${button("step-back", "Back one event", "back", () => void player.step(-1), cannotBack("event"))}
      ${button("play", play, isPlaying ? "pause" : "play", () => this.#play(), census === null)}
      ${button("step-on", "On one event", "on", () => void player.step(1), replay === null)}
      ${button("cycle-on", "On one cycle", "to-end", () => void player.stepCycle(1), replay === null)}
      <label class="speed"><span class="unseen">Speed</span>
        <select id="speed" @change=${(event: Event) => player.setSpeed(Number((event.target as HTMLSelectElement).value))}>
          ${SPEEDS.map((speed) => html`<option value=${speed} ?selected=${speed === player.speed}>${speed}×</option>`)}
        </select></label>
      <span class="place" id="place">${this.#place(census)}</span>
      <span class="said">${this.#said}</span>
      ${replay === null && census !== null && this.#said === "" ? html`<span class="hint">Click the map to go there, or play it.</span>` : nothing}
      <span class="zoom">${census === null
        ? nothing
        : html`${button("zoom-out", "Zoom out", "minus", () => this.zoom(-1), lengthOf(this.#view) >= lengthOf(census.extent))}
            ${button("zoom-in", "Zoom in", "plus", () => this.zoom(1), false)}
            ${button("pan-back", "Earlier", "back", () => this.#pan(-1), this.#view.fromMs <= census.extent.fromMs)}
            ${button("pan-on", "Later", "on", () => this.#pan(1), this.#view.toMs >= census.extent.toMs)}`}
        <button type="button" class="quiet-button" id="past-close" title="Back to the present  t" @click=${this.#on.onClose}>Close</button></span>
    </div>`;
  }

  #play(): void {
    if (this.#player.replay === null) void this.#player.goTo(this.#view.fromMs, true);
    else this.#player.toggle();
  }

  #place(census: Census | null): string {
    const { replay } = this.#player;
    if (this.#previewMs !== null) return clockTime(this.#previewMs, Date.now());
    if (replay === null) return census === null ? "" : `${span(lengthOf(census.extent))} of log`;
    const at = replay.atMs === null ? "" : clockTime(replay.atMs, Date.now());
    const doing = { loading: "loading", playing: "", paused: "paused", ended: "at its end" }[replay.status];
    return [at, doing].filter((part) => part !== "").join(" · ");
  }

  #pan(by: 1 | -1): void {
    if (this.#census !== null) this.#lookAt(moved(this.#view, (by * lengthOf(this.#view)) / 2, this.#census.extent));
  }

  #map(census: Census): TemplateResult {
    const [drawn, now] = [this.#drawn(census), Date.now()];
    return html`<div class="map">
      ${drawing(drawn)}
      <input id="scrub" type="range" min="0" max=${STEPS} step="1" aria-label="Place in the log" aria-valuetext=${toldAt(drawn, this.#previewMs ?? this.#thumbMs, now)}
        @change=${(event: Event) => this.#scrubbed(shareAt(event), census.extent)} @input=${(event: Event) => this.#preview(event)}
        @keydown=${(event: KeyboardEvent) => this.#keyed(event, census.extent)}
        @pointermove=${(event: PointerEvent) => this.#hover(event)} @pointerleave=${() => this.#hover(null)}>
      ${this.#hoverMs === null ? nothing : tip(shareOf(this.#view, this.#hoverMs), toldAt(drawn, this.#hoverMs, now))}
      <span class="from">${clockTime(this.#view.fromMs, now)}</span>${LEGEND}<span class="to">${clockTime(this.#view.toMs, now)}</span>
    </div>`;
  }

  #hover(event: PointerEvent | null): void {
    const box = (event?.target as HTMLElement | undefined)?.getBoundingClientRect();
    const share = event == null || box === undefined ? null : (event.clientX - box.left) / box.width;
    this.#hoverMs = share === null ? null : timeAt(this.#view, Math.min(1, Math.max(0, share)));
    this.show();
  }

  #preview(event: Event): void {
    this.#previewMs = timeAt(this.#view, shareAt(event));
    this.show();
  }

  #keyed(press: KeyboardEvent, extent: Span): void {
    const by = KEYS[press.key];
    if (by === undefined || press.ctrlKey || press.metaKey || press.altKey) return;
    press.preventDefault();
    this.#scrubbed(Math.min(1, Math.max(0, shareAt(press) + (by * KEY_STEPS) / STEPS)), extent);
  }

  /** There one stands, or plays on where it was playing. */
  #scrubbed(share: number, extent: Span): void {
    this.#previewMs = null;
    // At the very end lies the present.
    if (share >= 1 && this.#view.toMs >= extent.toMs) this.#on.onLive();
    else void this.#goTo(timeAt(this.#view, share));
  }

  async #goTo(atMs: number): Promise<void> {
    const sought = { atMs, eventMs: undefined };
    this.#sought = sought;
    this.show();
    await this.#player.goTo(atMs, this.#player.replay?.plays ?? false);
    if (this.#sought !== sought) return;
    this.#sought = { atMs, eventMs: this.#player.replay?.atMs ?? null };
    this.show();
  }
}

function shareAt(event: Event): number {
  return Number((event.target as HTMLInputElement).value) / STEPS;
}

function button(id: string, label: string, sign: string, action: () => void, off: boolean): TemplateResult {
  return html`<button type="button" class="icon-button" id=${id} aria-label=${label} title=${label} ?disabled=${off} @click=${action}>
    <svg class="icon" aria-hidden="true"><use href=${`#icon-${sign}`}></use></svg></button>`;
}

/** Beside the pointer, and never over the edge. */
function tip(share: number, text: string): TemplateResult {
  const percent = `${(share * 100).toFixed(1)}%`;
  return html`<span class="tip" aria-hidden="true" style=${setStyle({ left: percent, transform: `translateX(-${percent})` })}>${text}</span>`;
}
