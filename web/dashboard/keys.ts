// Single keys, only where they are not text and not a button's own.

export interface Keys {
  /** By the name of `KeyboardEvent.key`. */
  readonly [key: string]: () => void;
}

export function listenToKeys(keys: Keys): void {
  document.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.metaKey || press.altKey || press.isComposing) return;
    const target = press.target as Element;
    if (target.closest("input, textarea, [contenteditable]")) {
      if (press.key === "Escape") (target as HTMLElement).blur();
      return;
    }
    if ((press.key === " " || press.key === "Enter") && target.closest("button, a, summary")) return;
    const action = keys[press.key];
    if (action === undefined) return;
    press.preventDefault();
    action();
  });
}
