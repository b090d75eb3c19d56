// The controls: what is shown, and whether it moves.
import { byId, setText } from "./element.ts";
import { FilterError, type Matches, parseFilter } from "./filter.ts";
import type { Mode } from "./view.ts";

export interface ToolEvents {
  readonly onFilter: (matches: Matches) => void;
  readonly onPause: () => void;
}

export class Tools {
  readonly #filter = byId<HTMLInputElement>("filter");
  readonly #note = byId("filter-note");
  readonly #pause = byId<HTMLButtonElement>("pause");
  readonly #events: ToolEvents;
  #problem = "";

  constructor(events: ToolEvents) {
    this.#events = events;
    this.#filter.value = new URLSearchParams(location.search).get("types") ?? "";
    this.#filter.addEventListener("input", () => this.apply());
    this.#pause.addEventListener("click", events.onPause);
  }

  /** Reads the filter box; a filter that cannot be read changes nothing but the note beside it. */
  apply(): void {
    try {
      this.#events.onFilter(parseFilter(this.#filter.value));
      this.#problem = "";
      this.#remember();
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      this.#problem = error.message;
      setText(this.#note, this.#problem);
    }
    this.#filter.setAttribute("aria-invalid", String(this.#problem !== ""));
  }

  clear(): void {
    this.#filter.value = "";
    this.apply();
  }

  focusFilter(): void {
    this.#filter.focus();
    this.#filter.select();
  }

  show({ shown, held, mode }: { shown: number; held: number; mode: Mode }): void {
    const isFiltered = this.#filter.value.trim() !== "";
    const counts = `${shown.toLocaleString("en")} of ${held.toLocaleString("en")} match`;
    setText(this.#note, this.#problem || (isFiltered ? counts : ""));
    this.#pause.setAttribute("aria-pressed", String(mode === "paused"));
    setText(this.#pause, mode === "paused" ? "Resume" : "Pause");
  }

  /** In the address, so that a filtered page can be kept and passed on. */
  #remember(): void {
    const address = new URL(location.href);
    if (this.#filter.value.trim() === "") address.searchParams.delete("types");
    else address.searchParams.set("types", this.#filter.value);
    history.replaceState(null, "", address);
  }
}
