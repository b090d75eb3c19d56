// Which kinds of events are shown: a chip for each kind that is there, with how many are held.
import { html, nothing, render } from "lit/html.js";

import { byId } from "./element.ts";
import { FAMILIES, type Family, MEANINGS, NAMES } from "./family.ts";

const IN_ORDER: readonly Family[] = ["error", ...FAMILIES.filter((each) => each !== "error")];

export class Chips {
  /** Only these are shown; all where it is empty. */
  readonly chosen = new Set<Family>();
  /** These are not. */
  readonly excluded = new Set<Family>();
  readonly #root = byId("chips");
  readonly #changed: () => void;
  #counts: ReadonlyMap<Family, number> = new Map();

  constructor(changed: () => void) {
    this.#changed = changed;
    this.read(new URLSearchParams(location.search).get("show") ?? "");
  }

  /** As it stands in the address: `sense,-state`. */
  read(text: string): void {
    this.chosen.clear();
    this.excluded.clear();
    for (const part of text.split(",")) {
      const name = part.replace(/^-/, "") as Family;
      if (FAMILIES.includes(name)) (part.startsWith("-") ? this.excluded : this.chosen).add(name);
    }
  }

  get text(): string {
    return [...this.chosen, ...[...this.excluded].map((family) => `-${family}`)].join(",");
  }

  passes(family: Family): boolean {
    return !this.excluded.has(family) && (this.chosen.size === 0 || this.chosen.has(family));
  }

  clear(): void {
    this.chosen.clear();
    this.excluded.clear();
    this.#change();
  }

  show(counts: ReadonlyMap<Family, number>): void {
    this.#counts = counts;
    // What went wrong is first, since a narrow page has no room for all.
    const there = IN_ORDER.filter((each) => (counts.get(each) ?? 0) > 0 || this.chosen.has(each) || this.excluded.has(each));
    const isAny = this.chosen.size + this.excluded.size > 0;
    render(
      html`${there.map((family) => this.#chip(family, counts.get(family) ?? 0))}
      ${isAny ? html`<button type="button" class="quiet-button" @click=${() => this.clear()}>All</button>` : nothing}`,
      this.#root,
    );
  }

  #chip(family: Family, count: number) {
    const isOut = this.excluded.has(family);
    const does = isOut ? "Left out; press to show it again" : "Show only these; with Alt: leave them out";
    const title = `${MEANINGS[family]}. ${does}`;
    return html`<button type="button" class="chip" data-family=${family} data-out=${isOut ? "" : nothing}
      aria-pressed=${String(this.chosen.has(family))} title=${title} @click=${(click: MouseEvent) => this.#press(family, click.altKey)}>
      <span class="name">${isOut ? html`<span class="unseen">not </span>` : nothing}${NAMES[family]}</span>
      <span class="count">${count.toLocaleString("en")}</span>
    </button>`;
  }

  #press(family: Family, exclude: boolean): void {
    const wasOut = this.excluded.delete(family);
    if (exclude && !wasOut) {
      this.chosen.delete(family);
      this.excluded.add(family);
    } else if (!wasOut && !this.chosen.delete(family)) {
      this.chosen.add(family);
    }
    this.#change();
  }

  #change(): void {
    this.show(this.#counts);
    this.#changed();
  }
}
