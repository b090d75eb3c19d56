// The stream: the view, the list that shows it, what floats above it, and how the reader moves through it.
import type { Event } from "../client/wire.ts";
import { byId, setText } from "./element.ts";
import type { Matches } from "./filter.ts";
import type { Held, Item } from "./held.ts";
import { linkTo } from "./links.ts";
import { List } from "./list.ts";
import { View } from "./view.ts";

export class Stream {
  readonly view: View;
  #held: Held;
  readonly #list: List;
  readonly #fresh = byId<HTMLButtonElement>("fresh");
  readonly #empty = byId("empty");
  readonly #emptyCycle = byId<HTMLAnchorElement>("empty-cycle");
  /** The number of the only cycle that the filter asks for. */
  #cycle: number | null = null;
  readonly #changed: () => void;

  /** `changed` is called when the reader changed something that is to be rendered, `onOpen` when a row is opened. */
  constructor(held: Held, { changed, onOpen, onOlder }: { changed: () => void; onOpen: (item: Item) => void; onOlder: () => void }) {
    this.view = new View(held);
    this.#held = held;
    this.#changed = changed;
    const scroller = byId("list");
    this.#list = new List(scroller, {
      onScroll: (atEnd) => this.#scrolled(atEnd),
      onOpen: (item) => {
        // What is read must not be carried away.
        this.#leave();
        onOpen(item);
      },
      onLead: onOlder,
    });
    // Before the scroll event of it, which a list that follows every frame would undo.
    scroller.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    this.#fresh.addEventListener("click", () => this.follow());
  }

  /** Shows what is held elsewhere. */
  show(held: Held): void {
    this.#held = held;
    this.view.show(held);
    this.#changed();
  }

  get selected(): Item | null {
    return this.#list.selected;
  }

  /** Selects an item and brings it into sight, if the list shows it. */
  select(item: Item): void {
    this.#leave();
    this.#focus();
    this.#list.select(item);
    this.#changed();
  }

  /** `cycle` is the only one that it asks for, or null. */
  setFilter(matches: Matches, cycle: number | null): void {
    this.#cycle = cycle;
    this.view.setFilter(matches);
    if (this.view.mode === "away") this.view.follow();
    this.#changed();
  }

  togglePause(): void {
    if (this.view.mode === "paused") this.view.follow();
    else this.view.freeze("paused");
    this.#changed();
  }

  follow(): void {
    this.#focus();
    this.view.follow();
    this.#changed();
  }

  /** Moves the selection by rows; what is selected then. */
  move(rows: number): Item | null {
    if (rows < 0) this.#leave();
    this.#focus();
    const item = this.#list.move(rows);
    this.#changed();
    return item;
  }

  /** To the next error or the one before; behind the last comes the first again. Null where there is none. */
  toError(direction: 1 | -1): Item | null {
    const from = this.selected?.seq ?? this.#held.end;
    const isError = (item: Item): boolean => item.kind === "event" && item.family === "error";
    const found =
      direction < 0
        ? (this.#held.findLast(isError, from) ?? this.#held.findLast(isError))
        : (this.#held.findNext(isError, from + 1) ?? this.#held.findNext(isError, 0));
    if (found !== null) this.select(found);
    return found;
  }

  /** The oldest event that is held, where the log has older ones; null where it has none. */
  get edge(): Event | null {
    const first = this.#held.findNext(({ kind }) => kind === "event", 0);
    if (first?.kind !== "event") return null;
    return this.#held.start > 0 || (first.event.n ?? 1) > 1 ? first.event : null;
  }

  /** `isConnected` says whether what is not there would have been told. */
  render(isConnected: boolean): void {
    this.view.sync();
    this.#list.setLead(this.edge === null ? "" : leadText(this.#held));
    const { items, offset, mode, fresh } = this.view;
    this.#list.render(items, { offset, follow: mode === "following" });
    this.#fresh.hidden = mode === "following" || fresh === 0;
    if (!this.#fresh.hidden) setText(this.#fresh, freshText(fresh, this.#held.length));
    this.#renderEmpty(items, isConnected);
  }

  #renderEmpty(items: readonly Item[], isConnected: boolean): void {
    this.#empty.hidden = items.length > 0;
    if (this.#empty.hidden) return;
    const held = this.#held.length;
    const waiting = held === 0;
    const nothing = isConnected ? "Waiting for the first event" : "Not connected: nothing can be shown";
    setText(byId("empty-title"), waiting ? nothing : `0 of ${held.toLocaleString("en")} match`);
    byId("empty-hint").hidden = !waiting || !isConnected;
    byId("empty-code").hidden = !waiting || !isConnected;
    byId("empty-clear").hidden = waiting;
    this.#offerCycle(waiting ? null : this.#cycle);
  }

  /** A cycle of which nothing is held may be in the log. */
  #offerCycle(cycle: number | null): void {
    const isHeld = (item: Item): boolean => item.kind === "event" && item.event.cycle === cycle;
    this.#emptyCycle.hidden = cycle === null || this.#held.findLast(isHeld) !== null;
    if (this.#emptyCycle.hidden) return;
    this.#emptyCycle.href = linkTo({ kind: "cycle", id: String(cycle) });
    setText(this.#emptyCycle, `Cycle ${cycle} is not held here: open it`);
  }

  /** Keys act on the list from here on, and not on what was pressed before. */
  #focus(): void {
    byId("list").focus({ preventScroll: true });
  }

  #scrolled(atEnd: boolean): void {
    if (!atEnd) this.#leave();
    else if (this.view.mode === "away") this.#arriveAtEnd();
    this.#changed();
  }

  #arriveAtEnd(): void {
    // What fits in one page may be jumped over; more than that is put in line, to be read on without a jump.
    if (this.view.fresh <= this.#list.rowsInSight) this.view.follow();
    else this.#list.shift(this.view.extend());
  }

  #leave(): void {
    if (this.view.mode !== "following" || !this.#list.scrolls) return;
    this.view.freeze("away");
    this.#changed();
  }
}

function freshText(fresh: number, held: number): string {
  // No more than are held can be shown.
  const those = fresh <= held ? "" : `the last ${held.toLocaleString("en")} of `;
  return `${those}${fresh.toLocaleString("en")} new ↓`;
}

/** Where what is held ends, and what lies before it. */
function leadText(held: Held): string {
  const newest = held.findLast(({ kind }) => kind === "event");
  const n = newest?.kind === "event" ? newest.event.n : undefined;
  const last = `The last ${held.length.toLocaleString("en")}`;
  return `${n === undefined ? last : `${last} of ${n.toLocaleString("en")}`}; older: Past`;
}
