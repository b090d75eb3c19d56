// A text of the mind as the page shows it: its controls visible, and not longer than asked for.
import { printable } from "./printable.ts";

export function shown(text: string, charsMax = 400): string {
  return printable(text.length <= charsMax ? text : `${text.slice(0, charsMax - 1)}…`);
}
