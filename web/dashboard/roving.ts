// One tab stop for a row of many buttons: arrows move within it, as in a toolbar.

export class Roving {
  #at: number | null = null;

  /** The tab stop is where the focus was last, or else at the one that is shown. */
  tabindex(i: number, count: number, shown = 0): "0" | "-1" {
    return i === Math.min(this.#at ?? Math.max(0, shown), count - 1) ? "0" : "-1";
  }

  readonly moved = (press: KeyboardEvent): void => {
    const all = [...(press.currentTarget as Element).querySelectorAll("button")];
    const at = all.indexOf(press.target as HTMLButtonElement);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[press.key];
    if (next === undefined || at < 0) return;
    press.preventDefault();
    press.stopPropagation();
    this.#at = Math.max(0, Math.min(all.length - 1, next));
    all[this.#at]?.focus();
  };
}
