// The chart of the last five minutes; a stretch of it that is drawn over with the pointer becomes a filter.
import { html, nothing, render, svg } from "lit/html.js";

import { BAR, chartLabel, HEIGHT, rangeTerm, stacks } from "./chart.ts";
import { byId, setText } from "./element.ts";
import { NAMES } from "./family.ts";
import type { Store } from "./store.ts";
import { SECONDS, sum } from "./throughput.ts";
import { clockTime } from "./time.ts";

/** Two columns, in any order: where the pointer came down, and where it is. */
type Stretch = readonly [number, number];

export class ChartPanel {
  readonly #root = byId("chart");
  readonly #since = byId("chart-since");
  readonly #store: Store;
  readonly #onTerm: (term: string) => void;
  /** The time of the last column's end, as it is drawn. */
  #nowMs = 0;
  /** What is drawn over: columns move on meanwhile, the times do not. */
  #stretch: Stretch | null = null;

  /** `onTerm` is given a term for the filter box. What a keyboard has instead is that box. */
  constructor(store: Store, onTerm: (term: string) => void) {
    this.#store = store;
    this.#onTerm = onTerm;
    this.#root.addEventListener("pointerdown", (event) => this.#begin(event));
    this.#root.addEventListener("pointermove", (event) => this.#move(event));
    this.#root.addEventListener("pointerup", () => this.#end());
    this.#root.addEventListener("pointercancel", () => this.#stop());
  }

  /** `nowMs` is this machine's clock. */
  show(nowMs: number): void {
    const endMs = Math.floor(nowMs / 1000) * 1000;
    if (endMs === this.#nowMs || this.#stretch !== null) return;
    this.#nowMs = endMs;
    this.#draw();
  }

  #draw(): void {
    const columns = this.#store.throughput.history(this.#nowMs);
    const most = Math.max(0, ...columns.map(sum));
    setText(this.#since, this.#beginning());
    render(
      html`<svg viewBox="0 0 ${SECONDS * BAR} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${chartLabel(columns)}>
          ${stacks(columns).map(({ family, path }) => svg`<path data-family=${family} d=${path}><title>${NAMES[family]}</title></path>`)}
          ${this.#stretch === null ? nothing : this.#brush(this.#stretch)}
        </svg>
        <span class="most">${most === 0 ? nothing : `peak ${most.toLocaleString("en")}/s`}</span>`,
      this.#root,
    );
  }

  /** Where the chart begins; or what it knows, where that is later: no bar is no silence there. */
  #beginning(): string {
    const { unknownBeforeMs } = this.#store;
    if (unknownBeforeMs === null || unknownBeforeMs <= this.#nowMs - SECONDS * 1000) return `${SECONDS / 60} min ago`;
    return `not held before ${clockTime(unknownBeforeMs, this.#nowMs)}`;
  }

  #brush([one, other]: Stretch) {
    const width = (Math.abs(one - other) + 1) * BAR;
    return svg`<rect x=${Math.min(one, other) * BAR} width=${width} height=${HEIGHT} fill="currentColor" fill-opacity=".25"></rect>`;
  }

  #begin(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.#root.setPointerCapture(event.pointerId);
    const column = this.#column(event);
    this.#stretch = [column, column];
    this.#draw();
  }

  #move(event: PointerEvent): void {
    if (this.#stretch === null) return;
    this.#stretch = [this.#stretch[0], this.#column(event)];
    this.#draw();
  }

  #end(): void {
    if (this.#stretch === null) return;
    const [first, last] = [Math.min(...this.#stretch), Math.max(...this.#stretch)];
    // The mind's clock is the bridge's, or near it.
    const beginMs = this.#nowMs - SECONDS * 1000 + this.#store.clockOffsetMs;
    this.#stop();
    this.#onTerm(rangeTerm(beginMs + first * 1000, beginMs + (last + 1) * 1000));
  }

  #stop(): void {
    this.#stretch = null;
    this.#draw();
  }

  #column({ clientX }: PointerEvent): number {
    const { left, width } = this.#root.getBoundingClientRect();
    return Math.min(SECONDS - 1, Math.max(0, Math.floor(((clientX - left) / width) * SECONDS)));
  }
}
