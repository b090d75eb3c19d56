// The bar at the top: state in words, rate, counts, cycle and day.
import { byId, setText } from "./element.ts";
import type { Condition } from "./condition.ts";
import { printable } from "./printable.ts";
import { sparkLabel, sparkPath } from "./spark.ts";
import type { Store } from "./store.ts";

const VALUE_CHARS_MAX = 12;

export class Bar {
  readonly #state = byId("state");
  readonly #icon = byId<SVGUseElement>("state-icon");
  readonly #word = byId("state-word");
  readonly #detail = byId("state-detail");
  readonly #retry = byId<HTMLButtonElement>("retry");
  readonly #spark = byId<SVGPathElement>("spark-bars");
  readonly #rate = byId("rate");
  readonly #seen = byId("seen");
  readonly #gaps = byId("gaps");
  readonly #cycle = byId("cycle");
  readonly #day = byId("day");

  constructor(onRetry: () => void) {
    this.#retry.addEventListener("click", onRetry);
  }

  showCondition({ kind, word, detail }: Condition): void {
    this.#state.dataset["kind"] = kind;
    this.#icon.setAttribute("href", `#icon-${kind}`);
    setText(this.#word, word);
    setText(this.#detail, printable(detail));
    this.#retry.hidden = kind !== "bridge-down" && kind !== "ended";
    document.title = `${word} · broadcast`;
  }

  showCounts(store: Store): void {
    setText(this.#seen, store.seen.toLocaleString("en"));
    setText(this.#gaps, gapsText(store));
    this.#gaps.classList.toggle("some", store.gaps > 0);
    setText(this.#cycle, shown(store.cycle));
    setText(this.#day, shown(store.day));
  }

  showRate(store: Store, nowMs: number): void {
    const history = store.rate.history(nowMs);
    setText(this.#rate, store.rate.perSecond(nowMs).toLocaleString("en"));
    this.#spark.setAttribute("d", sparkPath(history));
    this.#spark.ownerSVGElement?.setAttribute("aria-label", sparkLabel(history));
  }
}

function gapsText({ gaps, lost }: Store): string {
  if (gaps === 0) return "none";
  return lost === 0 ? String(gaps) : `${gaps} (${lost.toLocaleString("en")} events)`;
}

function shown(value: unknown): string {
  return value === null || value === undefined ? "–" : printable(String(value)).slice(0, VALUE_CHARS_MAX);
}
