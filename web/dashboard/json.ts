// A value as JSON that people can read, cut into pieces that can be coloured. Pure.
import { printable } from "./printable.ts";

export interface Piece {
  readonly text: string;
  readonly kind: "key" | "text" | "number" | "word" | "mark";
}

// A text with the colon that makes it a key, a number, a word, or what lies between.
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)|([^"\d\-tfn]+|.)/gsu;

/** Each piece is an element of the page: of a large value the rest stands without colours. */
const PIECES_MAX = 400;

export function jsonPieces(value: unknown): { readonly pieces: readonly Piece[]; readonly rest: string } {
  const pieces: Piece[] = [];
  const source = JSON.stringify(value, null, 2) ?? "null";
  for (const { 0: whole, 1: text, 2: colon, 3: number, 4: word, index } of source.matchAll(TOKEN)) {
    if (pieces.length >= PIECES_MAX) return { pieces, rest: source.slice(index) };
    if (text !== undefined) {
      pieces.push({ text: printable(text), kind: colon === undefined ? "text" : "key" });
      if (colon !== undefined) pieces.push({ text: colon, kind: "mark" });
    } else if (number !== undefined) pieces.push({ text: number, kind: "number" });
    else if (word !== undefined) pieces.push({ text: word, kind: "word" });
    // Line breaks outside of texts are our own indentation.
    else pieces.push({ text: whole, kind: "mark" });
  }
  return { pieces, rest: "" };
}
