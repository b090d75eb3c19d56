// Styles of an element set one by one: what lit's own `styleMap` writes first is a style attribute, which the page's
// policy forbids.
import { type AttributePart, noChange } from "lit/html.js";
import { Directive, directive } from "lit/directive.js";

class SetStyle extends Directive {
  override render(_styles: Readonly<Record<string, string>>): unknown {
    return noChange;
  }

  override update(part: AttributePart, [styles]: [Readonly<Record<string, string>>]): unknown {
    const { style } = part.element as HTMLElement;
    for (const [name, value] of Object.entries(styles)) style.setProperty(name, value);
    return noChange;
  }
}

/** `style=${setStyle({ width: "40%" })}`; the same names every time. */
export const setStyle = directive(SetStyle as never) as (styles: Readonly<Record<string, string>>) => unknown;
