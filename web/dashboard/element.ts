// The page's way to the DOM: elements that must be there, and new ones whose text is text.

export function byId<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found as Element as T;
}

export function element(tag: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

/** Sets the text only where it differs: an unchanged text costs no layout and no repeated announcement. */
export function setText(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}
