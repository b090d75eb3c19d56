// The data of an event as rows: lists of numbers in one, long lists cut where they stand.
import assert from "node:assert/strict";
import { test } from "node:test";

import { fieldRows } from "./fields.ts";

const lines = (data: unknown, open: ReadonlySet<string> = new Set()): string[] =>
  fieldRows(data, 100, open).rows.map(({ key, depth, value, size, hidden }) =>
    [`${" ".repeat(depth)}${key}`, value ?? (size === 0 ? "" : `(${size})`), hidden === null ? "" : `and ${hidden.count} more`].filter(Boolean).join(" "));

test("a list of numbers is one row", () => {
  assert.deepEqual(lines({ current: [399, 371, null, true], next: 1 }), ["current 399, 371, null, true", "next 1"]);
  assert.deepEqual(lines({ current: [] }), ["current (empty)"]);
  assert.deepEqual([[1], [1, 2]].map((list) => fieldRows({ list }, 100, new Set()).rows[0]?.path), ["list", ""]);
});

test("texts of a list have a row each, since each is a term for the filter", () => {
  const { rows } = fieldRows({ signal: { nodes: ["rain", "letter"] } }, 100, new Set());

  assert.deepEqual(lines({ signal: { nodes: ["rain", "letter"] } }), ["signal (1)", " nodes (2)", "  0 rain", "  1 letter"]);
  assert.deepEqual(rows.map(({ path }) => path), ["", "", "signal.nodes", "signal.nodes"]);
});

test("of a list longer than ten the rest is told in its place, and shown there where that is asked for", () => {
  const numbers = Array.from({ length: 300 }, (_, i) => i);
  const texts = numbers.map(String);
  const data = { numbers, texts, last: 1 };

  assert.deepEqual(lines(data), [
    "numbers 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 … and 290 more",
    "texts (300)", ...texts.slice(0, 10).map((text) => ` ${text} ${text}`), "  and 290 more",
    "last 1",
  ]);
  const [whole] = lines(data, new Set(["/numbers"]));
  assert.equal(whole, `numbers ${numbers.join(", ")}`);
  assert.equal(lines(data, new Set(["/texts"])).length, 100);
  assert.equal(lines({ texts: texts.slice(0, 10), last: 1 }).at(-1), "last 1");
});

test("lists of the same name in several places open one by one", () => {
  const long = Array.from({ length: 11 }, (_, i) => ({ i }));
  const data = { a: { list: long }, b: { list: long } };

  assert.deepEqual(lines(data, new Set(["/a/list"])).filter((line) => line.includes("more")), ["   and 1 more"]);
});

test("no more rows than asked for, and whether there are others", () => {
  const data = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`k${i}`, i]));

  assert.deepEqual([fieldRows(data, 4, new Set()).more, fieldRows(data, 5, new Set()).more], [true, false]);
  assert.equal(fieldRows(data, 4, new Set()).rows.length, 4);
});
