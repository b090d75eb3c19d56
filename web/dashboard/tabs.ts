// Where the page is too narrow for everything, one part is shown at a time; where it is wide, all are, and no tabs.
import { byId } from "./element.ts";

const PARTS = ["stream", "cycle", "mind"] as const;
export type Part = (typeof PARTS)[number];

export class Tabs {
  readonly #main = byId("main");

  constructor() {
    for (const part of PARTS) byId(`tab-${part}`).addEventListener("click", () => this.show(part));
    byId("tabs").addEventListener("keydown", (press) => this.#moved(press));
    this.show("stream");
  }

  show(part: Part): void {
    this.#main.dataset["part"] = part;
    for (const each of PARTS) {
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-pressed", String(each === part));
    }
  }

  #moved(press: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[press.key];
    const at = PARTS.findIndex((part) => byId(`tab-${part}`) === press.target);
    if (step === undefined || at < 0) return;
    const next = PARTS[(at + step + PARTS.length) % PARTS.length] as Part;
    this.show(next);
    byId(`tab-${next}`).focus();
  }
}
