// Single keys, only where they are not text and not a control's own.

export interface Key {
  /** As `KeyboardEvent.key` names it. */
  readonly key: string;
  readonly does: string;
  readonly action: () => void;
  /** Not told in the help: another name of the key before it. */
  readonly also?: boolean;
}

const NAMES: ReadonlyMap<string, string> = new Map([
  [" ", "Space"],
  ["ArrowDown", "↓"],
  ["ArrowUp", "↑"],
]);

/** How a key is written for people. */
export function keyName(key: string): string {
  return NAMES.get(key) ?? key;
}

/** `mayLetters` says whether letters alone do something. */
export function listenToKeys(keys: readonly Key[], mayLetters: () => boolean): void {
  const actions = new Map(keys.map(({ key, action }) => [key, action]));
  document.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.metaKey || press.altKey || press.isComposing) return;
    const target = press.target as Element;
    if (target.closest("dialog")) return;
    if (target.closest("input:not([type=range]), select, textarea, [contenteditable]")) {
      if (press.key === "Escape") (target as HTMLElement).blur();
      return;
    }
    if ((press.key === " " || press.key === "Enter") && target.closest("button, a, summary")) return;
    if (press.key.length === 1 && press.key !== " " && !mayLetters()) return;
    const isOwn = press.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown", " "].includes(press.key);
    // What scrolls by itself goes on doing so.
    if (isOwn && press.key !== " " && target.closest("input, pre, .scrolls, [role=tabpanel], [role=tablist]")) return;
    const action = actions.get(press.key);
    if (action === undefined) return;
    press.preventDefault();
    action();
  });
}
