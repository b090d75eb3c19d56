// The bar at the top: state in words, rate, lag, counts, cycle and day.
import { byId, setText } from "./element.ts";
import type { Condition } from "./condition.ts";
import { errorCount } from "./errors-panel.ts";
import { printable } from "./printable.ts";
import type { Store } from "./store.ts";
import { span } from "./time.ts";

const VALUE_CHARS_MAX = 12;

export class Bar {
  readonly #state = byId("state");
  readonly #icon = byId<SVGUseElement>("state-icon");
  readonly #word = byId("state-word");
  readonly #detail = byId("state-detail");
  readonly #retry = byId<HTMLButtonElement>("retry");
  readonly #figures = byId("figures");
  readonly #rate = byId("rate");
  readonly #lag = byId("lag");
  readonly #seen = byId("seen");
  readonly #gaps = byId("gaps");
  readonly #errors = byId<HTMLButtonElement>("errors");
  readonly #cycle = byId("cycle");
  readonly #day = byId("day");

  constructor(on: { readonly onRetry: () => void; readonly onErrors: () => void }) {
    this.#retry.addEventListener("click", on.onRetry);
    this.#errors.addEventListener("click", on.onErrors);
  }

  showCondition({ kind, word, detail }: Condition): void {
    // Without a script nothing is on its way, and nothing says so.
    this.#state.hidden = false;
    if (this.#state.dataset["kind"] !== kind) {
      this.#state.dataset["kind"] = kind;
      this.#icon.setAttribute("href", `#icon-${kind}`);
    }
    setText(this.#word, word);
    setText(this.#detail, printable(detail));
    this.#retry.hidden = kind !== "bridge-down" && kind !== "ended" && kind !== "reconnecting";
    const title = `${word} · broadcast`;
    if (document.title !== title) document.title = title;
  }

  /** What was counted live, which is marked so while the past is shown; and the errors and the cycle of what is shown. */
  showCounts(store: Store, shownStore: Store, isPast: boolean): void {
    this.#figures.classList.toggle("past", isPast);
    setText(this.#seen, store.seen.toLocaleString("en"));
    setText(this.#gaps, gapsText(store));
    this.#gaps.classList.toggle("some", store.gaps > 0);
    const { errors, events } = shownStore.mind;
    // Before the first event nothing is known of any.
    const none = events === 0 ? "–" : "none";
    setText(this.#errors, errors.count === 0 ? none : errorCount(errors));
    this.#errors.classList.toggle("some", errors.count > 0);
    setText(this.#cycle, shown(shownStore.cycle));
    setText(this.#day, shown(shownStore.day));
  }

  showRate(store: Store, nowMs: number): void {
    setText(this.#rate, store.throughput.perSecond(nowMs).toLocaleString("en"));
    setText(this.#lag, store.lagMs === null ? "–" : span(store.lagMs));
  }
}

function gapsText({ gaps, lost }: Store): string {
  if (gaps === 0) return "none";
  return lost === 0 ? String(gaps) : `${gaps} (${lost.toLocaleString("en")} events)`;
}

function shown(value: unknown): string {
  return value === null || value === undefined ? "–" : printable(String(value)).slice(0, VALUE_CHARS_MAX);
}
