// Texts of a mind come from anywhere: what would move a cursor, reorder a line or break it is shown, not obeyed.
// The same characters as `broadcast.digest.printable` escapes; tests/golden/digests.json holds both to it.

// C0 and C1 controls and DEL, Arabic letter mark, directional marks, line and paragraph separators, embeddings and
// overrides, isolates, lone surrogates.
const UNPRINTABLE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;

const SHORT: ReadonlyMap<string, string> = new Map([
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\r", "\\r"],
]);

/** The text with its control and direction characters as visible escapes: `\n`, `\x1b`, `\u202e`. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => SHORT.get(character) ?? escaped(character));
}

function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16);
  return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`;
}
