// The log over time, to go to any place of it: a map with a slider on it, and the controls of a player.
import { html, nothing, render, svg, type TemplateResult } from "lit/html.js";

import { columnsOf, lengthOf, marksOf, moved, shareOf, type Span, timeAt, zoomed } from "../time/minimap.ts";
import { SPEEDS } from "../time/replay.ts";
import { BAR, HEIGHT, stacks } from "./chart.ts";
import { byId } from "./element.ts";
import type { Census, Past } from "./past.ts";
import type { Player } from "./player.ts";
import { clockTime, span } from "./time.ts";

const COLUMNS = 240;
const STEPS = 10_000;
const ZOOM = 4;

export class Scrubber {
  readonly #root = byId("timeline");
  readonly #past: Past;
  readonly #player: Player;
  readonly #onLive: () => void;
  #census: Census | null = null;
  #view: Span = { fromMs: 0, toMs: 1 };
  #said = "";
  /** Where the slider is while it is dragged. */
  #previewMs: number | null = null;

  constructor(past: Past, player: Player, onLive: () => void) {
    this.#past = past;
    this.#player = player;
    this.#onLive = onLive;
  }

  get isOpen(): boolean {
    return !this.#root.hidden;
  }

  /** Asks how far the log reaches, and shows it. */
  async open(): Promise<void> {
    this.#root.hidden = false;
    byId("throughput").hidden = true;
    this.say("Looking how far the log reaches…");
    try {
      this.#census = await this.#past.census();
      if (this.#census !== null) this.#view = this.#census.extent;
      this.say(this.#census === null ? "The log is empty." : "");
    } catch (error) {
      this.say(`The past cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  close(): void {
    this.#root.hidden = true;
    byId("throughput").hidden = false;
  }

  /** What hinders, as a sentence; empty where nothing does. */
  say(sentence: string): void {
    if (this.#said === sentence) return;
    this.#said = sentence;
    this.show();
  }

  zoom(by: 1 | -1): void {
    if (this.#census === null) return;
    this.#view = zoomed(this.#view, by > 0 ? 1 / ZOOM : ZOOM, this.#atMs, this.#census.extent);
    this.show();
  }

  show(): void {
    if (!this.isOpen) return;
    const census = this.#census;
    render(html`${this.#controls(census)} ${census === null ? nothing : this.#map(census)}`, this.#root);
    const slider = this.#root.querySelector<HTMLInputElement>("#scrub");
    // Not while it is being moved: it would be torn from the hand.
    if (slider !== null && this.#previewMs === null && !slider.matches(":active")) {
      slider.value = String(Math.round(shareOf(this.#view, this.#atMs) * STEPS));
    }
  }

  get #atMs(): number {
    return this.#player.replay?.atMs ?? this.#census?.extent.toMs ?? 0;
  }

  #controls(census: Census | null): TemplateResult {
    const player = this.#player;
    const { replay } = player;
    const isPlaying = replay !== null && replay.status !== "paused";
    const button = (id: string, label: string, sign: string, action: () => void, off = replay === null): TemplateResult =>
      html`<button type="button" class="icon-button" id=${id} aria-label=${label} title=${label} ?disabled=${off} @click=${action}>
        <svg class="icon" aria-hidden="true"><use href=${`#icon-${sign}`}></use></svg></button>`;
    return html`<div class="player">
      <button type="button" id="live" aria-pressed=${String(replay === null)} @click=${this.#onLive}>Live</button>
      ${button("cycle-back", "Back one cycle", "to-start", () => void player.stepCycle(-1), replay?.canStepBack("cycle") !== true)}
      ${button("step-back", "Back one event", "back", () => void player.step(-1), replay?.canStepBack("event") !== true)}
      ${button("play", isPlaying ? "Pause the replay" : "Play from here", isPlaying ? "pause" : "play", () => player.toggle())}
      ${button("step-on", "On one event", "on", () => void player.step(1))}
      ${button("cycle-on", "On one cycle", "to-end", () => void player.stepCycle(1))}
      <label class="speed"><span class="unseen">Speed</span>
        <select id="speed" @change=${(event: Event) => player.setSpeed(Number((event.target as HTMLSelectElement).value))}>
          ${SPEEDS.map((speed) => html`<option value=${speed} ?selected=${speed === player.speed}>${speed}×</option>`)}
        </select></label>
      <span class="place" id="place">${this.#place(census)}</span>
      <span class="said">${this.#said}</span>
      ${census === null
        ? nothing
        : html`<span class="zoom">${button("zoom-out", "Zoom out", "minus", () => this.zoom(-1), lengthOf(this.#view) >= lengthOf(census.extent))}
            ${button("zoom-in", "Zoom in", "plus", () => this.zoom(1), false)}
            ${button("pan-back", "Earlier", "back", () => this.#pan(-1), this.#view.fromMs <= census.extent.fromMs)}
            ${button("pan-on", "Later", "on", () => this.#pan(1), this.#view.toMs >= census.extent.toMs)}</span>`}
    </div>`;
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
    if (this.#census === null) return;
    this.#view = moved(this.#view, (by * lengthOf(this.#view)) / 2, this.#census.extent);
    this.show();
  }

  #map({ buckets, bucketMs, extent }: Census): TemplateResult {
    const columns = columnsOf(buckets, bucketMs, this.#view, COLUMNS);
    const marks = (type: string, y: number): string =>
      marksOf(type, buckets, bucketMs, this.#view, COLUMNS).map((i) => `M${i * BAR} ${y}h${BAR}v4h${-BAR}z`).join("");
    const total = Math.round(columns.reduce((sum, { cycles }) => sum + cycles, 0));
    const now = Date.now();
    return html`<div class="map">
      <svg viewBox="0 0 ${COLUMNS * BAR} ${HEIGHT + 10}" preserveAspectRatio="none" role="img" aria-label=${`About ${total} cycles in this stretch`}>
        <g transform="translate(0 10)">${stacks(columns.map(({ families }) => families), 0.1).map(({ family, path }) => svg`<path data-family=${family} d=${path} />`)}</g>
        <path data-family="state" d=${marks("state.pain", 0)} /><path data-family="error" d=${marks("error", 5)} />
      </svg>
      <input id="scrub" type="range" min="0" max=${STEPS} step="1" aria-label="Place in the log" aria-valuetext=${clockTime(this.#atMs, now)}
        @change=${(event: Event) => this.#scrubbed(event, extent)} @input=${(event: Event) => this.#preview(event)}>
      <span class="from">${clockTime(this.#view.fromMs, now)}</span><span class="to">${clockTime(this.#view.toMs, now)}</span>
    </div>`;
  }

  #preview(event: Event): void {
    this.#previewMs = timeAt(this.#view, Number((event.target as HTMLInputElement).value) / STEPS);
    this.show();
  }

  #scrubbed(event: Event, extent: Span): void {
    const share = Number((event.target as HTMLInputElement).value) / STEPS;
    this.#previewMs = null;
    const atMs = timeAt(this.#view, share);
    // At the very end lies the present.
    if (share >= 1 && this.#view.toMs >= extent.toMs) this.#onLive();
    else void this.#player.goTo(atMs, this.#player.replay?.status !== "paused");
  }
}
