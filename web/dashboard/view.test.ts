// What is held, and what of it is shown.
import assert from "node:assert/strict";
import { test } from "node:test";

import { FilterError, parseFilter } from "./filter.ts";
import { Held } from "./held.ts";
import { View } from "./view.ts";

const MAX = 10;

function filled(count: number, types: readonly string[] = ["a"]): Held {
  const held = new Held(MAX);
  add(held, count, types);
  return held;
}

function add(held: Held, count: number, types: readonly string[] = ["a"]): void {
  for (let i = 0; i < count; i += 1) {
    const type = types[held.end % types.length] as string;
    held.addEvent({ type, ts: "", cycle: 0, day: 0, data: {}, id: `${held.end}-0` });
  }
}

const seqs = (view: View): number[] => view.items.map((item) => item.seq);

test("a ring keeps the newest, in order", () => {
  const held = filled(13);

  assert.deepEqual(
    [...held.from(0)].map((item) => item.seq),
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
  );
  assert.deepEqual([held.start, held.end, held.length], [3, 13, 10]);
});

test("a following view takes in what arrives and lets go of what is no longer held", () => {
  const held = filled(8);
  const view = new View(held);
  view.sync();
  add(held, 4);
  view.sync();

  assert.deepEqual(seqs(view), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.equal(view.offset, 2);
});

test("a filtered view lets go of what is no longer held, too", () => {
  const held = filled(4, ["a", "b"]);
  const view = new View(held);
  view.setFilter(parseFilter("b"));
  add(held, 10, ["a"]);
  view.sync();

  assert.deepEqual(seqs(view), []);
});

test("a frozen view stays as it is and counts what waits", () => {
  const held = filled(3);
  const view = new View(held);
  view.freeze("away");
  for (const count of [9, 9]) {
    add(held, count);
    view.sync();
  }

  assert.deepEqual(seqs(view), [0, 1, 2]);
  assert.equal(view.fresh, 18);
});

test("what waits is counted through the filter", () => {
  const held = filled(2, ["a", "b"]);
  const view = new View(held);
  view.setFilter(parseFilter("b"));
  view.freeze("paused");
  add(held, 6, ["a", "b"]);
  view.sync();

  assert.equal(view.fresh, 3);
});

test("another filter on a frozen view shows nothing of what came since", () => {
  const held = filled(4, ["a", "b"]);
  const view = new View(held);
  view.freeze("paused");
  add(held, 4, ["a", "b"]);
  view.setFilter(parseFilter("b"));

  assert.deepEqual([seqs(view), view.fresh], [[1, 3], 2]);
  view.follow();
  assert.deepEqual([seqs(view), view.fresh], [[1, 3, 5, 7], 0]);
});

test("what is held is bounded in bytes, too, whatever stands in it", () => {
  const held = new Held(MAX, 4_000);
  for (const text of ["x".repeat(1_000), "дождь".repeat(100), { deep: ["x".repeat(1_000)] }]) {
    for (let i = 0; i < 9; i += 1) held.addEvent({ type: "a", ts: "", cycle: 0, day: 0, data: { text }, id: "1-0" });
    assert.ok(held.length >= 2 && held.length <= 3, String(held.length));
  }
  held.addEvent({ type: "a", ts: "", cycle: 0, day: 0, data: { text: "x".repeat(9_000) }, id: "1-0" });

  assert.equal(held.length, 1);
  assert.equal(held.counts.get("other"), 1);
  assert.equal([...held.from(0)].length, 1);
});

test("extending takes in what waits and tells how many rows went away before", () => {
  const held = filled(8);
  const view = new View(held);
  view.sync();
  view.freeze("away");
  add(held, 5);
  view.sync();

  assert.equal(view.extend(), 3);
  assert.deepEqual([view.mode, view.fresh, view.items.length], ["away", 0, 10]);
});

test("following again shows everything that is held", () => {
  const held = filled(3);
  const view = new View(held);
  view.freeze("paused");
  add(held, 2);
  view.follow();

  assert.deepEqual([view.mode, view.fresh, seqs(view)], ["following", 0, [0, 1, 2, 3, 4]]);
});

test("a gap passes every filter", () => {
  const held = filled(2);
  held.addGap({ after: "1-0", before: "9-0", lost: 7, reason: "slow" });
  const view = new View(held);
  view.setFilter(parseFilter("nothing.like.it"));

  assert.deepEqual(
    view.items.map((item) => item.kind),
    ["gap"],
  );
});

test("a filter that is none is named", () => {
  for (const text of ["st**", "*.a", "-", "--a", "a,-*x", "x".repeat(257)]) {
    assert.throws(() => parseFilter(text), FilterError, text);
  }
  assert.throws(() => parseFilter(Array(65).fill("a").join()), FilterError);
});
