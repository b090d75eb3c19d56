// A value as JSON that people can read, cut into pieces that can be coloured. Pure.
import { printable } from "./printable.ts";

export interface Piece {
  readonly text: string;
  readonly kind: "key" | "text" | "number" | "word" | "mark";
}

// A text with the colon that makes it a key, a number, a word, or what lies between.
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)|([^"\d\-tfn]+|.)/gsu;

export function jsonPieces(value: unknown): Piece[] {
  const pieces: Piece[] = [];
  const source = JSON.stringify(value, null, 2) ?? "null";
  for (const [whole, text, colon, number, word] of source.matchAll(TOKEN)) {
    if (text !== undefined) {
      pieces.push({ text: printable(text), kind: colon === undefined ? "text" : "key" });
      if (colon !== undefined) pieces.push({ text: colon, kind: "mark" });
    } else if (number !== undefined) pieces.push({ text: number, kind: "number" });
    else if (word !== undefined) pieces.push({ text: word, kind: "word" });
    // Line breaks outside of texts are our own indentation.
    else pieces.push({ text: whole, kind: "mark" });
  }
  return pieces;
}
