// The list of rows: only those in sight are in the document, whatever the number of items.
import { element, setText } from "./element.ts";
import type { Item } from "./held.ts";
import { Row } from "./row.ts";

// Rows beyond the edges, so that a fast flick shows rows and not emptiness.
const OVERSCAN = 8;
const ROWS_MAX = 200;

export interface ListEvents {
  /** The reader moved the list; `atEnd` if the newest row is in sight. */
  readonly onScroll: (atEnd: boolean) => void;
  readonly onOpen: (item: Item) => void;
  /** What stands before the first row was pressed. */
  readonly onLead: () => void;
}

export class List {
  /** The row that arrows move and Enter opens. */
  selected: Item | null = null;
  readonly #scroller: HTMLElement;
  readonly #canvas = element("div", "canvas");
  readonly #events: ListEvents;
  #rows: Row[] = [];
  #rowPx = 28;
  #heightPx = 0;
  /** The height of what stands before the first row. */
  #leadPx = 0;
  readonly #lead = element("div", "lead");
  readonly #leadButton = element("button", "link") as HTMLButtonElement;
  #items: readonly Item[] = [];
  #offset = 0;

  constructor(scroller: HTMLElement, events: ListEvents) {
    this.#scroller = scroller;
    this.#events = events;
    this.#canvas.setAttribute("role", "presentation");
    this.#leadButton.type = "button";
    this.#leadButton.addEventListener("click", events.onLead);
    const cell = element("span", "");
    cell.setAttribute("role", "gridcell");
    cell.append(this.#leadButton);
    this.#lead.setAttribute("role", "row");
    this.#lead.hidden = true;
    this.#lead.append(cell);
    this.#canvas.append(this.#lead);
    scroller.append(this.#canvas);
    scroller.addEventListener("scroll", () => events.onScroll(this.atEnd), { passive: true });
    scroller.addEventListener("click", (click) => this.#clicked(click));
    new ResizeObserver(() => this.#measure()).observe(scroller);
    this.#measure();
  }

  /** Whether the newest row is in sight, or nearly. */
  get atEnd(): boolean {
    return this.#scroller.scrollTop + this.#heightPx >= this.#wholePx - this.#rowPx;
  }

  /** Whether there is more than fits. */
  get scrolls(): boolean {
    return this.#wholePx > this.#heightPx;
  }

  get #wholePx(): number {
    return this.#leadPx + this.#items.length * this.#rowPx;
  }

  /** A line before the first row; none where the text is empty. */
  setLead(text: string): void {
    setText(this.#leadButton, text);
    this.#lead.hidden = text === "";
    const leadPx = text === "" ? 0 : this.#rowPx;
    // What is read stays where it is.
    const moved = leadPx - this.#leadPx;
    this.#leadPx = leadPx;
    if (moved !== 0 && this.#scroller.scrollTop > 0) this.#scroller.scrollTop += moved;
  }

  get rowsInSight(): number {
    return Math.ceil(this.#heightPx / this.#rowPx);
  }

  /** `offset` counts the items that have gone away before the first of `items`. */
  render(items: readonly Item[], { offset, follow }: { offset: number; follow: boolean }): void {
    this.#items = items;
    this.#offset = offset;
    this.#canvas.style.height = `${this.#wholePx}px`;
    this.#scroller.setAttribute("aria-rowcount", String(items.length));
    if (follow) this.#scroller.scrollTop = this.#wholePx;
    this.#renderRows();
  }

  /** Keeps the same rows in sight after `rows` went away before them. */
  shift(rows: number): void {
    if (rows > 0) this.#scroller.scrollTop -= rows * this.#rowPx;
  }

  /** Moves the selection; returns what is selected then. */
  move(rows: number): Item | null {
    const now = this.selected === null ? -1 : this.#items.indexOf(this.selected);
    const from = now < 0 ? this.#items.length : now;
    const index = Math.max(0, Math.min(this.#items.length - 1, from + rows));
    this.selected = this.#items[index] ?? null;
    this.#bringIntoSight(index);
    this.#renderRows();
    return this.selected;
  }

  select(item: Item): void {
    this.selected = item;
    const index = this.#items.indexOf(item);
    if (index >= 0) this.#bringIntoSight(index);
    this.#renderRows();
  }

  #renderRows(): void {
    const first = Math.max(0, Math.floor((this.#scroller.scrollTop - this.#leadPx) / this.#rowPx) - OVERSCAN);
    const last = Math.min(this.#items.length, first + this.#rows.length);
    const unused = new Set(this.#rows);
    this.#scroller.removeAttribute("aria-activedescendant");
    for (let index = first; index < last; index += 1) {
      // An item keeps its row while it is in sight, so that moving on by one row writes one row.
      const row = this.#rows[(index + this.#offset) % this.#rows.length] as Row;
      unused.delete(row);
      this.#renderRow(row, this.#items[index] as Item, index);
    }
    for (const row of unused) row.root.hidden = true;
  }

  #renderRow(row: Row, item: Item, index: number): void {
    const selected = item === this.selected;
    row.root.hidden = false;
    row.show(item, index, { topPx: this.#leadPx + index * this.#rowPx, selected });
    if (selected) this.#scroller.setAttribute("aria-activedescendant", row.root.id);
  }

  #isInSight(index: number): boolean {
    const below = this.#leadPx + index * this.#rowPx - this.#scroller.scrollTop;
    return below >= -this.#rowPx && below < this.#heightPx;
  }

  #bringIntoSight(index: number): void {
    const top = this.#leadPx + index * this.#rowPx;
    const { scrollTop } = this.#scroller;
    // With the first row comes what stands before it.
    if (index === 0) this.#scroller.scrollTop = 0;
    else if (top < scrollTop) this.#scroller.scrollTop = top;
    else if (top + this.#rowPx > scrollTop + this.#heightPx) {
      this.#scroller.scrollTop = top + this.#rowPx - this.#heightPx;
    }
  }

  #clicked(click: MouseEvent): void {
    const root = (click.target as Element).closest(".row");
    const row = this.#rows.find((candidate) => candidate.root === root);
    if (row?.item == null) return;
    this.selected = row.item;
    this.#renderRows();
    this.#events.onOpen(row.item);
  }

  #measure(): void {
    const wasAtEnd = this.atEnd;
    const selected = this.selected === null ? -1 : this.#items.indexOf(this.selected);
    const wasInSight = selected >= 0 && this.#isInSight(selected);
    this.#heightPx = this.#scroller.clientHeight;
    this.#rowPx = Number.parseFloat(getComputedStyle(this.#scroller).getPropertyValue("--row")) || 28;
    const count = Math.min(ROWS_MAX, this.rowsInSight + 2 * OVERSCAN + 1);
    if (count !== this.#rows.length) {
      this.#rows = Array.from({ length: count }, (_, i) => new Row(`row-${i}`));
      this.#canvas.replaceChildren(this.#lead, ...this.#rows.map((row) => row.root));
    }
    if (this.#leadPx > 0) this.#leadPx = this.#rowPx;
    this.render(this.#items, { offset: this.#offset, follow: wasAtEnd });
    // What was clicked stays in sight when the detail pane takes room.
    if (wasInSight) this.#bringIntoSight(selected);
  }
}
