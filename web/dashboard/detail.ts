// The pane beside the list that shows one item whole.
import type { Event } from "../client/wire.ts";
import { byId, element, setText } from "./element.ts";
import { gapText } from "./gap.ts";
import type { Item } from "./held.ts";
import { jsonPieces } from "./json.ts";
import { printable } from "./printable.ts";

const COPIED_MS = 1_500;

export class Detail {
  readonly #root = byId("detail");
  readonly #title = byId("detail-title");
  readonly #facts = byId("detail-facts");
  readonly #json = byId("detail-json");
  readonly #copy = byId<HTMLButtonElement>("detail-copy");
  #item: Item | null = null;

  constructor(onClose: () => void) {
    byId("detail-close").addEventListener("click", onClose);
    this.#copy.addEventListener("click", () => void this.#copyJson());
    // Only a page that came over TLS or from this machine may write to the clipboard.
    this.#copy.hidden = navigator.clipboard === undefined;
  }

  get isOpen(): boolean {
    return !this.#root.hidden;
  }

  open(item: Item): void {
    this.#root.hidden = false;
    if (this.#item === item) return;
    this.#item = item;
    const isEvent = item.kind === "event";
    setText(this.#title, isEvent ? printable(item.event.type) : "gap");
    this.#facts.replaceChildren(...(isEvent ? facts(item.event) : [fact("what", gapText(item.gap))]));
    const pieces = jsonPieces(isEvent ? item.event.data : item.gap);
    this.#json.replaceChildren(...pieces.map(({ text, kind }) => element("span", `json-${kind}`, text)));
    this.#json.scrollTop = 0;
  }

  close(): void {
    this.#root.hidden = true;
    this.#item = null;
  }

  async #copyJson(): Promise<void> {
    if (this.#item === null) return;
    const whole = this.#item.kind === "event" ? this.#item.event : this.#item.gap;
    const done = await navigator.clipboard.writeText(JSON.stringify(whole, null, 2)).then(
      () => "Copied",
      () => "Not allowed",
    );
    setText(this.#copy, done);
    setTimeout(() => setText(this.#copy, "Copy"), COPIED_MS);
  }
}

function facts(event: Event): HTMLElement[] {
  const { ts, cycle, day, id, by, n } = event;
  const local = new Date(ts);
  const shown = Number.isNaN(local.getTime()) ? ts : `${local.toLocaleString("sv")}.${ts.slice(20, 23)}`;
  return Object.entries({ time: shown, cycle, day, id, by, n })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => fact(name, printable(String(value)).slice(0, 160)));
}

function fact(name: string, value: string): HTMLElement {
  const made = element("div", "fact");
  made.append(element("dt", "", name), element("dd", "", value));
  return made;
}
