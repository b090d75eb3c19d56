// The controls: what is shown, and whether it moves.
import type { Event } from "../client/wire.ts";
import type { Cycle } from "../mind/cycle.ts";
import { Chips } from "./chips.ts";
import { byId, setText } from "./element.ts";
import { familyOf } from "./family.ts";
import { FilterError, type Matches, parseFilter, soleCycle, termFor } from "./filter.ts";
import type { Held } from "./held.ts";
import type { Mode } from "./view.ts";

export interface ToolEvents {
  /** `cycle` is the number of the only one that the filter asks for, or null. */
  readonly onFilter: (matches: Matches, cycle: number | null) => void;
  readonly onPause: () => void;
}

export class Tools {
  readonly #filter = byId<HTMLInputElement>("filter");
  readonly #note = byId("filter-note");
  readonly #pause = byId<HTMLButtonElement>("pause");
  readonly #chips = new Chips(() => this.apply());
  readonly #events: ToolEvents;
  #problem = "";

  constructor(events: ToolEvents) {
    this.#events = events;
    this.#filter.value = new URLSearchParams(location.search).get("q") ?? "";
    this.#filter.addEventListener("input", () => this.apply());
    this.#pause.addEventListener("click", events.onPause);
  }

  /** Reads the filter box; a filter that cannot be read changes nothing but the note beside it. */
  apply(): void {
    try {
      const matches = parseFilter(this.#filter.value);
      const passes = (event: Event): boolean => this.#chips.passes(familyOf(event.type)) && matches(event);
      this.#events.onFilter(passes, soleCycle(this.#filter.value));
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
    this.#chips.clear();
  }

  /** Adds a term; one that is there is not added again. */
  add(term: string): void {
    const text = this.#filter.value.trim();
    if (!` ${text} `.includes(` ${term} `)) this.#filter.value = `${text} ${term}`.trim();
    this.apply();
  }

  /** Puts a term in the place of what is there of this field. */
  setField(field: string, term: string): void {
    const others = this.#filter.value.replaceAll(new RegExp(`(^|\\s)${field}:\\S+`, "g"), "");
    this.replace(`${others} ${term}`.trim());
  }

  /** Puts a filter by a cycle in the place of what is there: of its own run, since numbers begin again with each. */
  showCycle({ number, run }: Cycle): void {
    this.replace(run === "" ? `cycle:${number}` : `cycle:${number} ${termFor("by", `${run}:`)}`);
  }

  replace(text: string): void {
    this.#filter.value = text;
    this.apply();
  }

  focusFilter(): void {
    this.#filter.focus();
    this.#filter.select();
  }

  show({ shown, held, mode }: { shown: number; held: Held; mode: Mode }): void {
    const counts = `${shown.toLocaleString("en")} of ${held.length.toLocaleString("en")} match`;
    setText(this.#note, this.#problem || (this.#isFiltered ? counts : ""));
    this.#pause.setAttribute("aria-pressed", String(mode === "paused"));
    setText(this.#pause, mode === "paused" ? "Resume" : "Pause");
    this.#chips.show(held.counts);
  }

  get #isFiltered(): boolean {
    return this.#filter.value.trim() !== "" || this.#chips.text !== "";
  }

  /** In the address, so that a filtered page can be kept and passed on. */
  #remember(): void {
    const address = new URL(location.href);
    for (const [name, value] of [["q", this.#filter.value.trim()], ["show", this.#chips.text]] as const) {
      if (value === "") address.searchParams.delete(name);
      else address.searchParams.set(name, value);
    }
    history.replaceState(null, "", address);
  }
}
