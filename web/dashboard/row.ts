// One row of the list. Made once and used again for other items as the list moves.
import { digest } from "./digest.ts";
import { element, setText } from "./element.ts";
import { gapText } from "./gap.ts";
import type { EventItem, Item } from "./held.ts";
import { printable } from "./printable.ts";
import { eventTime } from "./time.ts";

const TYPE_CHARS_MAX = 80;

export class Row {
  readonly root = element("div", "row");
  item: Item | null = null;
  readonly #seconds = element("span", "");
  readonly #millis = element("span", "millis");
  readonly #type = element("span", "type");
  readonly #digest = element("span", "digest");
  readonly #cycle = element("span", "cycle");

  constructor(id: string) {
    this.root.id = id;
    this.root.setAttribute("role", "row");
    const time = element("span", "time");
    time.append(this.#seconds, this.#millis);
    for (const cell of [time, this.#type, this.#digest, this.#cycle]) cell.setAttribute("role", "gridcell");
    this.root.append(time, this.#type, this.#digest, this.#cycle);
  }

  show(item: Item, index: number, { topPx, selected }: { topPx: number; selected: boolean }): void {
    this.root.style.transform = `translateY(${topPx}px)`;
    this.root.setAttribute("aria-rowindex", String(index + 1));
    this.root.setAttribute("aria-selected", String(selected));
    if (this.item === item) return;
    this.item = item;
    if (item.kind === "event") this.#showEvent(item);
    else this.#fill({ family: "gap", time: "", millis: "", type: "gap", digest: gapText(item.gap), cycle: "" });
  }

  #showEvent({ event, family }: EventItem): void {
    const type = printable(event.type.slice(0, TYPE_CHARS_MAX));
    const { seconds, millis } = eventTime(event.ts);
    this.#fill({
      family,
      time: printable(seconds),
      millis,
      type,
      digest: printable(digest(event)),
      cycle: event.cycle === 0 ? "" : printable(String(event.cycle)).slice(0, 12),
    });
  }

  #fill(texts: Record<"family" | "time" | "millis" | "type" | "digest" | "cycle", string>): void {
    this.root.dataset["family"] = texts.family;
    this.root.dataset["type"] = texts.type;
    setText(this.#seconds, texts.time);
    setText(this.#millis, texts.millis);
    setText(this.#type, texts.type);
    setText(this.#digest, texts.digest);
    setText(this.#cycle, texts.cycle);
  }
}
